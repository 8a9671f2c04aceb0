"""Continues a saved state in this process, which is not the one that saved it: module, class, folder."""

from __future__ import annotations

import sys
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from evoprompt.optim.engine.state import load_state
from evoprompt.testing.resuming import continuation


def main(module: str, case: str, folder: str) -> None:
    """Make the case's optimizer, load ``folder/state``, and write what follows to ``folder/continuation.npy``."""
    made: Any = reduce(getattr, case.split("."), import_module(module))
    optimizer = made().fresh(budget=1000)
    optimizer.load_state_dict(load_state(Path(folder) / "state"))
    np.save(Path(folder) / "continuation.npy", continuation(optimizer))


if __name__ == "__main__":
    main(*sys.argv[1:])
