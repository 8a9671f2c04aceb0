"""History, checkpoints, and a search in which nothing works."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.objectives import SurveyAlignment, SurveyAlignmentFactory
from evoprompt.optim import Evaluation, make_optimizer
from evoprompt.prompts import make_space
from evoprompt.study import RunDirectory, read_settings, run_job
from evoprompt.study.checkpoint import load_checkpoint, save_checkpoint
from evoprompt.study.history import COLUMNS, History
from evoprompt.study.search import SearchFailedError, run_search
from evoprompt.surveys import balanced_plan, get_culture, vsm13


def test_the_newest_two_checkpoints_are_kept_and_a_torn_one_is_passed_over(tmp_path: Path) -> None:
    for evaluations in (8, 16, 24):
        save_checkpoint(tmp_path, evaluations, {"evaluations": evaluations, "x": np.arange(evaluations)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000016", "000000024"]
    newest = load_checkpoint(tmp_path)
    assert newest is not None
    assert newest["evaluations"] == 24
    (tmp_path / "000000024" / "state.json").write_text('{"torn')
    older = load_checkpoint(tmp_path)
    assert older is not None
    assert older["evaluations"] == 16
    np.testing.assert_array_equal(older["x"], np.arange(16))


def test_a_run_directory_has_one_driver_at_a_time(tmp_path: Path) -> None:
    code = f"from evoprompt.study import RunDirectory\nwith RunDirectory({str(tmp_path)!r}).locked(): print('held')"
    command = [sys.executable, "-c", code]
    with RunDirectory(tmp_path).locked():
        second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert "another process is running in" in second.stderr
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "held\n"


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none") is None


def test_history_comes_back_up_to_the_rows_that_the_checkpoint_knows(tmp_path: Path) -> None:
    history = History()
    for generation in range(3):
        ids = np.arange(4) + 4 * generation
        loss = np.array([1.0, np.nan, np.inf, 2.0])
        history.append(generation, ids, loss, np.zeros((4, 6)), np.full(4, np.nan), np.full(4, 0.1), ["local"] * 4)
    history.save(tmp_path / "history.parquet")
    assert list(pd.read_parquet(tmp_path / "history.parquet").columns) == list(COLUMNS)
    restored = History.load(tmp_path / "history.parquet", 8)
    assert len(restored) == 8
    pd.testing.assert_frame_equal(restored.frame, history.frame.iloc[:8])
    assert history.frame["failed"].sum() == 6


class Refusing(SurveyAlignmentFactory):
    """The survey objective, but every candidate raises."""

    def around(self, respondent: Respondent) -> SurveyAlignment:
        built = super().around(respondent)
        return RefusingAlignment(*(getattr(built, field.name) for field in fields(built)))


class RefusingAlignment(SurveyAlignment):
    """Raises when called."""

    def __call__(self, z: np.ndarray) -> Evaluation:
        raise RuntimeError("the device went away")


def test_when_every_candidate_raises_the_last_error_is_told(pocket: FrozenModel, tmp_path: Path) -> None:
    config = {"culture": {"key": "arab"}, "budget": 24, "seed": 0, "executor": {"kind": "local"}}
    directory = RunDirectory(tmp_path)
    directory.create(config)
    space = make_space("random_projection", np.zeros((2, pocket.hidden), np.float32), scale=1.0, dimensions=8)
    plan = balanced_plan(vsm13())
    factory = Refusing(pocket.spec, space, plan, get_culture("arab").target, np.zeros(6))
    optimizer = make_optimizer("de", bounds=space.bounds, budget=24, seed=0, popsize=8)
    objective = factory.around(Respondent(pocket))
    with pytest.raises(SearchFailedError, match="the device went away"):
        run_search(read_settings(config), factory, objective, optimizer, directory, Console(quiet=True), lambda: None)
    history = pd.read_parquet(directory.history)
    assert len(history) == 8
    assert history["failed"].all()


@pytest.mark.slow
def test_when_nothing_is_finite_the_run_ends_in_words_and_keeps_its_checkpoint(
    pocket: FrozenModel, short_survey: str, tmp_path: Path
) -> None:
    broken = load_model(ModelSpec(device="cpu"))
    torch.nn.init.constant_(broken.model.model.norm.weight, float("nan"))
    broken.model.save_pretrained(tmp_path / "model")
    pocket.tokenizer.save_pretrained(tmp_path / "model")
    config = {
        "culture": {"key": "arab"},
        "budget": 40,
        "seed": 0,
        "model": {"name": str(tmp_path / "model")},
        "optimizer": {"name": "de", "popsize": 8},
        "space": {"kind": "random_projection", "tokens": 2, "dimensions": 8},
        "survey": {"wording_file": short_survey, "constant": "none", "respondents": 2},
    }
    with pytest.raises(SearchFailedError, match="too many candidates in a row gave no finite loss"):
        run_job(config, tmp_path / "run", [], Console(quiet=True))
    directory = RunDirectory(tmp_path / "run")
    assert directory.recall()["status"] == "failed"
    assert load_checkpoint(directory.checkpoint) is not None
    assert pd.read_parquet(directory.history)["failed"].all()

    with pytest.raises(SearchFailedError, match="the checkpoint is kept"):
        run_job({**config, "resume": str(tmp_path / "run")}, tmp_path, [], Console(quiet=True))
