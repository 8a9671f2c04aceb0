"""The tutorials do what they say, as a user starts them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import forkserver
import pytest

from evoprompt.experts import read_expert

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def printed_by(name: str, folder: Path, **environment: Path) -> str:
    """What a tutorial prints, started in an empty folder that it leaves empty."""
    here = folder / "empty"
    here.mkdir()
    done = forkserver.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=here,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list(here.iterdir())
    return done.stdout


def found(pattern: str, output: str) -> tuple[str, ...]:
    """The groups of a pattern that the output must have."""
    match = re.search(pattern, output)
    assert match, f"{pattern!r} is not in:\n{output}"
    return match.groups()


def numbers(pattern: str, output: str) -> tuple[float, ...]:
    """The groups of a pattern as numbers."""
    return tuple(map(float, found(pattern, output)))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_tutorial_is_listed_and_opens_as_a_notebook(script: Path) -> None:
    assert f"`python examples/{script.name}" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
    source = script.read_text(encoding="utf-8")
    assert source.startswith("# %% [markdown]\n# # ")
    cells = [cell.splitlines() for cell in source.split("# %%")[1:]]
    texts = [lines[1:] for lines in cells if lines[0] == " [markdown]"]
    assert len(texts) >= 3
    assert all(line.startswith("#") or not line for lines in texts for line in lines)


def test_a_function_is_fitted_resumed_compared_constrained_and_noisy(tmp_path: Path) -> None:
    output = printed_by("optimise_any_function", tmp_path, TMPDIR=tmp_path)
    (fitted,) = numbers(r"minimize: loss (\S+) at \[2\.  0\.3 4\. \] after 3000", output)
    (stopped,) = numbers(r"stopped after \d+ evaluations at loss (\S+)", output)
    resumed, same = found(r"resumed to loss (\S+); the same as without a stop: (\w+)", output)
    assert fitted < 1e-6
    assert float(resumed) < stopped / 1000
    assert same == "True"
    medians = {name: float(median) for name, median in re.findall(r"(?m)^(\w+) +median loss (\S+),", output)}
    assert max(medians[name] for name in ("auto", "de", "lshade", "cma")) < medians["random"] / 10
    bounded, frequency, violation = numbers(r"whole frequency: \[(\S+) +\S+ +(\S+) *\], violation (\S+)", output)
    assert bounded <= 1.5
    assert frequency == 4
    assert violation == 0
    lucky, true = numbers(r"noise=None: said to have loss (\S+), has (\S+)", output)
    assert lucky < 0 < true, "the least of many noisy losses is lower than any true one"
    estimate, true = numbers(r"noise=0.1: said to have loss (\S+), has (\S+)", output)
    assert abs(estimate - true) < 0.1


@pytest.mark.system
def test_an_objective_gives_the_same_on_ray_workers_and_failures_do_no_harm(tmp_path: Path) -> None:
    output = printed_by("bring_your_own_objective", tmp_path)
    error, worst = numbers(r"in this process: error (\S+), worst digit (\S+) at", output)
    evaluations, failed = numbers(r"(\d+) evaluations, (\d+) failed and did no harm", output)
    assert error < 0.05
    assert error < worst < 0.2
    assert (evaluations, failed > 0) == (60, True)
    assert found(r"two Ray workers: error (\S+); the same as in this process: (\w+)", output) == (
        f"{error:.3f}",
        "True",
    )
    steady, evaluations = numbers(r"steady state: error (\S+), (\d+) evaluations", output)
    assert steady < 0.05
    assert evaluations == 60


@pytest.mark.system
def test_an_own_survey_is_checked_searched_on_and_held_out(tmp_path: Path) -> None:
    output = printed_by("bring_your_own_survey", tmp_path, TMPDIR=tmp_path)
    assert "my-wordings: 24 items, checked" in output
    assert len(re.findall(r"target +\S+, +\S+ before, +\S+ after", output)) == 6
    before, after = numbers(r"held-out loss (\S+) before, (\S+) after", output)
    assert after < before * 0.7
    for split in ("searched", "held out"):
        before, after = numbers(rf"{split}: (\S+) before, (\S+) after", output)
        assert 1 <= after < before - 0.05


@pytest.mark.system
def test_a_custom_culture_is_reached_on_the_dimensions_that_it_has(tmp_path: Path) -> None:
    output = printed_by("align_to_a_custom_culture", tmp_path, TMPDIR=tmp_path)
    losses = numbers(r"held-out loss +(\S+) +(\S+) +(\S+) +(\S+)", output)
    low, high = numbers(r"95 % interval (\S+) to (\S+),", output)
    assert losses[3] < min(losses[:3]) / 2
    assert low <= losses[3] <= high < losses[0]
    assert "Power distance" in output
    assert "Masculinity" not in output, "the target has no such score"
    report = Path(found(r"report (.+)", output)[0])
    assert tmp_path in report.parents
    assert "Guild" in report.read_text(encoding="utf-8")
    assert read_expert(found(r"expert (.+)", output)[0]).provenance["culture"]["targets"]["lto"] == 60


def test_an_expert_says_and_scores_in_peft_what_it_does_here(tmp_path: Path) -> None:
    output = printed_by("use_an_expert_in_peft", tmp_path)
    without, tuned = found(r"without: (.+)\nwith: +(.+)", output)
    assert without != tuned
    assert found(r"prompt_embeds \(\d+, 128\): (.+)", output) == (tuned,)
    assert numbers(r"PEFT and evoprompt differ by at most (\S+)", output)[0] < 1e-4
    assert numbers(r"with and without the expert differ by up to (\S+)", output)[0] > 0.05


def test_questions_go_to_those_who_know(tmp_path: Path) -> None:
    output = printed_by("route", tmp_path)
    assert re.search(r"omiyage\?\n  Japan 100%: says omiyage", output)
    assert re.search(r"Brazil and Japan\?\n  Brazil \d+%: names brazil.*\n  Japan \d+%: names japan", output)
    assert re.search(r"17 times 23\?\n  base model 100%: needs no culture", output)
    panel = re.findall(r"(?m)^(China|U\.S\.A\.|Nigeria): (.+)", output)
    assert len(panel) == 3
    assert len({said for _, said in panel}) == 2, "experts with views far apart do not all say the same"
    assert "from Nairobi, Kenya speaks: Of course, they all belong." in output
    for place, voice, other in (("Nairobi", "Kenya", "U.S.A."), ("Chicago", "U.S.A.", "Kenya")):
        (shares,) = found(rf"{place}, {voice}: (.+)", output)
        assert 98 <= sum(map(int, re.findall(r"(\d+)%", shares))) <= 102
        assert shares not in found(rf", {other}: (.+)", output), "cultures differ in what they find important"
