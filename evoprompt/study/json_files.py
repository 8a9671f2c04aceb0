"""JSON files of a run: written whole or not at all, without NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evoprompt.errors import UserError
from evoprompt.files import write_text

__all__ = ["as_json", "read_json", "write_json"]


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
