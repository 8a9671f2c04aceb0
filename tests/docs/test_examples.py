"""The user's guide is true: its examples and blocks run, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from evoprompt.optim.de.mutation import STRATEGIES
from evoprompt.optim.de.variant import VARIANTS

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
GUIDE = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
SHOWN = ("scipy_objective", "torch_objective", "external_program")


def source(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")


def printed_by(folder: Path, *arguments: str | Path) -> str:
    """What Python prints, started in an empty folder."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def own_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The guide's blocks that are not example files, in a folder and with registries that may be written to."""
    monkeypatch.chdir(tmp_path)
    for registry in (VARIANTS, STRATEGIES):
        for name in ("mine", "best/2", "best/2/bin"):
            monkeypatch.delitem(registry, name, raising=False)
            monkeypatch.setitem(registry, name, None)  # taken out again at the end
    return [block for block in BLOCKS if block not in map(source, SHOWN)]


@pytest.mark.parametrize("name", SHOWN)
def test_the_guide_shows_each_example_as_it_is(name: str) -> None:
    assert source(name) in BLOCKS


def test_the_scipy_objective_reaches_its_target(tmp_path: Path) -> None:
    output = printed_by(tmp_path, EXAMPLES / "scipy_objective.py")
    assert "the target loss is reached" in output
    assert "evaluations, best loss" in output


def test_the_torch_objective_is_evaluated_in_float32_and_reaches_its_target(tmp_path: Path) -> None:
    output = printed_by(tmp_path, EXAMPLES / "torch_objective.py")
    assert "the target loss is reached" in output
    assert "float32" in output


@pytest.mark.system
def test_the_external_program_runs_by_generations_in_steady_state_and_from_its_log(tmp_path: Path) -> None:
    generations, steady, replayed = printed_by(tmp_path, EXAMPLES / "external_program.py").splitlines()
    assert "after 60 evaluations" in generations
    assert "after 60 evaluations" in steady
    assert re.search(r": (.*) after", steady)[1] == replayed.removeprefix("replayed: ")
    assert float(re.search(r"\], (\S+) after", generations)[1]) < 0.1


def test_the_blocks_of_the_guide_run_one_after_the_other(own_blocks: list[str]) -> None:
    namespace: dict[str, object] = {}
    assert len(own_blocks) > 8
    for block in own_blocks:
        exec(block, namespace)


def test_the_variant_of_the_guide_passes_the_conformance_suite_as_the_guide_applies_it(
    own_blocks: list[str], tmp_path: Path
) -> None:
    (variant,) = [block for block in own_blocks if 'VARIANTS["mine"]' in block]
    (suite,) = [block for block in own_blocks if "OptimizerConformance" in block]
    head = "from evoprompt import DifferentialEvolution\n"
    definition = variant.split("result =")[0]
    (tmp_path / "test_mine.py").write_text(head + definition + suite, encoding="utf-8")
    assert " passed" in printed_by(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py")


def test_local_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", GUIDE, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif "://" not in link:
            assert (ROOT / "docs" / link).exists(), link


def test_nothing_is_left_to_fill_in() -> None:
    assert "@@" not in GUIDE
