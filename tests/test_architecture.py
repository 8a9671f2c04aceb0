"""The house: who imports whom, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "ray", "hydra", "nevergrad", "cma")


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a statement loads in a fresh interpreter."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_a_room_imports_only_from_rooms_below_it() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("statement", ["import evoprompt", "import evoprompt.optim", "from evoprompt import minimize"])
def test_the_optimizers_import_nothing_heavy(statement: str) -> None:
    assert not loaded_by(statement) & set(HEAVY)


def test_importing_the_package_loads_not_even_numpy() -> None:
    assert "numpy" not in loaded_by("import evoprompt")


@pytest.mark.parametrize("module", ["evoprompt.surveys", "evoprompt.parallel", "evoprompt.report"])
def test_rooms_without_models_import_no_model_library(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"torch", "transformers", "ray"}
