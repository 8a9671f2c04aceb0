"""Files that are there whole or not at all: written beside their place, then renamed; and JSON in them."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from evoprompt.errors import UserError

__all__ = ["PARTIAL", "as_json", "read_json", "replacing", "write_bytes", "write_json", "write_text"]

PARTIAL = ".partial"
"""How the name of what is not finished ends."""


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """A path beside ``path`` to write a file or a folder at; it takes the place of ``path`` when the block ends.

    If the block fails, what it wrote is removed and ``path`` is as it was. A folder replaces no folder.

    Parameters
    ----------
    path : path-like
    durable : bool
        Whether the content must be on disk before the name points to it, so that a loss of power leaves the old file
        or the new one.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as partial:
    ...         _ = partial.write_text("whole")
    ...     print(Path(folder, "a.txt").read_text(), [file.name for file in Path(folder).iterdir()])
    whole ['a.txt']
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")  # another machine may be writing the same
    try:
        yield partial
        if durable:
            _flush(partial)
        os.replace(partial, path)
        if durable:
            _flush_names(path.parent)
    except BaseException:
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises
    ------
    UserError
        It cannot be read, or holds something else.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"cannot read {path}, line {error.lineno}: not valid JSON: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a JSON object, holds a {type(loaded).__name__}")
    return loaded


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; a number that is not finite becomes null."""
    write_text(path, json.dumps(as_json(value), indent=2, allow_nan=False) + "\n")


def as_json(value: Any) -> Any:
    """A value in which every number that is not finite is None.

    >>> as_json({"loss": float("nan"), "interval": (1.0, float("inf"))})
    {'loss': None, 'interval': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {key: as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flush_names(folder: Path) -> None:
    """Write to disk which names a folder holds, where a folder can be opened for it."""
    with suppress(PermissionError):  # on Windows
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _flush(path: Path) -> None:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
