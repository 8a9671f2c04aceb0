"""Classic DE against Storn & Price 1997 and Price, Storn & Lampinen 2005, written out trial by trial."""

import math

import pytest
from literal import D, Literal, assert_same_trials, mended, others

F, CR = 0.5, 0.9


def classic(mutation, crossover):
    class Classic(Literal):
        def make(self, i, trial):
            u, n = self.uniforms(trial), len(self.x)
            taken = [i]
            for k in range({"rand/1": 3, "best/1": 2, "current-to-best/1": 2, "rand/2": 5}[mutation]):
                taken.append(others(u[5 + k], n, *taken))
            r = [self.x[j] for j in taken]
            best = self.x[self.ranked()[0]]
            donor = []
            for j in range(D):
                if mutation == "rand/1":
                    donor.append(r[1][j] + F * (r[2][j] - r[3][j]))
                elif mutation == "best/1":
                    donor.append(best[j] + F * (r[1][j] - r[2][j]))
                elif mutation == "current-to-best/1":
                    donor.append(r[0][j] + F * (best[j] - r[0][j]) + F * (r[1][j] - r[2][j]))
                else:
                    donor.append(r[1][j] + F * (r[2][j] - r[3][j]) + F * (r[4][j] - r[5][j]))
            if crossover == "bin":
                return (self.cross(trial, self.x[i], donor, CR, u[10]),)
            out, j, length = list(self.x[i]), int(u[10] * D), 0
            while True:  # exponential: L grows while a uniform is below CR^L, which inverts its distribution
                out[(j + length) % D] = donor[(j + length) % D]
                length += 1
                if length >= D or 1 - u[11] > math.pow(CR, length):
                    break
            return (mended(out, self.x[i]),)

        def take(self, made, losses, first):
            for i, loss in enumerate(losses):
                if loss <= self.loss[i]:
                    self.x[i], self.loss[i] = made[i][0], loss

    return Classic


@pytest.mark.parametrize("crossover", ["bin", "exp"])
@pytest.mark.parametrize("mutation", ["rand/1", "best/1", "current-to-best/1", "rand/2"])
def test_classic_variants_give_the_trials_of_the_books(mutation, crossover):
    assert_same_trials(f"{mutation}/{crossover}", classic(mutation, crossover), popsize=10, generations=30)
