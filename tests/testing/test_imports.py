"""Test tools stay out of what users import, and the kit needs nothing but the optimizers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "evoprompt"
TOOLS = {"pytest", "hypothesis"}


def imported_by(file: Path) -> set[str]:
    """Full names of the modules that a source file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_only_the_kit_imports_pytest_and_hypothesis():
    for file in PACKAGE.rglob("*.py"):
        if file.parent != PACKAGE / "testing":
            assert not {name.split(".")[0] for name in imported_by(file)} & TOOLS, file


def test_the_kit_imports_nothing_of_evoprompt_but_the_optimizers():
    allowed = ("evoprompt.optim", "evoprompt.testing", "evoprompt.typing", "evoprompt.extras")
    for file in (PACKAGE / "testing").glob("*.py"):
        own = {name for name in imported_by(file) if name.startswith("evoprompt")}
        assert all(name.startswith(allowed) for name in own), file


@pytest.mark.parametrize("module", ["evoprompt", "evoprompt.optim"])
def test_importing_the_package_loads_no_test_tools(module):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & (TOOLS | {"evoprompt.testing"})


def test_without_the_tools_the_kit_says_what_to_install():
    code = "import sys; sys.modules['hypothesis'] = None; import evoprompt.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "evoprompt.testing needs pytest and hypothesis; install evoprompt with the extra 'testing'" in done.stderr
