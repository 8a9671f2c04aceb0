"""L-SRTDE: two populations, the newest points and the best ones, and F from the share of successes.

V. Stanovov, E. Semenkin, "Success rate-based adaptive differential evolution L-SRTDE for CEC 2024 competition",
CEC 2024, and their program.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from evoprompt.optim.de.loop import Evolution
from evoprompt.optim.de.memory import NORMAL, Adaptation, lehmer, normal_rate
from evoprompt.optim.de.mutation import Draws, Pool, Recipe, Step, distinct
from evoprompt.optim.de.population import HUGE, Population, ranking
from evoprompt.optim.de.schedule import Members
from evoprompt.optim.de.variant import Variant
from evoprompt.optim.engine.algorithm import Problem, Results, Selection
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["LSRTDE", "NewestEvolution", "SuccessRate", "newest_to_best_1", "truncated_linear"]

_TARGET = 9  # the uniform that chooses which newest point a trial starts from


class NewestEvolution(Evolution):
    """The loop over the newest points and the best ones.

    A trial that is not worse than the newest point it started from takes the next place in a ring of newest
    points; the best N of all make up the other population. The ring is written as results come: with
    immediate updating and one trial at a time this is the paper's order, where a generation's later trials see
    its earlier successes; with whole generations all trials are made from the ring as it was. Members are never
    evaluated again, so ``noise`` is refused.
    """

    tags = ("f", "cr", "target")

    _best: Population | None
    """Best first; None until the starting points are known."""
    _ring_order: Indices
    """Ranks of the newest points when the generation began."""
    _ring_next: int
    _arrived: list[tuple[Floats, float, float, int]]
    """Successes: x, loss, violation, id."""
    _successes: int

    def __init__(self, spec: Variant, problem: Problem, **settings: Any) -> None:
        if problem.noise is not None:
            raise ValueError(f'"lsrtde" does not evaluate members again, so noise must be None, got {problem.noise!r}')
        super().__init__(spec, problem, **settings)
        self._best = None
        self._ring_order = np.arange(self.popsize)
        self._ring_next = 0
        self._arrived = []
        self._successes = 0

    @property
    def population(self) -> tuple[Floats, Doubles]:
        """The best points; the starting points while these are evaluated."""
        members = self._members if self._best is None else self._best
        return members.x.copy(), members.loss.copy()

    def _sources(self, slots: Indices, u: Doubles) -> tuple[Indices, Indices, Pool]:
        m, best = len(self._members), self._members if self._best is None else self._best
        known = m if self._best is None else max(1, len(best.order))
        leaders = max(2, int(m * 0.7 * np.exp(-7.0 * self._adaptation.rate)))
        targets = (u[:, _TARGET] * m).astype(np.int64)
        return targets, np.full(len(u), min(leaders, known)), Pool(self._members.x, self._ring_order, best.x)

    def _tagged(self, target: Indices, f: Doubles, cr: Doubles) -> Doubles:
        return np.stack([f, cr, target.astype(np.float64)], axis=1)

    def _note_crossover(self, tags: Doubles, kept: Bools | None) -> None:
        tags[:, 1] = 1.0 if kept is None else 1.0 - kept.mean(axis=1)

    def _compete(self, results: Results, rows: Indices, selection: Selection) -> None:
        if self._best is None:
            super()._compete(results, rows, selection)
            return
        won, gains = [], []
        for row, target in zip(rows.tolist(), results.tags[rows, 2].tolist(), strict=True):
            if not target < len(self._members):  # NaN: not made from a newest point
                self._admit(results, row, selection)
            elif (gain := self._challenge(results, row, int(target), selection)) is not None:
                won.append(row)
                gains.append(gain)
        if won:
            self._note_successes(results.tags[won, 0], results.tags[won, 1], np.array(gains))

    def _challenge(self, results: Results, row: int, target: int, selection: Selection) -> float | None:
        """One trial against the newest point it started from; what it gained, None where nothing can be learnt."""
        members, loss, violation = self._members, results.loss.item(row), results.violation.item(row)
        old_loss, old_violation = members.loss.item(target), members.violation.item(target)
        selection.parent_id[row], selection.parent_loss[row] = members.id[target], old_loss
        if loss == np.inf or (violation, loss) > (old_violation, old_loss):
            return None
        selection.replaced[row] = True
        self._successes += 1
        members.place(np.array([self._ring_next]), results, np.array([row]))
        self._arrived.append((results.x[row], loss, violation, results.id.item(row)))
        self._ring_next = (self._ring_next + 1) % len(members)
        if old_loss == np.inf:
            return None
        return min(old_loss - loss if violation == old_violation else old_violation - violation, HUGE)

    def _admit(self, results: Results, row: int, selection: Selection) -> None:
        if self._best is None:
            super()._admit(results, row, selection)
            return
        worst, key = len(self._best) - 1, (float(results.violation[row]), float(results.loss[row]))
        selection.parent_id[row], selection.parent_loss[row] = self._best.id[worst], self._best.loss[worst]
        if key[1] < np.inf and key < (float(self._best.violation[worst]), float(self._best.loss[worst])):
            selection.replaced[row] = True
            self._arrived.append((results.x[row], key[1], key[0], int(results.id[row])))

    def end_generation(self, progress: float) -> None:
        if self._best is None:  # the starting points, best first, become both populations
            self._best = self._members.best_first(len(self._members))
            self._members = self._best.taken(np.arange(len(self._best)))
        else:
            self._adaptation.rate = self._successes / len(self._members)
        super().end_generation(progress)
        self._merge()
        self._ring_order = ranking(self._members.loss, self._members.violation)
        self._ring_next %= len(self._members)
        self._successes = 0

    def _merge(self) -> None:
        """The best points are the best of the old ones and the successes."""
        best, arrived = self._best, self._arrived
        assert best is not None
        if not arrived and len(best) == len(self._members):
            return
        loss = np.concatenate([best.loss, [row[1] for row in arrived]])
        violation = np.concatenate([best.violation, [row[2] for row in arrived]])
        ids = np.concatenate([best.id, np.array([row[3] for row in arrived], dtype=np.int64)])
        chosen = ranking(loss, violation)[: len(self._members)]
        x = best.x.take(chosen, axis=0, mode="clip")
        for k in (chosen >= len(best)).nonzero()[0].tolist():
            x[k] = arrived[chosen[k] - len(best)][0]
        self._best, self._arrived = Population(x, loss[chosen], violation[chosen], ids[chosen]), []


class SuccessRate(Adaptation):
    """F from the share of trials that succeeded, CR from ``memory`` cells (the paper's H), all ``cr`` at first.

    F is normal around 0.4 + 0.25 tanh(5 SR) with deviation 0.02, redrawn outside [0, 1]; CR is normal around a
    random cell with deviation 0.05. A cell is averaged with the weighted Lehmer mean of the *actual* rates,
    the shares of coordinates that came from the donor.
    """

    m_cr: Doubles
    rate: float
    _next: int

    def __init__(self, cr: float, memory: int, **_: Any) -> None:
        self.m_cr = np.full(memory, cr)
        self.rate = 0.5
        self._next = 0

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        mean = 0.4 + 0.25 * math.tanh(5 * self.rate)
        low, high = NORMAL.cdf(-mean / 0.02), NORMAL.cdf((1 - mean) / 0.02)
        f = normal_rate(mean, 0.02, low + u[:, 1] * (high - low))
        r = (u[:, 0] * len(self.m_cr)).astype(np.int64)
        return f, normal_rate(self.m_cr[r], 0.05, u[:, 2])

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        # Ties count as successes, but have no weight; with nothing else there is no mean.
        if len(gains) and gains.max() > 0:
            weights = gains / gains.max()
            mean = lehmer(cr, weights / weights.sum(), 1.0)
            self.m_cr[self._next] = 0.5 * (mean + self.m_cr[self._next])
            self._next = (self._next + 1) % len(self.m_cr)


def newest_to_best_1(pool: Pool, draws: Draws) -> Recipe:
    """L-SRTDE's strategy on two populations: v = new_i + F (top_pbest - new_i) + F (new_r1 - top_r2).

    ``pool.x`` holds the newest points and ``pool.order`` ranks all of them;
    ``pool.other`` holds the best ones, best first. r1 is drawn by rank with weights exp(-3 rank / N), and the
    numbers i != p-best != r1 != r2 differ, whichever population they point into.
    """
    m = len(pool.x)
    crowd = np.minimum(draws.leaders, len(pool.other))
    excluded = (draws.target < crowd) & (crowd > 1)
    pbest = np.floor(draws.u[:, 0] * (crowd - excluded)).astype(np.int64)
    pbest += excluded & (pbest >= draws.target)
    weights = np.exp(-3.0 * np.arange(m) / m)
    below = np.concatenate([[0.0], np.cumsum(weights)])
    rank_of = np.empty(m, dtype=np.int64)
    rank_of[pool.order] = np.arange(m)
    barred = rank_of[pbest]
    value = draws.u[:, 1] * (below[-1] - weights[barred])
    value += np.where(value >= below[barred], weights[barred], 0.0)
    r1 = pool.order[np.minimum(np.searchsorted(below, value, side="right") - 1, m - 1)]
    r2 = distinct(draws.u[:, 2], m, pbest, r1)
    return Recipe(draws.target, (Step(draws.f, m + pbest, draws.target), Step(draws.f, r1, m + r2)))


def truncated_linear(initial: int, minimum: int, progress: float, d: int) -> int:
    """Linear reduction rounded down, as in L-SRTDE's program."""
    return int((minimum - initial) * progress + initial)


# N = 20 D, H = 5, M_CR = 1, points outside the box are drawn again.
LSRTDE = Variant(
    "lsrtde", newest_to_best_1, adaptation=SuccessRate, cr=1.0, size=Members(each=20), schedule=truncated_linear,
    memory=5, repair="resample", algorithm=NewestEvolution,
)  # fmt: skip
