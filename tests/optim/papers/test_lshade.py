"""L-SHADE against Tanabe & Fukunaga 2014, Algorithms 1 and 2 and eq. 10, written out trial by trial."""

import math

import numpy as np
from literal import D, Literal, assert_same_trials, cut_normal, lehmer, others, pick, positive_cauchy

from evoprompt.optim.de.papers.lshade import TerminalHistory
from evoprompt.optim.engine.rng import Purpose

H, RATE = 6, 2.6


class LiteralLshade(Literal):
    p = 0.11

    def __init__(self, *args):
        super().__init__(*args)
        self.m_f, self.m_cr, self.k = [0.5] * H, [0.5] * H, 0
        self.archive, self.capacity = [], round(RATE * self.n0)

    def make(self, i, trial):
        u, n = self.uniforms(trial), len(self.x)
        r = int(u[0] * H)
        f = positive_cauchy(self.m_f[r], 0.1, u[1])
        cr = 0.0 if self.m_cr[r] is None else cut_normal(self.m_cr[r], 0.1, u[2])
        best = self.x[pick(u[4], self.ranked()[: max(2, int(self.p * n + 0.5))])]
        r1 = others(u[5], n, i)
        union = self.x + self.archive
        r2 = others(u[6], len(union), i, r1)
        x = self.x[i]
        donor = [x[j] + f * (best[j] - x[j]) + f * (self.x[r1][j] - union[r2][j]) for j in range(D)]
        return self.cross(trial, x, donor, cr, u[10]), f, cr

    def take(self, made, losses, first):
        s_f, s_cr, gains = [], [], []
        for i, loss in enumerate(losses):
            if loss < self.loss[i]:
                if len(self.archive) < self.capacity:
                    self.archive.append(self.x[i])
                else:
                    self.archive[int(self.archive_uniform(first + i) * self.capacity)] = self.x[i]
                s_f, s_cr, gains = [*s_f, made[i][1]], [*s_cr, made[i][2]], [*gains, self.loss[i] - loss]
            if loss <= self.loss[i]:
                self.x[i], self.loss[i] = made[i][0], loss
        if gains:
            if self.m_cr[self.k] is None or max(s_cr) == 0:
                self.m_cr[self.k] = None
            else:
                self.m_cr[self.k] = lehmer(s_cr, gains)
            self.m_f[self.k] = lehmer(s_f, gains)
            self.k = (self.k + 1) % H
        self.shrink()

    def shrink(self):
        wanted = math.floor((4 - self.n0) / self.budget * self.trial + self.n0 + 0.5)
        while len(self.x) > max(4, wanted):
            worst = self.ranked()[-1]
            del self.x[worst], self.loss[worst]
        self.capacity = round(RATE * len(self.x))
        rng = self.streams.of(self.generations + 1, Purpose.DESIGN)
        while len(self.archive) > self.capacity:
            del self.archive[int(rng.random() * len(self.archive))]


def test_lshade_gives_the_trials_of_the_paper_while_it_shrinks():
    search, literal = assert_same_trials("lshade", LiteralLshade, popsize=30, generations=70, budget=1500)
    assert search.size < 15
    assert None not in literal.m_cr


def test_a_cell_whose_successes_all_had_rate_zero_is_terminal():
    history = TerminalHistory(0.5, 0.5, memory=1)
    one = np.ones(1)
    history.learn(0.5 * one, 0.0 * one, one)
    u = np.random.default_rng(0).random((50, 4))
    assert not history.draw(u, np.zeros(50, dtype=np.int64), 0.0)[1].any()
    history.learn(0.5 * one, 0.9 * one, one)
    assert not history.draw(u, np.zeros(50, dtype=np.int64), 0.0)[1].any()
