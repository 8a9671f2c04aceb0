"""What a finished run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evoprompt.study.rundir import RunDirectory

__all__ = ["RunResult"]


@dataclass(frozen=True, eq=False)
class RunResult:
    """A finished run's metrics, as metrics.json has them but NaN where it has null, and its folder."""

    metrics: Mapping[str, Any]
    directory: RunDirectory
