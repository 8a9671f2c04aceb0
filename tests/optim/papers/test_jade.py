"""JADE against Zhang & Sanderson 2009, table I, written out trial by trial."""

from literal import D, Literal, assert_same_trials, cut_normal, others, pick, positive_cauchy


class LiteralJade(Literal):
    def __init__(self, *args):
        super().__init__(*args)
        self.mu_cr, self.mu_f, self.archive = 0.5, 0.5, []

    def make(self, i, trial):
        u, n = self.uniforms(trial), len(self.x)
        f, cr = positive_cauchy(self.mu_f, 0.1, u[1]), cut_normal(self.mu_cr, 0.1, u[2])
        best = self.x[pick(u[4], self.ranked()[: max(2, int(0.05 * n + 0.5))])]
        r1 = others(u[5], n, i)
        union = self.x + self.archive
        r2 = others(u[6], len(union), i, r1)
        x = self.x[i]
        donor = [x[j] + f * (best[j] - x[j]) + f * (self.x[r1][j] - union[r2][j]) for j in range(D)]
        return self.cross(trial, x, donor, cr, u[10]), f, cr

    def take(self, made, losses, first):
        s_f, s_cr, winners = [], [], []
        for i, loss in enumerate(losses):
            if loss < self.loss[i]:
                self.archive.append(self.x[i])
                winners.append(first + i)
                self.x[i], self.loss[i] = made[i][0], loss
                s_f.append(made[i][1])
                s_cr.append(made[i][2])
        for trial in winners[len(winners) - max(0, len(self.archive) - len(self.x)) :]:
            gone = int(self.archive_uniform(trial) * len(self.archive))
            self.archive[gone] = self.archive[-1]
            self.archive.pop()
        if s_f:
            self.mu_cr = 0.9 * self.mu_cr + 0.1 * sum(s_cr) / len(s_cr)
            self.mu_f = 0.9 * self.mu_f + 0.1 * sum(f * f for f in s_f) / sum(s_f)


def test_jade_gives_the_trials_of_the_paper():
    search, literal = assert_same_trials("jade", LiteralJade, popsize=12, generations=50)
    assert len(literal.archive) == 12
    assert search.state_dict()["adaptation"]["f"] != 0.5
