"""jDE against Brest, Greiner, Boskovic, Mernik & Zumer 2006, written out trial by trial."""

from literal import D, Literal, assert_same_trials, others


class LiteralJde(Literal):
    """Section IV: F_i and CR_i are members' own; they change before mutation and stay if the trial is better."""

    def __init__(self, *args):
        super().__init__(*args)
        self.f, self.cr = [0.5] * self.n0, [0.9] * self.n0

    def make(self, i, trial):
        u, n = self.uniforms(trial), len(self.x)
        f = 0.1 + u[0] * 0.9 if u[1] < 0.1 else self.f[i]  # eq. 5
        cr = u[2] if u[3] < 0.1 else self.cr[i]  # eq. 6
        r1 = others(u[5], n, i)
        r2 = others(u[6], n, i, r1)
        r3 = others(u[7], n, i, r1, r2)
        donor = [self.x[r1][j] + f * (self.x[r2][j] - self.x[r3][j]) for j in range(D)]
        return self.cross(trial, self.x[i], donor, cr, u[10]), f, cr

    def take(self, made, losses, first):
        for i, loss in enumerate(losses):
            if loss < self.loss[i]:
                self.loss[i] = loss
                self.x[i], self.f[i], self.cr[i] = made[i]


def test_jde_gives_the_trials_of_the_paper():
    _, literal = assert_same_trials("jde", LiteralJde, popsize=12, generations=60)
    assert len(set(literal.f)) > 3
    assert len(set(literal.cr)) > 3
