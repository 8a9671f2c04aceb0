"""One run: baselines, a hard budget, checkpoints, history, evaluation and export; and the jobs of a sweep."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evoprompt.extras import require

require("evoprompt.study", "lm")

if TYPE_CHECKING:
    from evoprompt.study.job import run_job
    from evoprompt.study.rundir import RunDirectory, RunResult
    from evoprompt.study.settings import Settings, read_settings
    from evoprompt.study.study import Study
    from evoprompt.study.sweepdir import SweepDirectory
    from evoprompt.study.table import closing_table

__all__ = [
    "RunDirectory",
    "RunResult",
    "Settings",
    "Study",
    "SweepDirectory",
    "closing_table",
    "read_settings",
    "run_job",
]

_MODULES = {
    "RunDirectory": "rundir",
    "RunResult": "rundir",
    "Settings": "settings",
    "Study": "study",
    "SweepDirectory": "sweepdir",
    "closing_table": "table",
    "read_settings": "settings",
    "run_job": "job",
}


def __getattr__(name: str) -> Any:
    """Load a part when it is first asked for: who only reads a run's or a sweep's folder needs no model library."""
    if name in __all__:
        return getattr(import_module(f"evoprompt.study.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'evoprompt.study' has no attribute {name!r}")
