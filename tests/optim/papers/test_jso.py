"""jSO against Brest, Maucec & Boskovic 2017 (and their program where the paper leaves a choice)."""

import math

import test_lshade
from literal import D, assert_same_trials, cut_normal, lehmer, others, pick, positive_cauchy

H = 5


class LiteralJso(test_lshade.LiteralLshade):
    spread, archive_rate = 0.1, 1.0

    def __init__(self, *args):
        super().__init__(*args)
        self.m_f, self.m_cr, self.capacity = [0.3] * H, [0.8] * H, self.n0

    def means(self, r):
        return (0.9, 0.9) if r == H - 1 else (self.m_f[r], self.m_cr[r])

    def make(self, i, trial):
        u, n, t = self.uniforms(trial), len(self.x), self.progress
        m_f, m_cr = self.means(int(u[0] * H))
        cr = 0.0 if m_cr < 0 else cut_normal(m_cr, self.spread, u[2])
        if t < 0.25 and cr < 0.7:
            cr = 0.7
        elif t < 0.5 and cr < 0.6:
            cr = 0.6
        f = positive_cauchy(m_f, self.spread, u[1])
        if t < 0.6 and f > 0.7:
            f = 0.7
        f_w = (0.7 if t < 0.2 else 0.8 if t < 0.4 else 1.2) * f
        p = 0.25 - (0.25 - 0.125) * t
        best = self.x[pick(u[4], self.ranked()[: max(2, math.floor(p * n + 0.5))])]
        r1 = others(u[5], n, i)
        union = self.x + self.archive
        r2 = others(u[6], len(union), i, r1)
        x = self.x[i]
        donor = [x[j] + f_w * (best[j] - x[j]) + f * (self.x[r1][j] - union[r2][j]) for j in range(D)]
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
            self.m_f[self.k] = (lehmer(s_f, gains) + self.m_f[self.k]) / 2
            self.m_cr[self.k] = ((lehmer(s_cr, gains) if max(s_cr) > 0 else -1.0) + self.m_cr[self.k]) / 2
            self.k = (self.k + 1) % H
        self.shrink()

    def shrink(self):
        rate, test_lshade.RATE = test_lshade.RATE, self.archive_rate
        super().shrink()
        test_lshade.RATE = rate


def test_jso_gives_the_trials_of_the_paper_through_all_its_phases():
    search, literal = assert_same_trials("jso", LiteralJso, popsize=30, generations=95, budget=1500)
    assert literal.progress > 0.9
    assert search.size == len(literal.x) < 8
