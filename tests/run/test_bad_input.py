"""Bad input gets one clear line on stderr, exit code 2 and no traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evoprompt.llm import PLACEMENTS
from evoprompt.objectives import RESPONDENTS
from evoprompt.prompts import SPACES

from .conftest import SMALL, Command

BAD = {
    "no culture": ([], "no culture given"),
    "no culture says which exist": ([], "arab, argentina"),
    "unknown culture": (["+culture=arabb"], "did you mean arab"),
    "unknown culture without a plus": (["culture=chinna"], "did you mean china"),
    "unknown culture with two pluses": (["++culture=chinna"], "did you mean china"),
    "a resume of nothing with a plus": (["+resume=nowhere"], "nowhere is not a run directory"),
    "unknown model": (["+culture=arab", "model=poket"], "did you mean pocket"),
    "unknown optimizer": (["+culture=arab", "optimizer=nevergrat"], "did you mean nevergrad"),
    "unknown executor": (["+culture=arab", "executor=rya"], "did you mean ray"),
    "a target out of range": (
        ["+culture=custom", "culture.targets={pdi: 300}"],
        "pdi must be a number from -100 to 200, got 300",
    ),
    "a target that is no number": (
        ["+culture=custom", "culture.targets={pdi: much}"],
        "pdi must be a number",
    ),
    "no targets": (["+culture=custom"], "culture 'custom' has no targets"),
    "a budget below the population": (["+culture=arab", "budget=5", "optimizer.popsize=8"], "budget"),
    "a budget that is no number": (["+culture=arab", "budget=many"], "budget must be a whole number >= 1, got 'many'"),
    "an unknown key": (["+culture=arab", "bugdet=5"], "bugdet"),
    "a broken wording file": (["+culture=arab", "survey.wording_file=broken.yaml"], "broken.yaml, line 2"),
    "a missing model folder": (["+culture=arab", "model.name=./nothing-here"], "cannot load model './nothing-here'"),
    "a device that is not there": (["+culture=arab", "model.device=cuda:77"], "device 'cuda:77' is not there"),
    "an output that cannot be written": (["+culture=arab", "hydra.run.dir=a-file/run"], "a-file"),
    "a resume of nothing": (["resume=nowhere"], "nowhere is not a run directory"),
    "unknown respondent": (["+culture=arab", "respondent=sampeld"], "did you mean sampled"),
    "unknown space": (["+culture=arab", "space=lowrank"], "did you mean low_rank"),
    "sampling of options": (
        ["+culture=arab", "respondent.samples=2"],
        "respondent.samples belongs to respondent=sampled;",
    ),
    "sampling of options, added": (
        ["+culture=arab", "+respondent.samples=2"],
        "respondent.samples belongs to respondent=sampled;",
    ),
    "an option of another space": (
        ["+culture=arab", "space=full", "space.dimensions=3"],
        "space.dimensions belongs to space=random_projection;",
    ),
    "an unknown key of a section": (["+culture=arab", "survey.confrim=true"], "did you mean confirm"),
    "an unknown key of a group": (["+culture=arab", "model.token_buget=9"], "did you mean token_budget"),
    "an unknown key of an optimizer": (["+culture=arab", "optimizer.popsiez=9"], "'optimizer.popsiez'"),
    "a key below a number": (["+culture=arab", "budget.x=3"], "unknown key 'budget.x'; did you mean budget"),
    "too few samples in a confirmation": (
        ["+culture=arab", "survey.confirm={samples: 0}"],
        "survey.confirm.samples must be a whole number >= 1, got 0",
    ),
    "an expert to start from that is not there": (
        ["+culture=arab", "space.init_expert=nowhere"],
        "space.init_expert: nowhere is not a complete expert folder",
    ),
    "a run's folder to start from": (
        ["+culture=arab", "space.init_expert=a-run"],
        "space.init_expert=a-run is the folder of a run; did you mean a-run/expert?",
    ),
    "a rank above the tokens": (["+culture=arab", "space=low_rank", "space.rank=9"], "space.rank=9"),
    "an unknown constant": (["+culture=arab", "survey.constant=anchor"], "did you mean anchors"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line(arguments: list[str], said: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("scales:\n  health: [good]\nitems: {}\n")
    (tmp_path / "a-file").write_text("")
    (tmp_path / "a-run" / "expert").mkdir(parents=True)
    done = command(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert said in lines[0]


def test_resuming_another_configuration_shows_what_differs(
    finished: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    done = command(tmp_path, f"resume={folder}", "+culture=arab", *SMALL, "seed=7")
    assert done.returncode == 2
    assert "seed: 0 -> 7" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_continued_run_says_where_its_settings_come_from(
    finished: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    done = command(tmp_path, f"resume={finished[0]}", "respondent.samples=2")
    assert done.returncode == 2
    assert f"takes its settings from {finished[0]}; leave respondent.samples out" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_refused_run_leaves_its_folder_to_the_corrected_one(command: Command, tmp_path: Path) -> None:
    asked = ["budget=8", *(one for one in SMALL[1:] if not one.startswith("space"))]
    arguments = ["+culture=arab", *asked, "report=false", "hydra.run.dir=here"]
    before_the_folder_is_made = ["respondent=sampled", "respondent.samples=0"]
    after_the_model_is_loaded = ["space=low_rank", "space.rank=9"]
    for wrong in (before_the_folder_is_made, ["space.init_expert=nowhere"], after_the_model_is_loaded):
        assert command(tmp_path, *arguments, *wrong).returncode == 2
        assert not (tmp_path / "here" / "config.yaml").exists()
    done = command(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "metrics.json").is_file()


def test_the_help_says_what_the_job_does_and_what_may_be_chosen(command: Command, tmp_path: Path) -> None:
    done = command(tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    shown = done.stdout.split("== Configuration groups ==")[0]
    for said in (*PLACEMENTS, *SPACES, *RESPONDENTS, "survey.confirm={samples: 5}", "docs/guides/models.md", "resume="):
        assert said in shown, said
    assert "Hydra" not in shown


def test_a_second_run_does_not_write_over_a_first(finished: tuple[Path, str], command: Command, tmp_path: Path) -> None:
    done = command(tmp_path, "+culture=arab", *SMALL, f"hydra.run.dir={finished[0]}")
    assert done.returncode == 2
    assert "holds a run already" in done.stderr


@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_resuming_a_finished_run_shows_its_table_again(
    plus: str, finished: tuple[Path, str], command: Command, tmp_path: Path
) -> None:
    before = (finished[0] / "metrics.json").read_bytes()
    done = command(tmp_path, f"{plus}resume={finished[0]}")
    assert done.returncode == 0, done.stderr
    assert "evolved" in done.stdout
    assert (finished[0] / "metrics.json").read_bytes() == before
