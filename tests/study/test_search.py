"""History, checkpoints, and a search in which nothing works."""

from __future__ import annotations

import copy
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.objectives import SurveyAlignment, SurveyAlignmentFactory
from evoprompt.optim import Best, DifferentialEvolution, Evaluation, Optimizer, Trials, make_optimizer
from evoprompt.optim.engine.stopwatch import Stopwatch
from evoprompt.parallel import PoolStats
from evoprompt.prompts import make_space
from evoprompt.study import RunDirectory, read_settings, run_job, search_log
from evoprompt.study.search import SearchFailedError, run_search
from evoprompt.study.search_log import SearchLog, load_checkpoint, save_checkpoint
from evoprompt.surveys import balanced_plan, get_culture, vsm13


def test_a_checkpoint_that_found_no_room_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "000000003.partial").mkdir()  # of one that was killed
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save_checkpoint(tmp_path, 4, {"x": np.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_two_checkpoints_are_kept_and_a_torn_one_is_passed_over(tmp_path: Path) -> None:
    for evaluations in (8, 16, 24):
        save_checkpoint(tmp_path, evaluations, {"evaluations": evaluations, "x": np.arange(evaluations)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000016", "000000024"]
    newest = load_checkpoint(tmp_path)
    assert newest is not None
    assert newest["evaluations"] == 24
    (tmp_path / "000000024" / "state.npz").write_text("PK torn")
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


@dataclass(frozen=True)
class Told:
    """An optimizer's answers to a seeded objective, recorded as a search would."""

    folder: Path
    loop: str = "steady"

    def optimizer(self) -> Optimizer:
        updating = "immediate" if self.loop == "steady" else "deferred"
        return make_optimizer("de", bounds=[(0, 1)] * 3, budget=60, seed=1, popsize=8, updating=updating)

    def log(self) -> SearchLog:
        return SearchLog(
            RunDirectory(self.folder), ordered=self.loop != "steady", saved=lambda _: None, show=lambda *_: None
        )


def search(
    folder: Path,
    pocket: FrozenModel,
    workers: ModelSpec,
    optimizer: Optimizer | None = None,
    saved: Callable[[Optimizer], None] = lambda _: None,
    **config: Any,
) -> tuple[RunDirectory, Best, str]:
    """A small search of `pocket` by `workers`: its folder, the best and why it stopped."""
    config = {"culture": {"key": "arab"}, "budget": 24, "seed": 0, **config}
    directory = RunDirectory(folder)
    directory.create(config)
    space = make_space("random_projection", np.zeros((2, pocket.hidden), np.float32), scale=1.0, dimensions=8)
    factory = SurveyAlignmentFactory(workers, space, balanced_plan(vsm13()), get_culture("arab").target, np.zeros(6))
    updating = "immediate" if config.get("loop") == "steady" else "deferred"
    optimizer = optimizer or make_optimizer("de", bounds=space.bounds, budget=24, seed=0, popsize=8, updating=updating)
    objective = factory.around(Respondent(pocket))
    settings, quiet = read_settings(config), Console(quiet=True)
    best, stopped, _ = run_search(settings, factory, objective, optimizer, directory, quiet, saved)
    return directory, best, stopped


def losses(trials: Trials) -> Evaluation:
    return Evaluation(np.abs(trials.x - 0.3).sum(axis=1))


def test_a_steady_run_is_repeated_from_its_journal_with_and_without_its_checkpoints(tmp_path: Path) -> None:
    told = Told(tmp_path)
    optimizer, log = told.optimizer(), told.log()
    order = np.random.default_rng(0)
    for step in range(30):
        log.asked(2, optimizer.ask(2), optimizer)
        waiting = log.outstanding()
        assert waiting is not None
        late = waiting[order.permutation(len(waiting))[:2]]
        optimizer.tell(late, losses(late))
        log.told(0, late, losses(late), PoolStats(2, 1.0, 2.0, 0, 0, 0))
        if step == 20:
            log.checkpoint(optimizer, last=True)
    for checkpoint in (True, False):
        if not checkpoint:
            shutil.rmtree(tmp_path / "checkpoint")
        again, repeated = told.optimizer(), told.log()
        repeated.repeat(again, repeated.restore(again))
        assert again.evaluations == optimizer.evaluations
        assert sorted(repeated.pending) == sorted(log.pending)
        np.testing.assert_array_equal(again.population[0], optimizer.population[0])
        np.testing.assert_array_equal(again.ask(3).x, copy.deepcopy(optimizer).ask(3).x)


def test_a_generation_that_was_half_told_is_completed_with_the_same_points_only(tmp_path: Path) -> None:
    told = Told(tmp_path, loop="generational")
    optimizer, log = told.optimizer(), told.log()
    trials = optimizer.ask()
    log.told(0, trials[:5], losses(trials[:5]), PoolStats(1, 1.0, 2.0, 0, 0, 0))
    again = told.log()
    assert again.losses_of(trials) == dict(zip(range(5), losses(trials).loss[:5].tolist(), strict=True))
    moved = Trials(trials.ids, trials.x + 1e-6)
    assert again.losses_of(moved) == {}


@pytest.mark.parametrize("loop", ["generational", "steady"])
def test_a_search_whose_last_result_was_recorded_when_it_was_killed_still_writes_its_history(
    pocket: FrozenModel, tmp_path: Path, loop: str
) -> None:
    directory, best, _ = search(tmp_path / "whole", pocket, pocket.spec, loop=loop)
    journal = directory.journal.read_bytes()
    killed = RunDirectory(tmp_path / "killed")
    killed.path.mkdir()
    killed.journal.write_bytes(journal)
    killed, again, _ = search(tmp_path / "killed", pocket, pocket.spec, loop=loop)
    assert again.loss == best.loss
    assert killed.journal.read_bytes() == journal
    pd.testing.assert_frame_equal(pd.read_parquet(killed.history), pd.read_parquet(directory.history))


def test_why_a_search_stopped_is_read_at_its_end_and_not_from_a_later_clock(
    pocket: FrozenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_log, "CHECKPOINT_SECONDS", np.inf)  # but for the last one, and then the clock goes on
    clock = [0.0]
    bounds = make_space("random_projection", np.zeros((2, pocket.hidden), np.float32), scale=1.0, dimensions=8).bounds
    optimizer = DifferentialEvolution(bounds, budget=24, seconds=5, seed=0, popsize=8, tol=1.0)
    optimizer._ledger.watch = Stopwatch(lambda: clock[0])
    _, _, stopped = search(tmp_path, pocket, pocket.spec, optimizer, saved=lambda _: clock.append(clock.pop() + 9))
    assert (stopped, optimizer.should_stop()) == ("tolerance", "deadline")


def test_a_checkpoint_that_an_earlier_version_left_is_refused(tmp_path: Path) -> None:
    told = Told(tmp_path)
    save_checkpoint(tmp_path / "checkpoint", 8, {"evaluations": 8, "optimizer": told.optimizer().state_dict()})
    with pytest.raises(UserError, match="begun by an earlier version"):
        told.log().restore(told.optimizer())


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
        run_search(read_settings(config), factory, objective, optimizer, directory, Console(quiet=True), lambda _: None)
    history = pd.read_parquet(directory.history)
    assert len(history) == 8
    assert history["failed"].all()


@pytest.mark.system
def test_workers_that_compute_in_another_dtype_than_the_driver_are_refused(pocket: FrozenModel, tmp_path: Path) -> None:
    other = ModelSpec(device="cpu", dtype="bfloat16", threads=1)
    with pytest.raises(
        UserError, match=r"worker ray-0 computes in torch\.bfloat16 on cpu, the driver.*torch\.float32 on cpu"
    ):
        search(tmp_path, pocket, other, executor={"kind": "ray", "workers": 1})


def test_a_search_tells_tensorboard_how_it_goes(pocket: FrozenModel, tmp_path: Path) -> None:
    directory, best, _ = search(tmp_path, pocket, pocket.spec)
    events = EventAccumulator(str(directory.path / "tensorboard"))
    events.Reload()
    assert {"loss/best", "evaluations/per_second", "workers/utilisation", "workers/queue"} <= {
        *events.Tags()["scalars"]
    }
    last = events.Scalars("loss/best")[-1]
    assert (last.step, last.value) == (24, pytest.approx(best.loss))
    history = pd.read_parquet(directory.history)
    assert history["elapsed"].is_monotonic_increasing
    assert (history["workers"] == 1).all()
    assert history["utilisation"].between(0, 1).all()


@pytest.mark.system
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
    assert directory.info.status == "failed"
    assert load_checkpoint(directory.checkpoint) is not None
    assert pd.read_parquet(directory.history)["failed"].all()

    with pytest.raises(SearchFailedError, match="the checkpoint is kept"):
        run_job({**config, "resume": str(tmp_path / "run")}, tmp_path, [], Console(quiet=True))
