"""L-SRTDE against Stanovov & Semenkin 2024 and their program, written out trial by trial."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from literal import HIGH, LOW, D, Driven, Literal, cut_normal, lehmer, loss_of, others, pick

from evoprompt.optim.engine.rng import Purpose

H, N, BUDGET = 5, 30, 1500


class LiteralLsrtde(Literal):
    def __init__(self, population, losses):
        super().__init__(population, losses, BUDGET)
        order = self.ranked()
        self.top = [(self.loss[j], list(self.x[j])) for j in order]
        self.new = [(self.loss[j], list(self.x[j])) for j in order]
        self.m_cr, self.k, self.rate, self.next = [1.0] * H, 0, 0.5, 0
        self.begin()

    def begin(self):
        """Ranks are taken once a generation."""
        self.rank = sorted(range(len(self.new)), key=lambda j: (self.new[j][0], j))
        self.successes, self.s_cr, self.gains = [], [], []

    def make(self, trial):
        u, n = self.uniforms(trial), len(self.new)
        mean = 0.4 + math.tanh(self.rate * 5) * 0.25
        normal = NormalDist(mean, 0.02)
        f = normal.inv_cdf(normal.cdf(0) + u[1] * (normal.cdf(1) - normal.cdf(0)))
        cr = cut_normal(self.m_cr[int(u[0] * H)], 0.05, u[2])
        chosen = int(u[9] * n)
        crowd = max(2, int(n * 0.7 * math.exp(-self.rate * 7)))
        pbest = pick(u[4], [j for j in range(crowd) if j != chosen])
        weights = [math.exp(-3 * i / n) if self.rank[i] != pbest else 0.0 for i in range(n)]
        r1, left = 0, u[5] * sum(weights)
        for i, weight in enumerate(weights):
            r1 = self.rank[i]
            if left < weight:
                break
            left -= weight
        r2 = others(u[6], n, pbest, r1)
        x = self.new[chosen][1]
        shorts, j_rand, out, taken, outside = self.shorts(trial), int(u[10] * D), [], 0, []
        for j in range(D):
            if shorts[j] < round(cr * 65536) or j == j_rand:
                out.append(x[j] + f * (self.top[pbest][1][j] - x[j]) + f * (self.new[r1][1][j] - self.top[r2][1][j]))
                taken += 1
                if not LOW <= out[j] <= HIGH:
                    outside.append(j)
            else:
                out.append(x[j])
        fresh = self.streams.of(trial, Purpose.REPAIR).random(len(outside)).tolist()
        for j, v in zip(outside, fresh, strict=True):
            out[j] = LOW * (1 - v) + HIGH * v
        return out, taken / D, chosen

    def shorts(self, trial):
        return self.streams.shorts(np.array([trial]), D)[0].tolist()

    def select(self, made):
        x, rate, chosen = made
        loss = loss_of(x)
        if loss <= self.new[chosen][0]:
            self.s_cr.append(rate)
            self.gains.append(self.new[chosen][0] - loss)
            self.successes.append((loss, x))
            self.new[self.next] = (loss, x)
            self.next = (self.next + 1) % len(self.new)

    def end(self):
        self.rate = len(self.successes) / len(self.new)
        wanted = int((4 - N) / BUDGET * self.trial + N)
        while len(self.new) > wanted:
            del self.new[max(range(len(self.new)), key=lambda j: (self.new[j][0], j))]
        if self.successes:
            self.m_cr[self.k] = 0.5 * (lehmer(self.s_cr, self.gains) + self.m_cr[self.k])
            self.k = (self.k + 1) % H
        # The program lets the place in the ring run past its new end; it is brought back here.
        self.next %= len(self.new)
        self.top = sorted(self.top + self.successes, key=lambda member: member[0])[: len(self.new)]
        self.begin()


@pytest.mark.parametrize("together", [False, True], ids=["one trial at a time, as in the paper", "whole generations"])
def test_lsrtde_gives_the_trials_of_the_paper(together):
    driven = Driven("lsrtde", N, BUDGET)
    first = driven.ask()
    literal = LiteralLsrtde(first, driven.results.loss.tolist())
    driven.tell()
    for generation in range(80):
        n = len(literal.new)
        assert driven.search.size == n
        for slots in [range(n)] if together else [[slot] for slot in range(n)]:
            x = driven.ask(slots)
            made = [literal.make(literal.trial + i) for i in range(len(slots))]
            literal.trial += len(made)
            np.testing.assert_allclose(x, [one[0] for one in made], rtol=1e-7, atol=1e-9, err_msg=str(generation))
            driven.tell(close=slots[-1] == n - 1)
            for one in made:
                literal.select(one)
        literal.end()
        np.testing.assert_allclose(driven.search.population[1], [loss for loss, _ in literal.top], rtol=1e-7)
    assert n < 12
    assert literal.m_cr[0] < 1
