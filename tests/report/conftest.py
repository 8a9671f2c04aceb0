"""Runs to report on, each test's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from written_runs import plain_metrics, write_files

from evoprompt.report import write_report


@pytest.fixture
def metrics() -> dict[str, Any]:
    """The metrics that `write_run` will write; a test may change them first."""
    return plain_metrics()


@pytest.fixture
def write_run(metrics: dict[str, Any]) -> Callable[..., Path]:
    """Write a run directory with the test's `metrics`."""
    return partial(write_files, metrics)


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the plain run."""
    folder = write_files(plain_metrics(), tmp_path_factory.mktemp("plain") / "run")
    return write_report(folder).read_text(encoding="utf-8")
