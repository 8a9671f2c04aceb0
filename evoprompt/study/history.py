"""The history: a row per evaluation, kept in memory and written as parquet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evoprompt.surveys import DIMENSIONS

COLUMNS = ("evaluation", "generation", "trial", "loss", *DIMENSIONS, "invalid", "failed", "seconds", "worker")


class History:
    """Rows in the order of the trials; `seconds` and `worker` tell who did it, the rest is the result.

    `invalid` is the share of free-text answers that chose no option or several; NaN where nothing was said.
    """

    def __init__(self, frame: pd.DataFrame | None = None) -> None:
        self._parts = [] if frame is None else [frame]

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def append(
        self,
        generation: int,
        ids: NDArray[np.int64],
        loss: NDArray[np.float64],
        dimensions: NDArray[np.float64],
        invalid: NDArray[np.float64],
        seconds: NDArray[np.float64],
        worker: Any,
    ) -> None:
        """Add a batch: ids, loss, invalid, seconds, worker (n,), dimensions (n, 6)."""
        start = len(self)
        columns: dict[str, Any] = {
            "evaluation": np.arange(start, start + len(ids)),
            "generation": np.full(len(ids), generation),
            "trial": ids,
            "loss": loss,
        }
        columns |= {name: dimensions[:, j] for j, name in enumerate(DIMENSIONS)}
        columns |= {"invalid": invalid, "failed": ~np.isfinite(loss)}
        columns |= {"seconds": seconds, "worker": np.asarray(worker, dtype=object)}
        self._parts.append(pd.DataFrame(columns))

    @property
    def frame(self) -> pd.DataFrame:
        """All rows."""
        if len(self._parts) != 1:
            filled = [part for part in self._parts if len(part)]
            self._parts = [pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(COLUMNS))]
        return self._parts[0]

    def save(self, path: Path) -> None:
        """Write atomically."""
        partial = path.with_suffix(".partial")
        self.frame.to_parquet(partial, index=False)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path, rows: int) -> History:
        """The first `rows` rows of a file: those that the checkpoint knows of."""
        if not path.exists():
            return cls()
        return cls(pd.read_parquet(path).iloc[:rows].reset_index(drop=True))
