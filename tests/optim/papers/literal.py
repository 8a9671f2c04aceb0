"""What the literal references share: one trial's random numbers, and steps that every paper has, in scalars."""

import itertools
import math
from statistics import NormalDist

import numpy as np

from evoprompt.optim.de.loop import make_evolution
from evoprompt.optim.de.papers import VARIANTS
from evoprompt.optim.engine.algorithm import Problem, Results
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import Purpose, TrialStreams

D, LOW, HIGH, SEED = 6, -2.0, 3.0, 5


def loss_of(x):
    """Rosenbrock's valley in turned coordinates, so that no coordinate can be improved alone."""
    y = [(0.8 * a - 0.6 * b) for a, b in zip(x, [*x[1:], x[0]], strict=True)]
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(y))


class Literal:
    """A population in lists, and the numbers of one trial after another."""

    def __init__(self, population, losses, budget=None):
        self.x, self.loss = [row.tolist() for row in population], list(losses)
        self.n0 = len(self.x)
        self.streams, self.trial, self.generations, self.budget = TrialStreams(SEED), self.n0, 1, budget

    @property
    def progress(self):
        return self.trial / self.budget if self.budget else 0.0

    def uniforms(self, trial):
        return self.streams.uniforms(np.array([trial]), 12)[0].tolist()

    def archive_uniform(self, trial):
        return self.streams.uniforms(np.array([trial]), 1, Purpose.ARCHIVE)[0].tolist()[0]

    def ranked(self):
        return sorted(range(len(self.x)), key=lambda j: (self.loss[j], j))

    def cross(self, trial, parent, donor, cr, u):
        """Binomial crossover, then JADE's midpoint repair."""
        shorts = self.streams.shorts(np.array([trial]), D)[0].tolist()
        j_rand, out = int(u * D), []
        for j in range(D):
            out.append(donor[j] if shorts[j] < round(cr * 65536) or j == j_rand else parent[j])
        return mended(out, parent)

    def generation(self):
        """One generation's trials as an array; selection and learning done."""
        first = self.trial
        made = [self.make(i, first + i) for i in range(len(self.x))]
        self.trial += len(made)
        losses = [loss_of(u[0]) for u in made]
        self.take(made, losses, first)
        self.generations += 1
        return np.array([u[0] for u in made])


def mended(v, parent):
    """Zhang & Sanderson 2009, section II: half way between the violated bound and the parent."""
    return [(LOW + p) / 2 if a < LOW else (HIGH + p) / 2 if a > HIGH else a for a, p in zip(v, parent, strict=True)]


def pick(u, choices):
    return choices[int(u * len(choices))]


def others(u, n, *taken):
    """A random number below n that is none of those taken."""
    return pick(u, [j for j in range(n) if j not in taken])


def positive_cauchy(location, scale, u):
    """A Cauchy number above 0, cut at 1: by inversion of the part of the distribution above 0."""
    at_zero = 0.5 + math.atan(-location / scale) / math.pi
    return min(1.0, location + scale * math.tan(math.pi * (at_zero + u * (1 - at_zero) - 0.5)))


def cut_normal(mean, deviation, u):
    return min(1.0, max(0.0, NormalDist(mean, deviation).inv_cdf(u)))


def lehmer(values, weights):
    total = sum(weights)
    above = sum(w / total * v * v for w, v in zip(weights, values, strict=True))
    return above / sum(w / total * v for w, v in zip(weights, values, strict=True))


class Driven:
    """The variant itself, driven generation by generation over the same function."""

    def __init__(self, name, popsize, budget=None, **settings):
        box = Box([(LOW, HIGH)] * D, "float64")
        problem = Problem(box, TrialStreams(SEED), budget, popsize, noise=settings.pop("noise", None))
        self.search = make_evolution(VARIANTS[name], problem, **settings)
        self.asked, self.budget = 0, budget

    def ask(self, slots=None):
        slots = np.arange(self.search.size) if slots is None else np.asarray(slots)
        ids = np.arange(self.asked, self.asked + len(slots))
        made = self.search.make(ids, slots)
        self.asked += len(slots)
        self.results = Results(
            ids, slots, made.x, np.array([loss_of(x) for x in made.x.tolist()]), np.zeros(len(ids)), made.tags
        )
        return made.x

    def tell(self, close=True):
        self.search.select(self.results)
        if close:
            self.search.end_generation(self.asked / self.budget if self.budget else math.nan)


def assert_same_trials(name, literal, popsize, generations, budget=None, **settings):
    """The variant and the literal reference make the same trials; returns both at the end."""
    driven = Driven(name, popsize, budget, **settings)
    first = driven.ask()
    reference = literal(first, driven.results.loss.tolist(), budget)
    driven.tell()
    for generation in range(generations):
        trials = driven.ask()
        np.testing.assert_allclose(trials, reference.generation(), rtol=1e-7, atol=1e-9, err_msg=f"{name} {generation}")
        driven.tell()
    return driven.search, reference
