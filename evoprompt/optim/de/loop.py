"""Population-based differential evolution, composed of small parts.

One generation reads: :meth:`Evolution.make` mutates, crosses and repairs; :meth:`Evolution.select` lets trials
compete with their parents; :meth:`Evolution.end_generation` adapts the parameters and the population size.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from evoprompt.optim.de.archive import Archive
from evoprompt.optim.de.mutation import Draws, Pool, mix
from evoprompt.optim.de.noise import Lifetimes
from evoprompt.optim.de.population import Population
from evoprompt.optim.de.variant import Variant, customised, variant_popsize
from evoprompt.optim.engine.algorithm import Made, Problem, Results, Selection
from evoprompt.optim.engine.rng import Purpose
from evoprompt.optim.engine.rows import pieces, rows_at, scratch
from evoprompt.optim.engine.starting import checked_popsize, drawn_points, initial_points
from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["LARGE", "UNIFORMS", "Evolution", "make_evolution"]

UNIFORMS = 12
"""Uniforms per trial: 4 for F, CR and p; 6 for p-best, r1, r2, ...; 2 for crossover."""

LARGE = 1 << 23
"""Bytes of a population from which on the archive is limited to half its rows, if its size was not asked for.

A run then holds at most four populations: the members, the trials being made, those of the generation before that the
caller still has, and the archive with everything else.
"""

_PARENTS, _CROSSING = slice(4, 10), slice(10, 12)


class Evolution(Stateful):
    """The algorithm of differential evolution: a population that evolves as a :class:`Variant` says.

    Parameters
    ----------
    spec : Variant
    problem : Problem
        Its budget is only for the population size, by :func:`evoprompt.optim.de.variant.variant_popsize`. With
        ``noise`` a generation may have more slots than members; those beyond evaluate members again, see
        :class:`evoprompt.optim.de.noise.Lifetimes`. Nothing has to be prepared for violations or rounding.
    repair : str, optional
        One of :data:`evoprompt.optim.engine.box.REPAIRS`; by default the variant's own.
    initial : str
        "latin" hypercube or "uniform".
    **options
        See :func:`evoprompt.optim.de.variant.customised`.

    Raises
    ------
    ValueError
        If an option is out of range, or the budget cannot pay for one population.
    """

    tags: ClassVar[tuple[str, ...]] = ("f", "cr")
    stages: ClassVar[tuple[str, ...]] = ("initial", "evolved")

    replaceable: int
    _members: Population
    _unborn: Bools
    """Slots whose starting point is still to be handed out."""
    _archive: Archive
    _adaptation: Any
    _lifetimes: Lifetimes | None
    _progress: float
    _generation: int
    _learnt: Doubles
    """F, CR and gain of this generation's successes, (3, s)."""

    def __init__(
        self,
        spec: Variant,
        problem: Problem,
        *,
        repair: str | None = None,
        initial: str = "latin",
        **options: Any,
    ) -> None:
        self.spec = spec = customised(spec, **options)
        box, x0, popsize = problem.box, problem.x0, problem.popsize
        if popsize is None:
            popsize = variant_popsize(spec, box.d, problem.budget)
        self.popsize = checked_popsize(popsize, problem.budget, spec.minimum)
        self.replaceable = self.popsize - (0 if x0 is None else len(x0))
        if self.replaceable < 0:
            raise ValueError(
                f"x0 has {self.popsize - self.replaceable} rows, more than the population of {self.popsize}"
            )
        self._box, self._streams = box, problem.streams
        self._repair = spec.repair if repair is None else repair
        self._strategy, self._crossover = spec.strategy, spec.cross
        memory = self.popsize if spec.memory is None else spec.memory
        self._adaptation = spec.adaptation(f=spec.f, cr=spec.cr, memory=memory, popsize=self.popsize)
        self._archive_asked = options.get("archive") is not None
        self._archive = Archive(self._archive_size(self.popsize), box.d, box.dtype, overwrite=spec.overwrite)
        self._members = Population(initial_points(box, self.popsize, self._streams, x0, stratified=initial == "latin"))
        self._scratch = scratch(box.d, box.dtype)
        self._lifetimes = None
        if problem.noise is not None:
            self._lifetimes = Lifetimes(problem.noise, self.popsize)
            self.tags, self.stages = (*self.tags, "again"), (*self.stages, "again")  # type: ignore[misc]
        self._unborn = np.ones(self.popsize, dtype=bool)
        self._progress = 0.0
        self._generation = 0
        self._learnt = np.empty((3, 0))

    @property
    def size(self) -> int:
        return len(self._members) + (0 if self._lifetimes is None else len(self._lifetimes.planned))

    @property
    def population(self) -> tuple[Floats, Doubles]:
        return self._members.x.copy(), self._members.loss.copy()

    @property
    def recommendation(self) -> Floats | None:
        """The member with the best mean loss where the objective turned out to be noisy; else None."""
        return None if self._lifetimes is None else self._lifetimes.recommended(self._members)

    def make(self, ids: Indices, slots: Indices) -> Made:
        """Trials for slots; a slot's first one in a generation of starting points is its starting point.

        Slots beyond the members evaluate some of these again.
        """
        here = slots < len(self._members)
        if np.count_nonzero(here) == len(slots) and not np.count_nonzero(self._unborn[slots]):
            return self._evolve(ids, slots)
        first = here.copy()
        first[here] = self._unborn[slots[here]]
        repeated = np.ones(len(slots), dtype=bool)
        repeated[np.unique(slots, return_index=True)[1]] = False
        first &= ~repeated
        self._unborn[slots[here]] = False
        evolved, again = here & ~first, ~here
        x = np.empty((len(ids), self._box.d), dtype=self._box.dtype)
        tags = np.full((len(ids), len(self.tags)), np.nan)
        x[first] = self._members.x[slots[first]]
        if evolved.any():
            x[evolved], tags[evolved], _ = self._evolve(ids[evolved], slots[evolved])
        if self._lifetimes is not None:
            which = self._lifetimes.planned[slots[again] - len(self._members)]
            x[again], tags[again, -1] = self._members.x[which], which
        return Made(x, tags, np.where(again, 2, np.isfinite(tags[:, 0])))

    def _evolve(self, ids: Indices, slots: Indices) -> Made:
        members, n, d = self._members, len(ids), self._box.d
        if len(members.order) == 0:
            return Made(drawn_points(self._box, self._streams, ids), np.full((n, len(self.tags)), np.nan), 0)
        u = self._streams.uniforms(ids, UNIFORMS)
        target, leaders, pool = self._sources(slots, u)
        f, cr = self._adaptation.draw(u, target, self._progress)
        weight = self.spec.weight(self._progress)
        recipe = self._strategy(pool, Draws(target, f, leaders, weight, u[:, _PARENTS]))
        x = np.empty((n, d), dtype=self._box.dtype)
        tags = self._tagged(target, f, cr)
        with np.errstate(over="ignore", invalid="ignore"):  # overflowing coordinates are repaired
            for part in pieces(n, d * x.itemsize):
                trials = x[part]
                spare = self._scratch[:, : len(trials)]
                mix(pool, recipe, part, trials, spare[0])
                parents = rows_at(members.x, target[part])
                numbers = u[part, _CROSSING], ids[part], self._streams
                kept = self._crossover(trials, parents, cr[part], *numbers, spare[0])
                self._box.repair(trials, parents, self._repair, ids[part], self._streams, spare)
                self._note_crossover(tags[part], kept)
        return Made(x, tags, 1)

    def _sources(self, slots: Indices, u: Doubles) -> tuple[Indices, Indices, Pool]:
        """The members that trials are made to replace, how many count as p-best, and what donors are made from."""
        members = self._members
        leaders = self.spec.leaders(u[:, 3], len(members), self._progress)
        return slots, leaders, Pool(members.x, members.order, self._archive.x)

    def _tagged(self, target: Indices, f: Doubles, cr: Doubles) -> Doubles:
        tags = np.full((len(f), len(self.tags)), np.nan)
        tags[:, 0], tags[:, 1] = f, cr
        return tags

    def _note_crossover(self, tags: Doubles, kept: Bools | None) -> None:
        """What a variant notes about the crossover it saw; ``tags`` may be written."""

    def select(self, results: Results) -> Selection:
        """One-to-one selection; guests and trials for slots that are no longer there compete with the worst."""
        n, slots = len(results.id), results.slot
        selection = Selection(np.zeros(n, dtype=bool), np.full(n, -1, dtype=np.int64), np.full(n, np.inf))
        here = (slots >= 0) & (slots < len(self._members))
        guests = ~here
        if self._lifetimes is not None:
            again = np.isfinite(results.tags[:, -1])
            here, guests = here & ~again, guests & ~again
            self._look_again(self._lifetimes, results, np.flatnonzero(again), selection)
        if len(rows := here.nonzero()[0]):
            self._compete(results, rows, selection)
        if np.count_nonzero(guests):
            order = np.lexsort((results.loss[guests], results.violation[guests]))
            for row in np.flatnonzero(guests)[order].tolist():
                self._admit(results, row, selection)
        return selection

    def _look_again(self, lifetimes: Lifetimes, results: Results, rows: Indices, selection: Selection) -> None:
        """Repeated evaluations go into their members' means."""
        for row in rows.tolist():
            slot = int(results.tags[row, -1])
            if slot < len(self._members) and np.array_equal(self._members.x[slot], results.x[row]):
                selection.parent_id[row], selection.parent_loss[row] = self._members.id[slot], self._members.loss[slot]
                lifetimes.learn(self._members, slot, float(results.loss[row]), self._generation)

    def _compete(self, results: Results, rows: Indices, selection: Selection) -> None:
        members, slots = self._members, results.slot[rows]
        duel, gain = members.duel(slots, results.loss[rows], results.violation[rows], ties=self.spec.ties)
        for all_of_them, these in zip(selection, duel, strict=True):
            all_of_them[rows] = these
        f, cr = results.tags[rows, 0], results.tags[rows, 1]
        success = (gain > 0) & duel.replaced
        self._archive.add(members, slots, results.id[rows], success, self._streams)
        success &= np.isfinite(f)
        if np.count_nonzero(success):
            self._note_successes(f[success], cr[success], gain[success])
        if np.count_nonzero(duel.replaced):
            evolved = duel.replaced & np.isfinite(f)
            self._adaptation.adopt(slots[evolved], f[evolved], cr[evolved])
            self._place(slots[duel.replaced], results, rows[duel.replaced])

    def _admit(self, results: Results, row: int, selection: Selection) -> None:
        slot, rows = np.array([self._members.worst()]), np.array([row])
        duel, _ = self._members.duel(slot, results.loss[rows], results.violation[rows], ties=False)
        for all_of_them, these in zip(selection, duel, strict=True):
            all_of_them[rows] = these
        if duel.replaced[0]:
            self._place(slot, results, rows)

    def _note_successes(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        self._learnt = np.concatenate([self._learnt, [f, cr, gains]], axis=1)

    def _place(self, slots: Indices, results: Results, rows: Indices) -> None:
        self._members.place(slots, results, rows)
        self._unborn[slots] = False
        if self._lifetimes is not None:
            self._lifetimes.replaced(slots, self._generation)

    def end_generation(self, progress: float) -> None:
        """Adapt F and CR to what succeeded and the population to the share of the budget that is spent."""
        self._progress = 0.0 if np.isnan(progress) else min(max(progress, 0.0), 1.0)
        self._generation += 1
        self._unborn[:] = False
        self._adaptation.learn(*self._learnt)
        self._learnt = np.empty((3, 0))
        self._resize()
        if self._lifetimes is not None:
            self._lifetimes.plan(self._members, self._generation)

    def _archive_size(self, members: int) -> int:
        """The variant's archive capacity for so many members; half of them where these are large, see ``Variant``."""
        capacity = round(self.spec.archive * members)
        large = self.popsize * self._box.d * self._box.dtype.itemsize > LARGE
        return min(capacity, self.popsize // 2) if large and not self._archive_asked else capacity

    def _wanted(self) -> int:
        """How many members the variant wants now."""
        spec = self.spec
        return max(spec.minimum, spec.schedule(self.popsize, spec.minimum, self._progress, self._box.d))

    def _resize(self) -> None:
        wanted = self._wanted()
        if self._generation == 1 or wanted >= len(self._members):
            return  # the papers shrink after a generation of trials
        keep = self._members.best(wanted)
        self._members.keep(keep)
        self._adaptation.keep(keep)
        if self._lifetimes is not None:
            self._lifetimes.keep(keep)
        self._unborn = self._unborn[keep]
        rng = self._streams.of(self._generation, Purpose.DESIGN)
        self._archive.resize(self._archive_size(wanted), rng)


def make_evolution(spec: Variant, problem: Problem, **settings: Any) -> Evolution:
    """The algorithm that runs a variant: an :class:`Evolution`, or the kind of it that the variant names.

    Parameters are those of :class:`Evolution`.
    """
    run: Any = spec.algorithm or Evolution
    evolution: Evolution = run(spec, problem, **settings)
    return evolution
