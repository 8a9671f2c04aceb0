"""ARRDE against the program of its authors (Minion, arrde.cpp), written out trial by trial."""

import math

from literal import HIGH, LOW, D, Driven, assert_same_trials, loss_of
from test_jso import LiteralJso

from evoprompt.optim.engine.rng import Purpose

H = 5


class LiteralArrde(LiteralJso):
    spread = 0.05

    def __init__(self, *args):
        super().__init__(*args)
        self.points, self.archive_records, self.milestones, self.memories = [], [], [], []
        self.phase, self.restarts, self.episode, self.fresh = "first", 1, 0, None
        self.regions = [[] for _ in range(D)]
        self.log = []

    def means(self, r):
        return self.m_f[r], self.m_cr[r]

    def generation(self):
        if self.fresh is None:
            return super().generation()
        points, self.fresh = self.fresh, None  # a restart's starting points are evaluated and not compared
        self.x, self.loss = [list(x) for x in points], [loss_of(x) for x in points]
        self.trial += len(points)
        self.generations += 1
        return points

    def take(self, made, losses, first):
        best = min(self.loss)
        s_f, s_cr, gains, winners = [], [], [], []
        for i, loss in enumerate(losses):
            if loss < self.loss[i]:
                self.archive.append((self.x[i], self.loss[i]))
                winners.append(first + i)
                s_f, s_cr, gains = [*s_f, made[i][1]], [*s_cr, made[i][2]], [*gains, self.loss[i] - loss]
            if loss <= self.loss[i]:
                self.x[i], self.loss[i] = made[i][0], loss
        for trial in winners[len(winners) - max(0, len(self.archive) - self.capacity) :]:
            gone = int(self.archive_uniform(trial) * len(self.archive))
            self.archive[gone] = self.archive[-1]
            self.archive.pop()
        if self.phase == "first" and min(self.loss) < best:
            leader = self.ranked()[0]
            self.milestones.append((self.x[leader], self.loss[leader]))
        if gains:
            total = sum(gains)
            for cells, values in ((self.m_f, s_f), (self.m_cr, s_cr)):
                mean = sum(g / total * v * v for g, v in zip(gains, values, strict=True))
                mean /= sum(g / total * v for g, v in zip(gains, values, strict=True))
                cells[self.k] = (mean + cells[self.k]) / 2
            if self.k == H - 1:
                self.m_f[self.k] = self.m_cr[self.k] = 0.9
            self.k = (self.k + 1) % H
        self.resize()

    def resize(self):
        t, n = self.progress, len(self.x)
        least = max(4.0, 0.5 * D)
        if t <= 0.9:
            size = self.n0 - (self.n0 - least) * (1 - (1 - t / 0.9) ** (1 + 4.303 * math.exp(-0.073 * D)))
        else:
            second = max(2 * D, 0.2 * self.n0)
            size = second - (second - least) * (t - 0.9) / 0.1
        size = max(4, math.floor(size + 0.5))
        if size < n:
            while len(self.x) > size:
                worst = self.ranked()[-1]
                del self.x[worst], self.loss[worst]
            self.capacity = size
            rng = self.streams.of(self.generations + 1, Purpose.DESIGN)
            while len(self.archive) > self.capacity:
                del self.archive[int(rng.random() * len(self.archive))]
        mean = sum(self.loss) / len(self.loss)
        deviation = math.sqrt(sum((loss - mean) ** 2 for loss in self.loss) / len(self.loss))
        reach = -1.0 if self.phase == "refine" and t > 0.9 else 1e-5  # 0 in the program: only exact ties end it
        if size > n or deviation <= reach * abs(mean):
            self.begin_again(size, forced=size > n)

    def begin_again(self, size, forced):
        overall = min((loss for _, loss in self.points), default=math.inf)
        restart = self.phase in ("first", "refine") or (overall <= min(self.loss) and self.restarts < 2)
        if self.phase in ("first", "refine"):
            self.memories.append((list(self.m_f), list(self.m_cr)))
        self.points += list(zip(self.x, self.loss, strict=True))
        self.archive_records += sorted(self.archive, key=lambda one: one[1])
        del self.archive_records[:-1000]
        self.archive, self.capacity, self.k = [], size, 0
        for j in range(D):
            mean = sum(x[j] for x in self.x) / len(self.x)
            deviation = math.sqrt(sum((x[j] - mean) ** 2 for x in self.x) / len(self.x))
            self.regions[j].append((max(mean - deviation, LOW), min(mean + deviation, HIGH)))
        self.episode += 1
        self.log.append("restart" if restart and not forced else "refine")
        self.restart(size) if restart and not forced else self.refine(size)

    def restart(self, size):
        x = []
        for i in range(size):
            u = self.streams.of(i + (self.episode << 32), Purpose.INITIAL).random(D).tolist()
            x.append([LOW * (1 - v) + HIGH * v for v in u])
        rng = self.streams.of(self.episode, Purpose.RESTART)
        for j in range(D):
            for i in range(size):
                v = rng.random()
                if any(low <= x[i][j] <= high for low, high in self.regions[j]):
                    x[i][j] = self.outside(self.regions[j], v)
        self.fresh, self.phase = x, "restart"
        self.x = x
        self.restarts += 1
        self.m_f, self.m_cr = [0.3] * H, [0.8] * H

    def outside(self, regions, v):
        free, at = [], LOW
        for low, high in sorted(regions):
            if low > at:
                free.append((at, low))
            at = max(at, high)
        if at < HIGH:
            free.append((at, HIGH))
        free = free or [(LOW, HIGH)]
        left = v * sum(high - low for low, high in free)
        for low, high in free:
            if left < high - low:
                return low + left
            left -= high - low
        return free[-1][1]

    def refine(self, size):
        rng = self.streams.of(self.episode, Purpose.RESTART)
        chosen = [self.points[j] for j in rng.permutation(len(self.points))[:size]]
        if self.progress > 0.9:
            chosen[0] = min(self.points, key=lambda one: one[1])
        for more in (self.milestones, self.archive_records):
            chosen += sorted(more, key=lambda one: one[1])[: size - len(chosen)]
        source = self.milestones or self.points
        chosen += [source[int(v * len(source))] for v in rng.random(size - len(chosen))]
        self.x, self.loss = [list(x) for x, _ in chosen], [loss for _, loss in chosen]
        m_f, m_cr = ([value for memory in self.memories for value in memory[k]] for k in (0, 1))
        self.m_cr = [m_cr[int(v * len(m_cr))] for v in rng.random(H)]
        self.m_f = [m_f[int(v * len(m_f))] for v in rng.random(H)]
        self.phase, self.restarts = "refine", 0

    def make(self, i, trial):
        pairs, self.archive = self.archive, [x for x, _ in self.archive]
        made = super().make(i, trial)
        self.archive = pairs
        return made


def test_arrde_gives_the_trials_of_its_authors_program_through_restarts_and_refinements():
    search, literal = assert_same_trials("arrde", LiteralArrde, popsize=24, generations=1050, budget=6000)
    assert literal.log[0] == "restart"
    assert "refine" in literal.log
    assert literal.progress > 0.93
    assert search.size == len(literal.x)


def test_arrde_refines_at_nine_tenths_of_the_budget_even_if_nothing_converged():
    _, literal = assert_same_trials("arrde", LiteralArrde, popsize=40, generations=160, budget=900)
    assert literal.log == ["refine"]
    assert len(literal.milestones) > 0


def test_arrde_of_an_unknown_budget_keeps_its_size():
    driven = Driven("arrde", 12)
    for _ in range(20):
        driven.ask()
        driven.tell()
    assert driven.search.size == 12
