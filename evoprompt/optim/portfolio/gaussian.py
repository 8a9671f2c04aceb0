"""Points from a distribution that follows them, and steps of a quadratic model: a stage of the self-tuning search."""

from __future__ import annotations

import math

import numpy as np

from evoprompt.optim.engine.algorithm import Results
from evoprompt.optim.engine.rng import Purpose, TrialStreams
from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.engine.unit_box import UnitSpace
from evoprompt.optim.portfolio.covariance import SearchDistribution
from evoprompt.optim.portfolio.quadratic import QuadraticModel
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["DIAGONAL_FROM", "Sampling"]


DIAGONAL_FROM = 250
"""Coordinates from which on only variances are learnt: a full covariance needs d^2 numbers and some 10 d^2 points."""

_MODEL_UP_TO = 250


class Sampling(Stateful):
    """Points drawn from a distribution that follows them (CMA-ES), and steps of a quadratic model.

    Parameters
    ----------
    mean : ndarray, shape (d,)
        In the unit space.
    sigma : float
        Initial standard deviation there.
    size : int
        Points in a generation.
    modelled : bool
        Whether to use the quadratic model.
    least : ndarray, shape (d,), optional
        Standard deviations below which no coordinate is sampled: those that are rounded would stand still.
    """

    kind: str = "gaussian"
    size: int
    distribution: SearchDistribution
    _model: QuadraticModel | None
    _known_z: Doubles
    _known_loss: Doubles
    _step: Doubles | None = None
    """The model's point for slot 0."""
    _step_trial: int = -1
    """The trial that evaluates it."""
    _arrived: list[tuple[Doubles, Doubles, Doubles, Bools]]
    """Points, losses, violations, and whether it is the model's step."""
    _best: float = np.inf
    _history: list[float]
    _middles: list[float]
    _means: list[Doubles]
    _violated: bool = False
    over = False

    def __init__(
        self,
        space: UnitSpace,
        streams: TrialStreams,
        mean: Doubles,
        sigma: float,
        size: int,
        *,
        modelled: bool = True,
        least: Doubles | None = None,
    ) -> None:
        self._space, self._streams, self.size = space, streams, size
        self.distribution = SearchDistribution(mean, sigma, size, diagonal=space.d >= DIAGONAL_FROM)
        self._model = QuadraticModel(space.d) if modelled and space.d <= _MODEL_UP_TO else None
        self._least = least
        self._known_z, self._known_loss = np.empty((0, space.d)), np.empty(0)
        self._arrived, self._history, self._middles, self._means = [], [], [], []

    @property
    def typical(self) -> float:
        """Median loss of a generation, averaged over the last ten: what the mean is worth if losses are noisy."""
        with np.errstate(over="ignore"):
            return float(np.mean(self._middles[-10:])) if self._middles else np.inf

    @property
    def recommended(self) -> Floats:
        """The centre as a point of the box, (d,)."""
        point: Floats = self._space.point(self._space.clipped(self.centre)[None])[0]
        return point

    @property
    def centre(self) -> Doubles:
        """The average of the last ten means, (d,): steadier than the last one if losses are noisy."""
        return np.mean([*self._means, self.distribution.mean], axis=0)

    def make(self, ids: Indices, slots: Indices) -> Floats:
        d = self._space.d
        normals = np.empty((len(ids), d if self._least is None else 2 * d))
        for row, i in zip(normals, ids.tolist(), strict=True):
            self._streams.of(i, Purpose.SAMPLE).standard_normal(out=row)
        z = self.distribution.points(normals[:, :d])
        if self._least is not None:
            missing = np.maximum(self._least**2 - self.distribution.deviations**2, 0.0)
            z += normals[:, d:] * np.sqrt(missing) * (slots % 4 == 1)[:, None]
        first = np.flatnonzero(slots == 0)
        if self._step is not None and self._step_trial < 0 and len(first):
            z[first[0]], self._step_trial = self._step, int(ids[first[0]])
        return self._space.point(z)

    def know(self, x: Floats, losses: Doubles) -> None:
        """Points of the box that the model may use."""
        self._remember(self._space.unit(x), losses)

    def _remember(self, z: Doubles, losses: Doubles) -> None:
        if self._model is None:
            return
        fine = np.isfinite(losses)
        capacity = self._model.capacity
        self._known_z = np.concatenate([self._known_z, z[fine]])[-capacity:]
        self._known_loss = np.concatenate([self._known_loss, losses[fine]])[-capacity:]

    def select(self, results: Results) -> None:
        stepped = (results.id == self._step_trial) & (results.id >= 0)
        self._arrived.append((self._space.unit(results.x), results.loss.copy(), results.violation.copy(), stepped))

    @np.errstate(over="ignore", invalid="ignore")  # losses near the largest number
    def end_generation(self) -> None:
        if not self._arrived:
            return
        z, losses, violation, stepped = (np.concatenate(column) for column in zip(*self._arrived, strict=True))
        self._arrived = []
        finite = np.isfinite(losses)
        z, losses, violation, stepped = z[finite], losses[finite], violation[finite], stepped[finite]
        if len(losses) == 0:
            return
        order = np.lexsort((losses, violation))
        feasible = not violation.any()
        if self._model is not None and feasible:
            self._model.judge(z[~stepped], losses[~stepped])
        improved = False
        if self._model is not None and stepped.any():
            improved = bool(stepped[order[0]] and feasible and losses[order[0]] < self._best)
            self._model.reward(improved)
        self._best = min(self._best, float(losses.min())) if feasible else self._best
        self._note(float(losses[order[0]]), float(violation[order[0]]))
        self._middles = [*self._middles[-9:], float(np.median(losses)) if feasible else np.inf]
        if self._model is None:
            self._means = [*self._means[-8:], self.distribution.mean]
        self.distribution.learn(z[order])
        if improved:
            self.distribution.mean = z[order[0]].copy()
        self._step, self._step_trial = None, -1
        if self._model is not None and feasible:
            self._remember(z, losses)
            self._model.fit(self._known_z, self._known_loss, self.distribution.frame)
            if self._model.trusted and (step := self._model.step()) is not None:
                self._step = self._space.clipped(step)
        self.over = self.distribution.narrow or self._stagnates()

    def _note(self, loss: float, violation: float) -> None:
        """Add a generation's best to the history: violations until one is 0, losses from then on."""
        if violation == 0 and self._violated:
            self._history = []
        self._violated = violation > 0
        self._history.append(violation if violation > 0 else loss)

    def _stagnates(self) -> bool:
        """Whether the best losses of generations have become equal or no longer fall (Hansen 2009, BIPOP-CMA-ES)."""
        h, d = self._history, self._space.d
        recent = 10 + math.ceil(30 * d / self.size)
        if len(h) >= recent:
            last = h[-recent:]
            if max(last) - min(last) <= 4 * np.finfo(np.float64).eps * abs(min(last)):
                return True
        if len(h) <= 120 + 30 * d / self.size:
            return False
        window = max(20, min(int(0.3 * len(h)), len(h) // 2))
        return bool(np.median(h[-window:]) >= np.median(h[-2 * window : -window]))
