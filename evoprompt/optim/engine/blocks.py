"""Trials that were handed out together, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["Block", "packed", "unpacked"]


@dataclass(eq=False, slots=True)
class Block:
    """Trials handed out together: n successive ids.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
    x : ndarray, shape (n, d)
        As handed out, shared with the caller and read-only.
    pending : ndarray of bool, shape (n,)
        Which have not been told yet; ``left`` counts them.
    loss, violation : ndarray of float64, shape (n,)
        What was told: inf and 0 where failed, NaN where pending.
    made : ndarray, shape (n, d)
        As the algorithm made them: ``x`` itself unless coordinates were rounded.
    slots : ndarray of int64, shape (n,)
    tags : ndarray of float64, shape (n, k)
    stage : ndarray of int64, shape (n,)
        Which of the algorithm's stages made it.
    awaited : bool
        Whether a generation waits for them.
    """

    ids: Indices
    x: Floats
    made: Floats
    slots: Indices
    tags: Doubles
    stage: Indices
    awaited: bool
    pending: Bools
    loss: Doubles
    violation: Doubles
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = int(np.count_nonzero(self.pending))

    def fill(self, offsets: Any, loss: Doubles, violation: Doubles) -> None:
        """Note what was told for some trials; offsets are a slice or indices."""
        self.loss[offsets], self.violation[offsets] = loss, violation
        self.pending[offsets] = False
        self.left -= len(loss)


_COLUMNS = ("ids", "x", "made", "slots", "tags", "stage", "pending", "loss", "violation")


def packed(blocks: Iterable[Block]) -> dict[str, Any]:
    """Blocks as one set of arrays, copied, in the order of their ids."""
    blocks = sorted(blocks, key=lambda block: int(block.ids[0]))
    state: dict[str, Any] = {
        "length": np.array([len(block.ids) for block in blocks], dtype=np.int64),
        "awaited": np.array([block.awaited for block in blocks], dtype=bool),
    }
    for name in _COLUMNS if blocks else ():
        columns = [getattr(block, name) for block in blocks]
        rounded = any(block.made is not block.x for block in blocks)
        state[name] = None if name == "made" and not rounded else np.concatenate(columns)
    return state


def unpacked(state: Mapping[str, Any]) -> list[Block]:
    """Blocks from the arrays that they were packed into."""
    lengths = np.asarray(state["length"]).tolist()
    if not lengths:
        return []
    columns = {name: np.array(state[name]) for name in _COLUMNS if state[name] is not None}
    columns["ids"].flags.writeable = columns["x"].flags.writeable = False
    blocks, start = [], 0
    for length, awaited in zip(lengths, np.asarray(state["awaited"]).tolist(), strict=True):
        part = {name: column[start : start + length] for name, column in columns.items()}
        part.setdefault("made", part["x"])
        blocks.append(Block(**part, awaited=awaited))
        start += length
    return blocks
