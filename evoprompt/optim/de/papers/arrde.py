"""ARRDE: jSO with restarts away from what was found, and refinement of what all restarts found.

Muzakka, Shali, Suhendar, Moeller & Finsterbusch 2025, "... The ARRDE algorithm", arXiv:2511.18429, and
their program (Minion).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from evoprompt.optim.de.loop import Evolution
from evoprompt.optim.de.papers.jso import JSO, PhasedHistory
from evoprompt.optim.de.population import Population
from evoprompt.optim.de.schedule import nearest
from evoprompt.optim.de.variant import Variant
from evoprompt.optim.engine.algorithm import Problem, Results, Selection
from evoprompt.optim.engine.rng import Purpose
from evoprompt.optim.engine.starting import initial_points
from evoprompt.typing import Doubles, Indices

__all__ = ["ARRDE", "RestartingEvolution", "TightHistory", "arrde_size"]

_SPREAD = 1e-5
_RESTARTS = 2
_ARCHIVED = 1000
_LAST_PHASE = 0.9


class RestartingEvolution(Evolution):
    """jSO that begins again once its population's losses agree to 1e-5, which is kept.

    It begins with fresh points outside the regions that earlier populations ended in (a restart), or with a random
    choice of all recorded points (a refinement). At nine tenths of the budget the population grows again and refines
    for the rest. Details follow the authors' program (Minion); where points are drawn, only the random numbers differ.
    """

    _ended: Population
    """Members of populations that have ended."""
    _ended_archive: Population
    """What was in their archives."""
    _milestones: Population
    """Each new best point of the first run."""
    _memories: list[Doubles]
    """Cells (2, H) of M_F and M_CR when first runs and refinements ended."""
    _phase: str
    _restarts: int
    """In a row; the first run counts."""
    _episode: int
    _born: bool
    """Whether this generation's points are a restart's starting points."""
    _regions: list[list[tuple[float, float]]]
    """To keep out of, per coordinate."""

    def __init__(self, spec: Variant, problem: Problem, **settings: Any) -> None:
        super().__init__(spec, problem, **settings)
        nobody = np.empty((0, self._box.d), self._box.dtype)
        self._ended, self._ended_archive, self._milestones = (Population(nobody) for _ in range(3))
        self._memories = []
        self._phase = "first"
        self._restarts = 1
        self._episode = 0
        self._born = False
        self._regions = [[] for _ in range(self._box.d)]

    def select(self, results: Results) -> Selection:
        before = self._members.reached
        selection = super().select(results)
        if self._phase == "first" and self._generation > 0 and self._members.reached < before:
            self._milestones = Population.joined(self._milestones, self._members.best_first(1))
        return selection

    def _resize(self) -> None:
        if self._born or self._generation == 1:
            self._born = False
            return
        wanted = self._wanted()
        grow = wanted > len(self._members)
        super()._resize()
        if grow or self._has_converged():
            self._begin_again(wanted, refine=grow)

    def _has_converged(self) -> bool:
        # The last refinement goes on to the end; in the program only losses that are exactly equal end it.
        last = self._phase == "refine" and self._progress > _LAST_PHASE
        loss = self._members.loss
        if last or not np.isfinite(loss).all():
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(loss.std() <= _SPREAD * abs(loss.mean()))

    def _begin_again(self, size: int, *, refine: bool) -> None:
        """Keep what the population found and replace it."""
        here = self._ended.reached <= self._members.reached
        restart = self._phase in ("first", "refine") or (here and self._restarts < _RESTARTS)
        self._keep_what_was_found()
        self._episode += 1
        self._archive.clear()
        self._archive.resize(self._archive_size(size), self._streams.of(self._episode, Purpose.RESTART))
        if restart and not refine:
            self._restart(size)
        else:
            self._refine(size)
        if self._lifetimes is not None:
            self._lifetimes.begin_again(len(self._members))

    def _keep_what_was_found(self) -> None:
        members, archive = self._members, self._archive
        if self._phase in ("first", "refine"):
            self._memories.append(self._adaptation.cells)
        self._ended = Population.joined(self._ended, members)
        beaten = archive.parents.best_first(len(archive.x))
        known = Population.joined(self._ended_archive, beaten)
        self._ended_archive = known.taken(np.arange(len(known))[-_ARCHIVED:])
        centre, reach = members.x.mean(axis=0, dtype=np.float64), members.x.std(axis=0, dtype=np.float64)
        low = np.maximum(centre - reach, self._box.low)
        high = np.minimum(centre + reach, self._box.high)
        sides = zip(low, high, strict=True)
        self._regions = [_merged([*former, new]) for former, new in zip(self._regions, sides, strict=True)]

    def _restart(self, size: int) -> None:
        x = initial_points(self._box, size, self._streams, stratified=False, episode=self._episode)
        rng = self._streams.of(self._episode, Purpose.RESTART)
        low, high = self._box.low.astype(np.float64), self._box.high.astype(np.float64)
        for j, regions in enumerate(self._regions):
            u = rng.random(size)
            if np.isfinite(high[j] - low[j]):
                x[:, j] = _moved_out(x[:, j].astype(np.float64), regions, low[j], high[j], u)
        self._members = Population(np.clip(x, self._box.low, self._box.high))
        self._unborn = np.ones(size, dtype=bool)
        self._born = True
        spec, memory = self.spec, self._adaptation.cells.shape[1]
        self._adaptation.begin_again(np.full(memory, spec.f), np.full(memory, spec.cr))
        self._phase = "restart"
        self._restarts += 1

    def _refine(self, size: int) -> None:
        rng = self._streams.of(self._episode, Purpose.RESTART)
        chosen = self._ended.taken(rng.permutation(len(self._ended))[:size])
        if self._progress > _LAST_PHASE:
            chosen = Population.joined(self._ended.best_first(1), chosen.taken(np.arange(1, len(chosen))))
        for points in (self._milestones, self._ended_archive):
            chosen = Population.joined(chosen, points.best_first(size - len(chosen)))
        source = self._milestones if len(self._milestones) else self._ended
        rows = (rng.random(size - len(chosen)) * len(source)).astype(np.int64)
        self._members = Population.joined(chosen, source.taken(rows))
        self._unborn = np.zeros(size, dtype=bool)
        cells = np.concatenate(self._memories, axis=1)
        memory = self._adaptation.cells.shape[1]
        m_cr = cells[1][(rng.random(memory) * cells.shape[1]).astype(np.int64)]
        m_f = cells[0][(rng.random(memory) * cells.shape[1]).astype(np.int64)]
        self._adaptation.begin_again(m_f, m_cr)
        self._phase = "refine"
        self._restarts = 0


def _merged(regions: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Overlapping regions joined.

    Examples
    --------
    >>> _merged([(3, 4), (0, 1), (0.5, 2)])
    [(0, 2), (3, 4)]
    """
    joined: list[tuple[float, float]] = []
    for low, high in sorted(regions):
        if joined and low <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return joined


def _moved_out(x: Doubles, regions: list[tuple[float, float]], low: float, high: float, u: Doubles) -> Doubles:
    """Coordinates x (n,) with those inside a region drawn again, uniformly from what is left of [low, high]."""
    edges = [low, *(edge for region in regions for edge in region), high]
    free = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a] or [(low, high)]
    inside = np.zeros(len(x), dtype=bool)
    for a, b in regions:
        inside |= (x >= a) & (x <= b)
    lengths = np.array([b - a for a, b in free])
    ends = np.cumsum(lengths)
    position = u * ends[-1]
    which = np.minimum(np.searchsorted(ends, position, side="right"), len(free) - 1)
    starts = np.array([a for a, _ in free])
    return np.where(inside, starts[which] + position - (ends - lengths)[which], x)


class TightHistory(PhasedHistory):
    """ARRDE's memory: jSO's with a spread of 0.05, whose last cell becomes 0.9, 0.9 only when it is written."""

    SPREAD = 0.05

    def _cells(self, r: Indices) -> tuple[Doubles, Doubles]:
        return self.m_f[r], self.m_cr[r]

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        super()._write(cell, f, cr, weights)
        if cell == len(self.m_f) - 1:
            self.m_f[cell] = self.m_cr[cell] = 0.9

    @property
    def cells(self) -> Doubles:
        """M_F and M_CR, (2, H)."""
        return np.stack([self.m_f, self.m_cr])

    def begin_again(self, m_f: Doubles, m_cr: Doubles) -> None:
        """Refill the memory and write from its first cell on."""
        self.m_f, self.m_cr, self._next = m_f.copy(), m_cr.copy(), 0


def arrde_size(initial: int, minimum: int, progress: float, d: int) -> int:
    """ARRDE: a fall to max(4, d / 2) at nine tenths of the budget, steeper for few coordinates; then a second wave.

    From Muzakka et al.'s program (Minion, ``ARRDE::adjustPopulationSize``).

    Examples
    --------
    >>> [arrde_size(100, 4, progress, 20) for progress in (0, 0.5, 0.9, 0.91, 1)]
    [100, 28, 10, 37, 10]
    """
    least = max(4.0, 0.5 * d)
    if progress <= 0.9:
        power = 1.0 + 4.303 * math.exp(-0.073 * d)
        return nearest(initial - (initial - least) * (1 - (1 - progress / 0.9) ** power))
    second = max(2.0 * d, 0.2 * initial)
    return nearest(second - (second - least) * (progress - 0.9) / 0.1)


def _popsize(d: int, budget: int | None) -> float:
    """D (log10 (budget / D))^2.2, at least 2 D; without a budget as for 10 000 evaluations per coordinate."""
    per_coordinate = 10_000 if budget is None else max(budget / d, 1.0)
    return max(d * math.log10(per_coordinate) ** 2.2, 2 * d)


# N from the budget per coordinate, the rest as in jSO.
ARRDE = replace(
    JSO, name="arrde", adaptation=TightHistory, size=_popsize, schedule=arrde_size, overwrite=False,
    algorithm=RestartingEvolution,
)  # fmt: skip
