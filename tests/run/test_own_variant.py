"""A variant of one's own in a module of the current folder, through the main command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SMALL, Command, environment

MODULE = """\
from evoprompt.optim import Variant

MINE = Variant("mine", "best/1", cr=0.5)
UNNAMED = Variant("unnamed", size=lambda d, budget: 8)
"""
RUN = ["+culture=arab", *SMALL, "budget=16", "report=false", "optimizer=de", "hydra.run.dir=here/run"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `my_module.py`, and with one that is no Python."""
    (tmp_path / "my_module.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken_module.py").write_text("def half(:\n", encoding="utf-8")
    return tmp_path


def script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the installed `evoprompt` does: a script in another folder, which Python has first on its path."""
    entry = folder / "bin" / "evoprompt"
    entry.parent.mkdir(exist_ok=True)
    entry.write_text("import sys\nfrom evoprompt.commands.start import main\nsys.exit(main())\n", encoding="utf-8")
    command = [sys.executable, str(entry), *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=900, check=False
    )


def searched(run: Path) -> dict[str, object]:
    """What a finished run says of its optimizer."""
    return dict(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["optimizer"])


OURS = {"name": "de", "variant": "mine", "variant_place": "my_module:MINE", "stages": {"initial": 8, "evolved": 8}}


def test_a_variant_in_the_current_folder_searches(folder: Path, command: Command) -> None:
    done = command(folder, *RUN, "optimizer.variant=my_module:MINE", "executor=local")
    assert done.returncode == 0, done.stderr
    assert searched(folder / "here" / "run") == OURS
    assert "by de mine" in done.stdout


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("my_module:MIEN", "variant 'my_module:MIEN' cannot be imported: my_module has no 'MIEN'; did you mean MINE?"),
        ("my_modul:MINE", "variant 'my_modul:MINE' cannot be imported: No module named 'my_modul'"),
        ("broken_module:MINE", "variant 'broken_module:MINE' cannot be imported: SyntaxError: invalid syntax"),
        ("lshad", "got 'lshad'; did you mean lshade"),
        ("my_module:UNNAMED", "the size of variant 'unnamed' has no name to be saved by"),
    ],
)
def test_a_variant_that_cannot_be_had_is_one_line_and_leaves_no_folder(
    variant: str, said: str, folder: Path, command: Command
) -> None:
    done = command(folder, *RUN, f"optimizer.variant={variant}", "executor=local")
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert said in line
    assert not (folder / "here" / "run").exists()


def test_the_check_refuses_what_cannot_be_saved(folder: Path, command: Command) -> None:
    done = command(folder, "optimizer=de", "optimizer.variant=my_module:UNNAMED", "executor=local", module="check")
    assert done.returncode == 1
    assert "has no name to be saved by" in " ".join(done.stdout.split())


def test_the_script_finds_a_module_in_the_current_folder(folder: Path) -> None:
    done = script(folder, "check", "optimizer=de", "optimizer.variant=my_module:MINE", "executor=local")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system
def test_ray_workers_and_jobs_on_ray_search_with_it_too(folder: Path) -> None:
    variant = "optimizer.variant=my_module:MINE"
    done = script(folder, "run", *RUN, variant, "executor=ray", "executor.workers=2")
    assert done.returncode == 0, done.stderr
    assert searched(folder / "here" / "run") == OURS
    sweep = ["hydra/launcher=evoprompt_ray", "executor=local", "seed=0,1", "hydra.sweep.dir=jobs"]
    done = script(folder, "run", "-m", *RUN, variant, *sweep)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [searched(path.parent) for path in sorted((folder / "jobs").glob("*/metrics.json"))] == [OURS, OURS]
