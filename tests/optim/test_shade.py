"""The engine against the papers, written out literally: trial by trial, in scalars, sharing only the streams."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from evoprompt.optim import DifferentialEvolution
from evoprompt.optim.adaptation import Archive, SuccessHistory
from evoprompt.optim.mutation import distinct
from evoprompt.optim.rng import Purpose, TrialStreams

D, N, SEED, LOW, HIGH = 6, 10, 5, -2.0, 3.0


def rosenbrock(x):
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


class LiteralShade:
    """Tanabe & Fukunaga 2013, Algorithm 1, with JADE's midpoint repair; float64."""

    def __init__(self, population, losses):
        self.x, self.loss = [row.copy() for row in population], list(losses)
        self.archive, self.m_f, self.m_cr, self.k = [], [0.5] * N, [0.5] * N, 0
        self.streams, self.trial = TrialStreams(SEED), N

    def pick(self, u, choices):
        return choices[int(u * len(choices))]

    def make(self, i):
        u = self.streams.of(self.trial).random(7).tolist()
        r = int(u[0] * N)
        at_zero = 0.5 + math.atan((0.0 - self.m_f[r]) / 0.1) / math.pi  # Cauchy distribution function at 0
        f = min(1.0, self.m_f[r] + 0.1 * math.tan(math.pi * (at_zero + u[1] * (1 - at_zero) - 0.5)))
        cr = min(1.0, max(0.0, NormalDist(self.m_cr[r], 0.1).inv_cdf(u[2])))
        ranked = sorted(range(N), key=lambda j: (self.loss[j], j))
        p = 2 / N + u[3] * (0.2 - 2 / N)
        best = self.pick(u[4], ranked[: max(2, int(p * N))])
        r1 = self.pick(u[5], [j for j in range(N) if j != i])
        union = self.x + self.archive
        r2 = self.pick(u[6], [j for j in range(len(union)) if j not in (i, r1)])
        rng = self.streams.of(self.trial, Purpose.CROSSOVER)
        j_rand = int(rng.random() * D)
        mask = rng.random(D, dtype=np.float32)
        trial = self.x[i].copy()
        for j in range(D):
            if mask[j] < cr or j == j_rand:
                v = self.x[i][j] + f * (self.x[best][j] - self.x[i][j]) + f * (self.x[r1][j] - union[r2][j])
                if v < LOW:
                    v = (LOW + self.x[i][j]) / 2
                elif v > HIGH:
                    v = (HIGH + self.x[i][j]) / 2
                trial[j] = v
        self.trial += 1
        return trial, f, cr

    def generation(self):
        made = [self.make(i) for i in range(N)]
        s_f, s_cr, gains = [], [], []
        for i, (u, f, cr) in enumerate(made):
            loss = rosenbrock(u)
            if loss < self.loss[i]:
                if len(self.archive) < N:
                    self.archive.append(self.x[i])
                else:
                    rng = self.streams.of(self.trial - N + i, Purpose.ARCHIVE)
                    self.archive[int(rng.random() * N)] = self.x[i]
                s_f, s_cr, gains = [*s_f, f], [*s_cr, cr], [*gains, self.loss[i] - loss]
            if loss <= self.loss[i]:
                self.x[i], self.loss[i] = u, loss
        if gains:
            w = [g / sum(gains) for g in gains]
            self.m_cr[self.k] = sum(a * b for a, b in zip(w, s_cr, strict=True))
            self.m_f[self.k] = sum(a * b * b for a, b in zip(w, s_f, strict=True)) / sum(
                a * b for a, b in zip(w, s_f, strict=True)
            )
            self.k = (self.k + 1) % N
        return np.array([u for u, _, _ in made])


def test_shade_gives_the_trials_of_the_paper_for_forty_generations():
    engine = DifferentialEvolution([(LOW, HIGH)] * D, seed=SEED, popsize=N, dtype="float64")
    first = engine.ask()
    losses = [rosenbrock(x) for x in first.x]
    engine.tell(first, losses)
    literal = LiteralShade(first.x, losses)
    for generation in range(40):
        trials = engine.ask()
        np.testing.assert_allclose(trials.x, literal.generation(), rtol=1e-9, atol=1e-12, err_msg=str(generation))
        engine.tell(trials, [rosenbrock(x) for x in trials.x])
    assert len(literal.archive) == N
    assert len(set(literal.m_f)) > 1


def test_positive_cauchy_by_inversion_has_the_distribution_of_redrawing():
    memory = SuccessHistory(size=1, f=0.1)
    u = np.random.default_rng(0).random((20_000, 3))
    f, _ = memory.draw(u)
    redrawn = 0.1 + 0.1 * np.random.default_rng(1).standard_cauchy(60_000)
    redrawn = np.minimum(redrawn[redrawn > 0], 1.0)
    for q in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.quantile(f, q) == pytest.approx(np.quantile(redrawn, q), abs=0.015)
    assert (f > 0).all()


def test_a_generation_without_success_leaves_the_memory_alone():
    memory = SuccessHistory(size=3)
    memory.learn(np.empty(0), np.empty(0), np.empty(0))
    assert memory.state_dict()["next"] == 0


def test_the_memory_stays_finite_for_improvements_of_any_size():
    memory = SuccessHistory(size=2)
    memory.learn(np.array([0.5, 0.9]), np.array([0.1, 0.2]), np.array([1e308, 1e308]))
    memory.learn(np.array([0.0]), np.array([0.4]), np.array([5e-324]))
    assert np.isfinite(memory.m_f).all()
    assert np.isfinite(memory.m_cr).all()


def test_the_archive_never_exceeds_its_capacity():
    archive = Archive(3, 2, np.dtype("float32"))
    for i in range(10):
        archive.add(np.full(2, i), np.random.default_rng(i))
    assert archive.x.shape == (3, 2)


def test_distinct_indices_are_distinct_and_uniform():
    rng = np.random.default_rng(3)
    n, m = 30_000, 6
    slots = rng.integers(m, size=n)
    r1 = distinct(rng.random(n), m, slots)
    r2 = distinct(rng.random(n), m, slots, r1)
    assert not ((r1 == slots) | (r2 == slots) | (r1 == r2)).any()
    offsets = np.bincount((r2 - slots) % m, minlength=m)
    assert offsets[0] == 0
    np.testing.assert_allclose(offsets[1:] / n, 1 / (m - 1), atol=0.01)


def test_fixed_crossover_rates_zero_and_one_take_one_coordinate_and_all():
    for cr, expected in ((0.0, {1}), (1.0, {D})):
        engine = DifferentialEvolution([(LOW, HIGH)] * D, popsize=8, strategy="rand/1/bin", cr=cr)
        first = engine.ask()
        engine.tell(first, np.arange(8.0))
        assert {int(c) for c in (engine.ask().x != first.x).sum(axis=1)} == expected
