"""The house: who imports whom, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
INSTALLED = packages_distributions()
HEAVY = {"torch", "transformers", "ray", "hydra", "pandas", "nevergrad", "cma"}
EVERY_OPTIMIZER = """
from importlib import import_module
from pkgutil import walk_packages
import evoprompt.optim
names = [found.name for found in walk_packages(evoprompt.optim.__path__, "evoprompt.optim.")]
assert len(names) > 30, names
for name in names:
    import_module(name)
"""


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a statement loads in a fresh interpreter."""
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_a_room_imports_only_from_rooms_below_it() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert ", 0 broken" in done.stdout
    assert not any("ignore_imports" in contract for contract in CONTRACTS)


@pytest.mark.parametrize("statement", ["from evoprompt import minimize", EVERY_OPTIMIZER])
def test_the_optimizers_import_nothing_heavy(statement: str) -> None:
    assert not loaded_by(statement) & HEAVY


def test_importing_the_package_loads_not_even_numpy() -> None:
    assert "numpy" not in loaded_by("import evoprompt")


@pytest.mark.parametrize("module", ["evoprompt.surveys", "evoprompt.parallel", "evoprompt.report"])
def test_rooms_without_models_import_no_model_library(module: str) -> None:
    assert not loaded_by(f"import {module}") & {"torch", "transformers", "ray"}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (("--help",), {"evoprompt"}),
        (("--version",), {"evoprompt"}),
        (("experts", "list"), {"evoprompt", "numpy", "safetensors", "yaml", "rich"}),
    ],
)
def test_what_needs_no_model_loads_only_what_it_needs(arguments: tuple[str, ...], needed: set[str]) -> None:
    code = f"""
import sys
already = {{*sys.modules}}
from evoprompt.commands.start import main
try:
    main({arguments!r})
finally:
    found = {{name.split(".")[0] for name in {{*sys.modules}} - already}}
    print(*sorted(name for name in found if name in {sorted(INSTALLED)!r}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) <= needed
