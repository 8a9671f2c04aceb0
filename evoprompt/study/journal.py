"""The journal: every evaluation, on disk as soon as it is known.

A file of frames, appended to and never rewritten: what a killed process leaves half written at the end is left out by
the next reader and overwritten by the next writer. `history.parquet` is made from it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evoprompt.errors import UserError
from evoprompt.surveys import DIMENSIONS
from evoprompt.typing import Doubles, Floats

__all__ = ["ASK", "COLUMNS", "SKETCH", "TELL", "Journal", "as_history", "ask_row", "distance_sketches"]

NAME = b"evoprompt journal "
MAGIC = NAME + b"2\n"
FRAME = struct.Struct("<II")  # bytes of the rows, and their CRC-32
ASK, TELL = 0, 1
SKETCH = tuple(f"sketch_{part}" for part in range(8))
SKETCH_SEED = 0  # one projection for all runs
ROW = np.dtype(
    [
        ("event", "<i1"),
        ("generation", "<i8"),
        ("trial", "<i8"),  # of an ask: how many were asked for
        ("loss", "<f8"),
        ("dimensions", "<f8", (len(DIMENSIONS),)),
        ("invalid", "<f8"),
        ("seconds", "<f8"),
        ("elapsed", "<f8"),
        ("workers", "<i4"),
        ("utilisation", "<f8"),
        ("queue", "<i8"),
        ("worker", "<U32"),
        ("point", "<u4"),  # CRC-32 of the candidate
        ("sketch", "<f4", (len(SKETCH),)),  # of the candidate, see `distance_sketches`
    ]
)
RESULT = ("evaluation", "generation", "trial", "loss", *DIMENSIONS, "invalid", "failed", *SKETCH)
COLUMNS = (*RESULT, "seconds", "worker", "elapsed", "workers", "utilisation", "queue")


class Journal:
    """Appends rows and reads them back.

    What cannot be written, because the disk is full for example, is kept and written with the next rows.

    Attributes
    ----------
    end
        Bytes of the file up to the end of its last whole frame.
    trouble
        Why the last write failed; None when everything is on disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trouble: OSError | None = None
        self._unsaved: list[bytes] = []
        self.rows: list[NDArray[Any]] = []
        self.ends: list[int] = []
        for rows, end in _frames(path):
            self.rows.append(rows)
            self.ends.append(end)
        self.end = self.ends[-1] if self.ends else 0

    def since(self, end: int) -> list[NDArray[Any]]:
        """The frames behind a place that was once the journal's end.

        Raises
        ------
        UserError
            The file is shorter than that: something was taken from it.
        """
        if end > self.end:
            raise UserError(
                f"{self.path} holds {self.end} readable bytes, the run's checkpoint knows of {end}; "
                "the run cannot be continued without them"
            )
        return [rows for rows, place in zip(self.rows, self.ends, strict=True) if place > end]

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows of dtype `ROW`: kept at once, and on disk at once where that is possible."""
        payload = rows.tobytes()
        self.rows.append(rows)
        self._unsaved.append(FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
        self.write()

    def write(self) -> None:
        """Try to bring to disk what is not there yet."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if not self.end:
                    _write_at(descriptor, MAGIC, 0)
                    self.end = len(MAGIC)
                while self._unsaved:
                    _write_at(descriptor, self._unsaved[0], self.end)
                    self.end += len(self._unsaved.pop(0))
                    self.ends.append(self.end)
            finally:
                os.close(descriptor)
            self.trouble = None
        except OSError as error:
            self.trouble = error

    def sync(self) -> None:
        """Have the system bring the file to the disk itself, so that it survives a loss of power."""
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def told(self) -> NDArray[Any]:
        """The row of every evaluated trial, in order of arrival; of one that was evaluated again, the last."""
        rows = np.concatenate([np.empty(0, ROW), *self.rows])
        rows = rows[rows["event"] == TELL]
        last = len(rows) - 1 - np.unique(rows["trial"][::-1], return_index=True)[1]
        return rows[np.sort(last)]


def as_history(rows: NDArray[Any]) -> pd.DataFrame:
    """A row per evaluation with `COLUMNS`; `seconds` to `queue` tell how it was done, the rest is the result.

    `invalid` is the share of free-text answers that chose no option or several; NaN where nothing was said. `elapsed`
    counts the seconds of all searching; `workers`, `utilisation` (the share of the workers' time spent evaluating)
    and `queue` (candidates that nobody had begun) are as of when the result came. `sketch_0` to `sketch_7` are float32:
    squared distances between the sketches of two candidates estimate those between the candidates.
    """
    columns = {name: rows[name] for name in ROW.names or ()} | {"worker": rows["worker"].astype(object)}
    columns |= dict(zip(DIMENSIONS, rows["dimensions"].T, strict=True))
    columns |= dict(zip(SKETCH, rows["sketch"].T, strict=True))
    columns |= {"evaluation": np.arange(len(rows)), "failed": ~np.isfinite(rows["loss"])}
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


def distance_sketches(x: Floats) -> NDArray[np.float32]:
    """Gaussian projections (n, 8) of candidates (n, d).

    The squared distance between two sketches has the squared distance between the candidates as its mean (Johnson and
    Lindenstrauss, 1984), with a relative standard deviation of a half; sums over many pairs are much closer. A
    candidate's sketch does not depend on the others that it came with, nor on the number of threads.
    """
    projection = _projection(x.shape[1])
    # A matrix product would be rounded by how many rows it has; these sums are not.
    found = [(projection * row.astype(np.float64)).sum(axis=1) for row in x]
    return np.array(found, dtype=np.float32).reshape(len(x), len(SKETCH))


def ask_row(count: int, generation: int) -> NDArray[Any]:
    """The note that so many candidates were asked for."""
    row = np.zeros(1, ROW)
    row["event"], row["trial"], row["generation"] = ASK, count, generation
    return row


@lru_cache(maxsize=2)
def _projection(d: int) -> Doubles:
    """Normal numbers (8, d) of the variance 1 / 8."""
    generator = np.random.Generator(np.random.Philox(key=SKETCH_SEED))
    return generator.standard_normal((len(SKETCH), d)) / np.sqrt(len(SKETCH))


def _frames(path: Path) -> Iterator[tuple[NDArray[Any], int]]:
    """Whole frames of a file, and where each ends; none where there is no file."""
    data = path.read_bytes() if path.exists() else b""
    if len(data) >= len(MAGIC) and not data.startswith(MAGIC):
        if data.startswith(NAME):
            raise UserError(f"{path.parent} was begun by another version of evoprompt; begin it again")
        raise UserError(f"{path} is not a journal of this version of evoprompt")
    place = len(MAGIC)
    while place + FRAME.size <= len(data):
        size, checksum = FRAME.unpack_from(data, place)
        start, place = place + FRAME.size, place + FRAME.size + size
        if not size or place > len(data) or size % ROW.itemsize or zlib.crc32(data[start:place]) != checksum:
            return
        yield np.frombuffer(data, ROW, size // ROW.itemsize, start), place


def _write_at(descriptor: int, data: bytes, place: int) -> None:
    """Write all of it or raise `OSError`; a part that was written is cut off by the next to write there."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], place + done)
    os.ftruncate(descriptor, place + len(data))
