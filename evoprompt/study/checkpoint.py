"""Checkpoints: one folder each, written beside and renamed into place; the newest good one wins."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evoprompt.files import PARTIAL, replacing
from evoprompt.optim.engine.state import load_state, save_state

KEPT = 2


def save_checkpoint(folder: Path, evaluations: int, state: Mapping[str, Any]) -> None:
    """Write `state` as `folder/<evaluations>` atomically, and remove all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"*{PARTIAL}"):  # of a save that was killed
        shutil.rmtree(left, ignore_errors=True)
    final = folder / f"{evaluations:09d}"
    with replacing(final) as partial:
        save_state(partial, state)
        shutil.rmtree(final, ignore_errors=True)
    for old in _numbered(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None."""
    for candidate in reversed(_numbered(folder)):
        try:
            return load_state(candidate)
        except (OSError, ValueError, KeyError):
            continue
    return None


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit())
