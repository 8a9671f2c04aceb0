"""Objectives and factories for the evaluator tests; Ray workers import this module."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evoprompt.errors import UserError
from evoprompt.optim.protocol import Evaluation, Evaluator, Objective, Trials


def numbered_trials(n: int, d: int = 2, first_id: int = 0) -> Trials:
    """Trials whose first coordinate is their id."""
    ids = np.arange(first_id, first_id + n)
    x = np.random.default_rng(n).normal(size=(n, d))
    x[:, 0] = ids
    return Trials(ids, x)


def evaluate(evaluator: Evaluator, trials: Trials) -> Evaluation:
    """One evaluation of all trials, in their order, in whatever order they come back; each must come back once."""
    evaluator.submit(trials)
    parts = list(evaluator.collect())
    came = [number for part, _ in parts for number in part.ids.tolist()]
    assert sorted(came) == sorted(trials.ids.tolist()), "each comes back once"
    order = [came.index(number) for number in trials.ids.tolist()]
    metrics = {name: _metric(name, parts)[order] for name in {name: 0 for _, found in parts for name in found.metrics}}
    workers = sorted({found.worker for _, found in parts})
    loss = np.concatenate([found.loss for _, found in parts])[order]
    return Evaluation(loss, metrics, sum(found.seconds for _, found in parts), ",".join(workers))


def _metric(name: str, parts: list[tuple[Trials, Evaluation]]) -> np.ndarray:
    """The values of a metric, one part after the other; NaN where a part lacks it."""
    shape = next(found.metrics[name].shape[1:] for _, found in parts if name in found.metrics)
    blank = [np.full((len(part), *shape), np.nan) for part, _ in parts]
    return np.concatenate([found.metrics.get(name, nan) for (_, found), nan in zip(parts, blank, strict=True)])


@dataclass(frozen=True)
class SmallNet:
    """A torch network in float32: its rounding depends on the shape of the batch."""

    d: int = 160

    def __call__(self) -> Objective:
        import torch

        generator = torch.Generator().manual_seed(0)
        first = torch.randn(self.d, 512, generator=generator)
        second = torch.randn(512, 6, generator=generator)

        def objective(x: np.ndarray) -> Evaluation:
            with torch.no_grad():
                outputs = torch.tanh(torch.from_numpy(x) @ first) @ second
                loss = outputs.square().sum(dim=1)
            return Evaluation(loss.numpy(), {"outputs": outputs.numpy(), "batch": np.full(len(x), len(x))})

        return objective


def chosen_at_random(n: int, d: int = 160) -> Trials:
    return Trials(np.arange(n), np.random.default_rng(3).normal(size=(n, d)).astype(np.float32))


def first_coordinate(x: np.ndarray) -> Evaluation:
    return Evaluation(x[:, 0], {"row": x, "count": np.arange(len(x)), "pid": np.full(len(x), os.getpid())})


@dataclass(frozen=True)
class Raises:
    """Raises whenever candidate 4 is in the batch; candidate 6 is NaN, candidate 7 infinite."""

    def __call__(self) -> Objective:
        def objective(x: np.ndarray) -> Evaluation:
            if 4.0 in x[:, 0]:
                raise ArithmeticError("candidate four is not to be had")
            loss = x[:, 0].copy()
            loss[loss == 6.0] = np.nan
            loss[loss == 7.0] = np.inf
            return Evaluation(loss, {"row": x, "count": np.ones(len(x), dtype=np.int64)})

        return objective


@dataclass(frozen=True)
class Kills:
    """Kills its own process with SIGKILL when a victim is in the batch: the first few times, or always.

    It waits a moment before: what it answered the moment it dies may not have left its process yet.
    """

    folder: Path
    victim: int
    times: int = 1

    def __call__(self) -> Objective:
        def objective(x: np.ndarray) -> Evaluation:
            killed = len(list(self.folder.glob("killed-*")))
            if self.victim in x[:, 0] and killed < self.times:
                (self.folder / f"killed-{killed}").touch()
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGKILL)
            evaluation = first_coordinate(x)
            with (self.folder / "finished.txt").open("a") as finished:
                finished.write("".join(f"{int(number)}\n" for number in x[:, 0]))
            return evaluation

        return objective


@dataclass(frozen=True)
class BuildsOnce:
    """Builds an objective that kills its process; a second one cannot be built."""

    folder: Path

    def __call__(self) -> Objective:
        built = self.folder / "built"
        if built.exists():
            raise OSError("the model folder is gone")
        built.touch()
        return Kills(self.folder, victim=0)()


@dataclass(frozen=True)
class Slow:
    """Takes a while, so that it can be killed from outside; says when it has begun."""

    folder: Path
    seconds: float

    def __call__(self) -> Objective:
        def objective(x: np.ndarray) -> Evaluation:
            (self.folder / f"begun-{os.getpid()}").touch()
            time.sleep(self.seconds)
            return first_coordinate(x)

        return objective


def healthy() -> Objective:
    return first_coordinate


def raising() -> Objective:
    raise OSError("the model folder is empty")


def refusing() -> Objective:
    raise UserError("unknown model 'lama'; did you mean llama?")


def sleeping(seconds: float = 600) -> Objective:
    time.sleep(seconds)
    return first_coordinate


@dataclass(frozen=True)
class HangsOnce:
    """Never comes back from candidate 3, the first time."""

    folder: Path

    def __call__(self) -> Objective:
        def objective(x: np.ndarray) -> Evaluation:
            hung = self.folder / "hung"
            if 3.0 in x[:, 0] and not hung.exists():
                hung.touch()
                time.sleep(3600)
            return first_coordinate(x)

        return objective


@dataclass(frozen=True)
class FillsMemory:
    """Takes so many bytes for candidate 3, the first time, and holds them until it is killed."""

    folder: Path
    size: int

    def __call__(self) -> Objective:
        def objective(x: np.ndarray) -> Evaluation:
            filled = self.folder / "filled"
            if 3.0 in x[:, 0] and not filled.exists():
                filled.touch()
                held = np.ones(self.size, np.uint8)
                time.sleep(60)
                raise RuntimeError(f"{held.nbytes} bytes were had")
            return first_coordinate(x)

        return objective


@dataclass(frozen=True)
class OneIsBroken:
    """In the first worker that asks, everything raises."""

    folder: Path

    def __call__(self) -> Objective:
        broken = self.folder / "broken"
        mine = not broken.exists()
        broken.touch()

        def objective(x: np.ndarray) -> Evaluation:
            if mine:
                raise RuntimeError("the device is in a bad state")
            time.sleep(0.02)
            return first_coordinate(x)

        return objective


class Unpicklable:
    """What no process can send to another."""

    def __reduce__(self) -> str:
        raise TypeError("this stays where it is")


def with_a_metric_that_cannot_travel() -> Objective:
    def objective(x: np.ndarray) -> Evaluation:
        metrics = {"odd": np.array([Unpicklable() if value == 7.0 else None for value in x[:, 0]], dtype=object)}
        return Evaluation(x[:, 0], metrics)

    return objective


def dying() -> Objective:
    os.kill(os.getpid(), signal.SIGKILL)
    return first_coordinate
