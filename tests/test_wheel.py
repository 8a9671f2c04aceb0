"""The wheel works anywhere: a clean environment, an empty folder, no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without this checkout on its path; its output, or a failure that shows it."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


def link_requirements(wheel: Path, extra: str, packages: Path) -> None:
    """Lay what the wheel requires with an extra, and nothing else, into a folder: links to what is installed here."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        required = message_from_bytes(opened.read(name)).get_all("Requires-Dist", [])
    left = [(Requirement(line), extra) for line in required]
    done: set[tuple[str, str]] = set()
    while left:
        requirement, wanted = left.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": wanted}):
            continue
        found = distribution(requirement.name)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            if top != "__pycache__" and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(found.locate_file(top))).resolve())
        for also in ("", *requirement.extras):
            if (requirement.name, also) not in done:
                done.add((requirement.name, also))
                left += [(Requirement(line), also) for line in found.requires or ()]


def test_the_wheel_carries_configuration_model_and_survey(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "evoprompt/py.typed",
        "evoprompt/conf/config.yaml",
        "evoprompt/conf/model_defaults.yaml",
        "evoprompt/conf/model/pocket.yaml",
        "evoprompt/conf/respondent/sampled.yaml",
        "evoprompt/conf/space/vocab_pca.yaml",
        "evoprompt/conf/optimizer/lshade.yaml",
        "evoprompt/testing/__init__.py",
        "evoprompt/testing/case.py",
        "evoprompt/llm/pocket/model.safetensors",
        "evoprompt/llm/pocket/tokenizer.json",
        "evoprompt/llm/data/neutral.txt",
        "evoprompt/surveys/data/vsm13.yaml",
        "evoprompt/surveys/data/hofstede_2015.csv",
        "evoprompt/report/templates/page.css",
        "evoprompt/report/templates/run.html.j2",
        "evoprompt/experts/pocket/kenya/adapter_model.safetensors",
        "evoprompt/routing/data/lexicon.yaml",
        "evoprompt/routing/data/router/router.safetensors",
        "evoprompt/serving/page/page.html",
        "hydra_plugins/evoprompt_ray_launcher/launcher.py",
    ):
        assert name in names, name
    assert "hydra_plugins/__init__.py" not in names  # other plugins would not be found
    assert not [name for name in names if name.startswith(("tests/", "experiments/", "benchmarks/", "docs/"))]


@pytest.mark.system
def test_the_base_install_is_numpy_and_scipy_and_says_what_more_would_bring(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python, command = environment / "bin" / "python", environment / "bin" / "evoprompt"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    installed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path).split()
    assert {line.split("==")[0] for line in installed} - {"pip", "setuptools"} == {"evoprompt", "numpy", "scipy"}
    assert run(command, "--version", cwd=tmp_path).startswith("evoprompt ")
    code = "from evoprompt import DifferentialEvolution, minimize; "
    code += "print(minimize(lambda x: float(x @ x), [(-5, 5)] * 4, budget=2000, seed=1).fun < 1e-3)"
    assert run(python, "-c", code, cwd=tmp_path) == "True\n"
    doors = {
        "run +culture=arab": "lm",
        "train --out router": "lm",
        "-m evoprompt.run +culture=arab": "lm",
        **{f"-m evoprompt.{name} --help": "lm" for name in ("check", "report", "route", "experts", "routing.train")},
        "-c import/evoprompt.llm": "lm",
        "-c import/evoprompt.serving": "serve",
        "-c from/evoprompt/import/minimize;minimize(abs,[(0,1)]*2,budget=9,method='cma')": "peers",
    }
    for door, extra in doors.items():
        program = python if door.startswith("-") else command
        words = [word.replace("/", " ") for word in door.split()]
        done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        *traceback, last = done.stderr.splitlines()
        assert done.returncode == (1 if words[0] == "-c" else 2), done.stderr
        assert last.endswith(f"; install evoprompt with the extra {extra!r}"), done.stderr
        assert bool(traceback) == (words[0] == "-c"), done.stderr  # of a command there is none


@pytest.mark.system
def test_the_main_command_works_from_the_wheel_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """It is asked in full, by an interpreter of its own; the other tests of the command ask a short survey."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    (packages,) = environment.glob("lib/python*/site-packages")
    link_requirements(wheel, "lm", packages)
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    run(python, "-m", "pip", "check", cwd=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    small = ["budget=40", "optimizer.popsize=8", "survey.respondents=2"]
    output = run(python, "-m", "evoprompt.run", "+culture=arab", *small, cwd=empty)
    assert "evolved" in output
    (directory,) = empty.glob("outputs/arab/*")
    for name in ("metrics.json", "report.html", "expert/adapter_model.safetensors"):
        assert (directory / name).is_file(), name
    arms = json.loads((directory / "metrics.json").read_text())["arms"]
    assert arms["evolved"]["searched"]["loss"] < arms["naive"]["searched"]["loss"]
