"""Whole studies that take a second: one wording of each item a split, two respondents, sixteen evaluations."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evoprompt.study import RunResult, run_job

Job = Callable[..., tuple[RunResult, str]]


@pytest.fixture(scope="session")
def short_survey() -> str:
    """A wording file with the first wording of each item in either split."""
    return str(Path(__file__).parents[1] / "short_survey.yaml")


@pytest.fixture(scope="session")
def job(short_survey: str) -> Job:
    """Run a study in a folder with changes to a small configuration; returns its result and what it printed."""

    def run(folder: Path, overrides: tuple[str, ...] = (), **changes: Any) -> tuple[RunResult, str]:
        config = {
            "culture": {"key": "arab"},
            "budget": 16,
            "seed": 0,
            "optimizer": {"name": "de", "popsize": 8},
            "space": {"kind": "random_projection", "tokens": 2, "dimensions": 8},
            **changes,
        }
        config["model"] = {"threads": 1} | config.get("model", {})
        config["survey"] = {"wording_file": short_survey, "constant": "none", "respondents": 2} | config.get(
            "survey", {}
        )
        printed = io.StringIO()
        result = run_job(config, folder, overrides, Console(file=printed, soft_wrap=True))
        return result, printed.getvalue()

    return run
