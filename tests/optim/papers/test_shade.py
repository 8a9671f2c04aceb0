"""SHADE against Tanabe & Fukunaga 2013, Algorithm 1, written out trial by trial."""

from literal import D, Literal, assert_same_trials, cut_normal, lehmer, others, pick, positive_cauchy


class LiteralShade(Literal):
    def __init__(self, *args):
        super().__init__(*args)
        self.m_f, self.m_cr, self.k, self.archive = [0.5] * self.n0, [0.5] * self.n0, 0, []

    def make(self, i, trial):
        u, n = self.uniforms(trial), len(self.x)
        r = int(u[0] * n)
        f, cr = positive_cauchy(self.m_f[r], 0.1, u[1]), cut_normal(self.m_cr[r], 0.1, u[2])
        p = 2 / n + u[3] * max(0.2 - 2 / n, 0)
        best = self.x[pick(u[4], self.ranked()[: max(2, int(p * n))])]
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
                if len(self.archive) < self.n0:
                    self.archive.append(self.x[i])
                else:
                    self.archive[int(self.archive_uniform(first + i) * self.n0)] = self.x[i]
                s_f, s_cr, gains = [*s_f, made[i][1]], [*s_cr, made[i][2]], [*gains, self.loss[i] - loss]
            if loss <= self.loss[i]:
                self.x[i], self.loss[i] = made[i][0], loss
        if gains:
            self.m_cr[self.k] = sum(g / sum(gains) * cr for g, cr in zip(gains, s_cr, strict=True))
            self.m_f[self.k] = lehmer(s_f, gains)
            self.k = (self.k + 1) % self.n0


def test_shade_gives_the_trials_of_the_paper():
    _, literal = assert_same_trials("shade", LiteralShade, popsize=12, generations=60)
    assert len(literal.archive) == 12
    assert literal.m_f[0] != 0.5
    assert literal.m_f[-1] != 0.5
