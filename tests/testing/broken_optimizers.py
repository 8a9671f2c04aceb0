"""Optimizers with one fault each: a working engine behind a wrapper that spoils one thing."""

from __future__ import annotations

import numpy as np

from evoprompt.optim import Best, DifferentialEvolution, Evaluation, Trials
from evoprompt.optim.adapters.random_search import RandomSearch


class Faithful:
    """Passes everything on, and so is as good as what it wraps."""

    engine = DifferentialEvolution

    def __init__(self, bounds, **options):
        self.inner = self.engine(bounds, variant="shade", **options)
        self.d = self.inner.d

    name = property(lambda self: self.inner.name)
    stages = property(lambda self: self.inner.stages)
    budget = property(lambda self: self.inner.budget)
    evaluations = property(lambda self: self.inner.evaluations)
    asked = property(lambda self: self.inner.asked)
    failed = property(lambda self: self.inner.failed)
    generation = property(lambda self: self.inner.generation)
    best = property(lambda self: self.inner.best)
    population = property(lambda self: self.inner.population)
    recommendation = property(lambda self: self.inner.recommendation)

    def ask(self, n=None):
        return self.inner.ask(n)

    def tell(self, trials, losses, violation=None):
        self.inner.tell(trials, losses, violation)

    def warm_start(self, x, losses):
        self.inner.warm_start(x, losses)

    def should_stop(self):
        return self.inner.should_stop()

    def state_dict(self):
        return self.inner.state_dict()

    def load_state_dict(self, state):
        self.inner.load_state_dict(state)


class CountsNoStages(Faithful):
    """Says of every stage that it had nothing."""

    stages = property(lambda self: dict.fromkeys(self.inner.stages, 0))


class Shifting(Faithful):
    """Hands out points somewhere else than the engine proposed."""

    def __init__(self, bounds, *, seed, **options):
        super().__init__(bounds, seed=seed, **options)
        self.low, self.high = np.array(bounds, dtype=float).T

    def shift(self, n):
        raise NotImplementedError

    def ask(self, n=None):
        trials = self.inner.ask(n)
        return Trials(trials.ids, np.clip(trials.x + 1e-3 * self.shift(len(trials)), self.low, self.high))


class HandsOutArrays(Faithful):
    def ask(self, n=None):
        return self.inner.ask(n).x


class IgnoresItsSeed(Faithful):
    def __init__(self, bounds, *, seed, **options):
        super().__init__(bounds, seed=None, **options)


class UsesTheGlobalGenerator(Shifting):
    def shift(self, n):
        return np.random.rand(n, self.d)  # noqa: NPY002


class LeavesTheBox(Faithful):
    def ask(self, n=None):
        trials = self.inner.ask(n)
        middle = trials.x.mean(axis=0) if len(trials) else 0.0
        return Trials(trials.ids, middle + 1.5 * (trials.x - middle))


class MovesFixedCoordinates(Faithful):
    def __init__(self, bounds, **options):
        super().__init__([(low - 0.1, high + 0.1) if low == high else (low, high) for low, high in bounds], **options)


class AlwaysDouble(Faithful):
    def __init__(self, bounds, *, dtype, **options):
        super().__init__(bounds, dtype="float64", **options)


class ForgetsItsBudget(Faithful):
    def __init__(self, bounds, *, budget, **options):
        super().__init__(bounds, budget=None, **options)
        self.most = budget

    budget = property(lambda self: self.most)


class StopsShort(Faithful):
    def __init__(self, bounds, *, budget, **options):
        super().__init__(bounds, budget=budget - 1, **options)
        self.most = budget

    budget = property(lambda self: self.most)


class GivesWhatIsAskedFor(Faithful):
    """Knows its budget for whole batches, and forgets it when a number is asked for."""

    def __init__(self, bounds, *, budget, **options):
        super().__init__(bounds, budget=None, **options)
        self.most = budget

    budget = property(lambda self: self.most)

    def ask(self, n=None):
        left = self.most - self.inner.evaluations
        return self.inner.ask()[:left] if n is None and left < 8 else self.inner.ask(n)

    def should_stop(self):
        return "budget" if self.evaluations >= self.most else None


class TakesAnyNumber(Faithful):
    def ask(self, n=None):
        return self.inner.ask(None if n is None else max(0, int(n)))


class IgnoresGivenPoints(Faithful):
    def __init__(self, bounds, *, x0=None, **options):
        super().__init__(bounds, **options)


class IgnoresItsTarget(Faithful):
    def __init__(self, bounds, *, target=None, **options):
        super().__init__(bounds, **options)


class NeverLearns(RandomSearch):
    pass


class LearnsInTheOrderTold(Faithful):
    def __init__(self, bounds, *, updating="immediate", **options):
        super().__init__(bounds, updating=updating, **options)


class BestIsTheLatest(Faithful):
    latest = None

    def tell(self, trials, losses, violation=None):
        self.inner.tell(trials, losses, violation)
        if isinstance(trials, Trials) and len(trials):
            self.latest = Best(trials.x[-1], float(losses[-1]), int(trials.ids[-1]))

    best = property(lambda self: self.latest)


class DropsGuests(Faithful):
    def tell(self, trials, losses, violation=None):
        if isinstance(trials, Trials):
            self.inner.tell(trials, losses, violation)


class TakesArraysForGuests(Faithful):
    def tell(self, trials, losses, violation=None):
        if not isinstance(trials, Trials):
            trials = Trials(np.full(len(trials), -1), trials)
        self.inner.tell(trials, losses, violation)


class CountsTwice(Faithful):
    def tell(self, trials, losses, violation=None):
        try:
            self.inner.tell(trials, losses, violation)
        except ValueError as error:
            if "told before" not in str(error):
                raise
            self.inner.tell(Trials(np.full(len(trials), -1), trials.x), losses)


class PadsLosses(Faithful):
    def tell(self, trials, losses, violation=None):
        if isinstance(losses, np.ndarray):
            losses = np.resize(losses, len(trials))
        self.inner.tell(trials, losses, violation)


class ForgetsOlderAsks(Faithful):
    newest = -1

    def ask(self, n=None):
        trials = self.inner.ask(n)
        self.newest = int(trials.ids[0]) if len(trials) else self.newest
        return trials

    def tell(self, trials, losses, violation=None):
        if isinstance(trials, Trials) and len(trials) and trials.ids[0] < self.newest:
            losses = np.full(len(trials), np.nan)
        self.inner.tell(trials, losses, violation)


class LooksAtLossesLater(Faithful):
    """Keeps the caller's losses by reference until it needs them."""

    waiting = None

    def tell(self, trials, losses, violation=None):
        self._look()
        self.waiting = (trials, losses)

    def _look(self):
        if self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            self.inner.tell(*waiting)

    def ask(self, n=None):
        self._look()
        return self.inner.ask(n)

    @property
    def best(self):
        self._look()
        return self.inner.best


class MixesUpItsPopulation(Faithful):
    @property
    def population(self):
        x, losses = self.inner.population
        return x, np.roll(losses, 1)


class NanWins(Faithful):
    """Takes the smallest loss as argmin sees it, in which NaN comes first."""

    def __init__(self, bounds, **options):
        super().__init__(bounds, **options)
        self.told, self.bad = [], np.nan

    def tell(self, trials, losses, violation=None):
        self.inner.tell(trials, losses, violation)
        values = Evaluation.of(losses, len(trials)).loss
        ids = trials.ids if isinstance(trials, Trials) else np.full(len(trials), -1)
        self.told.extend(Best(x, loss, i) for x, loss, i in zip(trials, values.tolist(), ids.tolist(), strict=True))

    @property
    def best(self):
        return self.told[int(np.argmin([one.loss for one in self.told]))] if self.told else None


class CountsInfinityAsSuccess(Faithful):
    wrong = 0

    def tell(self, trials, losses, violation=None):
        self.inner.tell(trials, losses, violation)
        self.wrong += int(np.isposinf(losses).sum())

    failed = property(lambda self: self.inner.failed - self.wrong)


class NeverNamesFailure(Faithful):
    def should_stop(self):
        reason = self.inner.should_stop()
        return None if reason == "failed" else reason


class GivesUp(Faithful):
    def ask(self, n=None):
        if self.failed > 30 and self.best is None:
            raise RuntimeError("nothing finite in thirty evaluations")
        return self.inner.ask(n)


class DividesByTheSpread(Faithful):
    def tell(self, trials, losses, violation=None):
        values = np.asarray(losses, dtype=float)
        with np.errstate(invalid="ignore"):
            self.inner.tell(trials, (values - values.min(initial=0)) / np.ptp(values), violation)


class LastOfEqualsWins(Faithful):
    chosen = None

    def tell(self, trials, losses, violation=None):
        self.inner.tell(trials, losses, violation)
        for x, loss, i in zip(trials.x, losses, trials.ids, strict=True):
            if self.chosen is None or loss <= self.chosen.loss:
                self.chosen = Best(x, float(loss), int(i))

    best = property(lambda self: self.chosen)


class SquaresLosses(Faithful):
    def tell(self, trials, losses, violation=None):
        with np.errstate(over="ignore"):
            self.inner.tell(trials, np.sign(losses) * np.square(losses), violation)


class NanIsNeverReplaced(Faithful):
    """A member that failed once wins every comparison afterwards, as where ``trial <= nan`` decides."""

    true = None

    def tell(self, trials, losses, violation=None):
        values = np.asarray(losses, dtype=float)
        self.inner.tell(trials, np.where(np.isnan(values), -1e30, values), violation)
        for x, loss, i in zip(trials.x, values.tolist(), trials.ids.tolist(), strict=True):
            if np.isfinite(loss) and (self.true is None or loss < self.true.loss):
                self.true = Best(x, loss, i)

    best = property(lambda self: self.true)


class SavesNoGenerator(Shifting):
    def __init__(self, bounds, *, seed, **options):
        super().__init__(bounds, seed=seed, **options)
        self.generator = np.random.default_rng(seed)

    def shift(self, n):
        return self.generator.random((n, self.d))


class HashesStrings(Shifting):
    """Depends on ``hash``, which is another function in every process."""

    def shift(self, n):
        return hash("generator") % 997 / 997


class SavesLiveArrays(Shifting):
    def __init__(self, bounds, *, seed, **options):
        super().__init__(bounds, seed=seed, **options)
        self.drawn = np.zeros(1)

    def shift(self, n):
        self.drawn += n
        return self.drawn % 1.7

    def state_dict(self):
        return {"inner": self.inner.state_dict(), "drawn": self.drawn}

    def load_state_dict(self, state):
        self.inner.load_state_dict(state["inner"])
        self.drawn = np.array(state["drawn"])


class TakesAnyState(Faithful):
    def load_state_dict(self, state):
        self.inner.load_state_dict({**state, "config": self.inner.state_dict()["config"]})
