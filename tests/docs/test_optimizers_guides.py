"""What the guides to the optimizers say is true, beyond that their blocks run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import forkserver
import pytest
from site_pages import GUIDES, ROOT, blocks

from evoprompt.optim import OPTIMIZERS

SCRIPTS = GUIDES / "scripts"
SHOWN = ("scipy_objective", "torch_objective", "external_program")


def printed_by(folder: Path, *arguments: str | Path) -> str:
    """What Python prints, started in an empty folder."""
    done = forkserver.run(
        [sys.executable, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_guide_shows_each_example() -> None:
    guide = (GUIDES / "optimizers.md").read_text(encoding="utf-8")
    shown = re.findall(r'(?m)^--8<-- "docs/guides/scripts/(\w+).py"$', guide)
    assert tuple(shown) == SHOWN
    assert {path.stem for path in SCRIPTS.glob("*.py")} == {*SHOWN, "simulator"}


def test_the_scipy_objective_reaches_its_target(tmp_path: Path) -> None:
    output = printed_by(tmp_path, SCRIPTS / "scipy_objective.py")
    assert "the target loss is reached" in output
    assert "evaluations, best loss" in output


def test_the_torch_objective_is_evaluated_in_float32_and_reaches_its_target(tmp_path: Path) -> None:
    output = printed_by(tmp_path, SCRIPTS / "torch_objective.py")
    assert "the target loss is reached" in output
    assert "float32" in output


@pytest.mark.system
def test_the_external_program_runs_by_generations_and_in_steady_state(tmp_path: Path) -> None:
    generations, steady = printed_by(tmp_path, SCRIPTS / "external_program.py").splitlines()
    assert "after 60 evaluations" in generations
    assert "after 60 evaluations" in steady
    assert float(re.search(r"\], (\S+) after", steady)[1]) < 10
    assert float(re.search(r"\], (\S+) after", generations)[1]) < 0.1


def test_the_variant_of_the_guide_passes_the_conformance_suite_as_the_guide_applies_it(tmp_path: Path) -> None:
    own = blocks(GUIDES / "variants.md", "python")
    (variant,) = [block for block in own if 'VARIANTS["mine"]' in block]
    (suite,) = [block for block in own if "OptimizerConformance" in block]
    definition = variant.split("def sphere")[0]
    (tmp_path / "test_mine.py").write_text(definition + suite, encoding="utf-8")
    assert " passed" in printed_by(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py")


def test_every_optimizer_that_the_guide_names_is_one_and_none_is_missing() -> None:
    section = (
        (GUIDES / "which-optimizer.md").read_text(encoding="utf-8").split("## Choosing a method")[1].split("## ")[0]
    )
    named = set(re.findall(r'`"([a-z0-9/_-]+)"`', section)) - {"float32"}
    assert named == {one for one in OPTIMIZERS if not one.endswith("/exp")}


def test_every_optimizer_has_a_file_of_its_name() -> None:
    files = {path.stem for path in (ROOT / "conf" / "optimizer").glob("*.yaml")}
    text = "".join(path.read_text(encoding="utf-8") for path in (*GUIDES.glob("*.md"), ROOT / "README.md"))
    assert set(re.findall(r"\boptimizer=([a-z_]+)\b", text)) - {"name"} <= files
