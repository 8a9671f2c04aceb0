"""What an absent extra costs is one line that names it."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from evoprompt import minimize
from evoprompt.commands.start import COMMANDS, main
from evoprompt.extras import EXTRAS, MissingExtraError, installed

ROOT = Path(__file__).parents[1]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROOMS = ("llm", "prompts", "objectives", "surveys", "study", "preflight")
DOORS = {
    **{f"import evoprompt.{room}": (room, "lm") for room in ROOMS},
    "from evoprompt.experts import Registry": ("experts", "lm"),
    "from evoprompt.routing import Committee": ("routing", "lm"),
    "from evoprompt.report import write_report; write_report('run')": ("report", "lm"),
    "import evoprompt.serving": ("serving", "serve"),
}


def plain(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", name)[0]).lower()


def test_everybody_needs_numpy_and_scipy_and_caps_neither() -> None:
    assert [plain(name) for name in DECLARED["dependencies"]] == ["numpy", "scipy"]
    assert not any("<" in name for name in DECLARED["dependencies"])


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_known_by_the_modules_of_all_that_it_installs(extra: str) -> None:
    brought = {plain(name) for name in DECLARED["optional-dependencies"][extra]} - {"evoprompt", "numpy"}
    provided = packages_distributions()
    told = {plain(module.removeprefix("hydra_plugins.").replace("hydra_", "hydra-")) for module in EXTRAS[extra]}
    if extra != "launchers":  # their modules share a package
        told = {plain(name) for module in EXTRAS[extra] for name in provided[module]}
    assert told == brought


def test_a_room_without_its_extra_names_it_whoever_imports_it() -> None:
    code = f"""
import sys
for name in ("torch", "yaml", "fastapi"):
    sys.modules[name] = None
for door in {tuple(DOORS)}:
    try:
        exec(door)
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == len(DOORS)
    for line, (room, extra) in zip(said, DOORS.values(), strict=True):
        assert line.startswith(f"evoprompt.{room} needs ")
        assert line.endswith(f"; install evoprompt with the extra {extra!r}")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_without_the_extra_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hydra", None)
    assert main([command, "--help"]) == 2
    shown = "experts" if command == "blend" else command
    assert (
        capsys.readouterr().err == f"evoprompt: evoprompt {shown} needs hydra; install evoprompt with the extra 'lm'\n"
    )


def test_serving_without_the_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve"]) == 2
    said = capsys.readouterr().err
    assert said == "evoprompt: evoprompt serve needs uvicorn; install evoprompt with the extra 'serve'\n"


@pytest.mark.parametrize("method", EXTRAS["peers"])
def test_a_peer_that_is_absent_is_named_with_its_extra(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, method, None)
    told = f"the optimizer '{method}' needs {method}; install evoprompt with the extra 'peers'"
    with pytest.raises(MissingExtraError, match=told):
        minimize(lambda x: float(x @ x), [(-1, 1)] * 2, budget=20, method=method)


def test_a_folder_that_is_called_like_a_module_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sought_in_vain").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not installed("sought_in_vain")
    (tmp_path / "sought_in_vain" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert installed("sought_in_vain")
