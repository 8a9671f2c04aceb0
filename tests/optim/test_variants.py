"""What every variant promises, and what their parts do."""

import math

import numpy as np
import pytest

from evoprompt.optim.de.archive import Archive
from evoprompt.optim.de.crossover import binomial, exponential
from evoprompt.optim.de.loop import make_evolution
from evoprompt.optim.de.mutation import distinct
from evoprompt.optim.de.papers import VARIANTS
from evoprompt.optim.de.papers.jade import RunningMeans
from evoprompt.optim.de.papers.shade import SuccessHistory
from evoprompt.optim.de.population import Population
from evoprompt.optim.de.variant import customised, variant_popsize
from evoprompt.optim.engine.algorithm import GUEST, Problem, Results
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import TrialStreams

D = 5
EVERY = pytest.mark.parametrize("name", list(VARIANTS))


def sphere(x):
    return ((x - 0.3) ** 2).sum(axis=1)


class Run:
    """A variant driven by whole generations or one trial at a time."""

    def __init__(self, name, popsize=12, budget=None, seed=1, **settings):
        box = Box([(-5, 5)] * D, "float64")
        problem = Problem(box, TrialStreams(seed), budget, popsize, noise=settings.pop("noise", None))
        self.search = make_evolution(VARIANTS[name], problem, **settings)
        self.asked, self.budget = 0, budget

    def ask(self, slots=None):
        slots = np.arange(self.search.size) if slots is None else np.asarray(slots)
        ids = np.arange(self.asked, self.asked + len(slots))
        self.asked += len(slots)
        return ids, slots, self.search.make(ids, slots)

    def tell(self, ids, slots, made, loss, violation=None):
        violation = np.zeros(len(ids)) if violation is None else violation
        return self.search.select(Results(ids, slots, made.x, np.asarray(loss, dtype=float), violation, made.tags))

    def generation(self, loss_of=sphere):
        ids, slots, made = self.ask()
        selection = self.tell(ids, slots, made, loss_of(made.x))
        self.search.end_generation(self.asked / self.budget if self.budget else math.nan)
        return made, selection


@EVERY
def test_every_variant_finds_the_middle_of_a_sphere(name):
    run = Run(name, popsize=None, budget=6000)
    while run.asked + run.search.size <= run.budget:
        run.generation()
    assert run.search.population[1].min() < (1.0 if name == "best/1/bin" else 1e-2)  # which converges too early


@EVERY
def test_every_variant_goes_on_exactly_from_its_state_at_any_moment(name):
    noise = None if name == "lsrtde" else "auto"  # which evaluates nothing again
    run, again = (Run(name, popsize=10, budget=900, noise=noise) for _ in range(2))

    def noisy(ids, x):
        return sphere(x) + 0.1 * np.sin(1e4 * ids)

    for generation in range(25):
        ids, slots, made = run.ask()
        half = len(ids) // 2
        first, second = slice(None, half), slice(half, None)
        for part in (first, second):
            parts = ids[part], slots[part], type(made)(made.x[part], made.tags[part], made.stage)
            run.tell(*parts, noisy(ids[part], made.x[part]))
            again.search.load_state_dict(run.search.state_dict())
        for search in (run.search, again.search):
            search.end_generation(run.asked / 900)
        again.asked = run.asked
        np.testing.assert_array_equal(again.search.population[0], run.search.population[0], err_msg=str(generation))
        np.testing.assert_array_equal(again.ask()[2].x, run.search.make(*again_ids(run)).x)


def again_ids(run):
    slots = np.arange(run.search.size)
    return np.arange(run.asked, run.asked + len(slots)), slots


@EVERY
def test_every_variant_survives_failures_everywhere_and_then_recovers(name):
    run = Run(name, popsize=10)
    for _ in range(2):
        made, selection = run.generation(lambda x: np.full(len(x), np.inf))
        assert not selection.replaced.any()
        assert np.isfinite(made.x).all()
    for _ in range(60):
        run.generation(lambda x: np.where(x[:, 0] > 1, np.inf, sphere(x)))
    assert run.search.population[1].min() < 5


@EVERY
def test_every_variant_prefers_the_feasible_and_then_the_less_violated(name):
    run = Run(name, popsize=16)
    for _ in range(80):
        ids, slots, made = run.ask()
        run.tell(ids, slots, made, sphere(made.x), np.maximum(2.0 - made.x[:, 0], 0.0))
        run.search.end_generation(math.nan)
    x, loss = run.search.population
    assert (x[:, 0] >= 2.0).any()
    assert loss[x[:, 0] >= 2.0].min() < 8


@EVERY
def test_a_better_guest_enters_and_a_worse_one_does_not(name):
    run = Run(name, popsize=8)
    run.generation()
    run.generation()
    worst = run.search.population[1].max()
    guest, tags = np.full((1, D), 0.3), np.full((1, len(run.search.tags)), np.nan)
    for loss, enters in ((worst + 1, False), (-1.0, True)):
        results = Results(np.array([-1]), np.array([GUEST]), guest, np.array([loss]), np.zeros(1), tags)
        assert run.search.select(results).replaced[0] == enters
    run.search.end_generation(math.nan)
    assert -1.0 in run.search.population[1]


@EVERY
def test_on_a_plateau_trials_replace_their_parents_except_where_the_paper_wants_them_better(name):
    run = Run(name, popsize=8, noise=None)
    run.generation(lambda x: np.ones(len(x)))
    _, outcome = run.generation(lambda x: np.ones(len(x)))
    assert (outcome.replaced == (name not in ("jde", "jade"))).all()


@EVERY
def test_single_results_in_any_order_are_taken_as_they_come(name):
    run, rng = Run(name, popsize=8), np.random.default_rng(0)
    run.generation()
    before = np.median(run.search.population[1])
    for _ in range(200):
        ids, slots, made = run.ask(rng.integers(run.search.size, size=3))
        for k in rng.permutation(3):
            one = [k]
            run.tell(ids[one], slots[one], type(made)(made.x[one], made.tags[one], made.stage), sphere(made.x[one]))
        run.search.end_generation(math.nan)
    assert np.median(run.search.population[1]) < before / 3


def test_a_trial_depends_on_its_number_and_the_population_alone():
    run = Run("shade", popsize=8)
    run.generation()
    ids, slots = np.arange(8, 16), np.arange(8)
    whole = run.search.make(ids, slots)
    pieces = [run.search.make(ids[part], slots[part]).x for part in ([5], [0, 1], [7, 2], [3, 4, 6])]
    np.testing.assert_array_equal(np.concatenate(pieces), whole.x[[5, 0, 1, 7, 2, 3, 4, 6]])


def test_populations_shrink_only_against_a_budget():
    for name in ("lshade", "jso", "lsrtde", "arrde"):
        bounded, free = Run(name, popsize=30, budget=1200), Run(name, popsize=30)
        for _ in range(30):
            bounded.generation()
            free.generation()
        assert bounded.search.size < 20, name
        assert free.search.size == 30, name


@pytest.mark.parametrize(
    ("name", "d", "budget", "size"),
    [
        ("lshade", 20, 200_000, 360), ("jso", 10, 100_000, 182), ("lsrtde", 10, None, 200), ("arrde", 20, 4000, 125),
        ("shade", 20, None, 100), ("jade", 30, None, 100), ("lshade", 40_960, 4000, 1000),
        ("lshade", 40_960, None, 2000),
        ("rand/2/bin", 3, 8, 6), ("jso", 1, None, 4),
    ],
)  # fmt: skip
def test_the_paper_says_how_many_members_as_far_as_the_budget_pays(name, d, budget, size):
    assert variant_popsize(VARIANTS[name], d, budget) == size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"f": 3}, "f must.*3"),
        ({"cr": 1.5}, "cr.*1.5"),
        ({"memory": 0}, "memory.*0"),
        ({"pbset": 1}, "no option 'pbset'"),
    ],
)
def test_options_out_of_range_are_refused_with_their_value(options, message):
    with pytest.raises(ValueError, match=message):
        customised(VARIANTS["shade"], **options)


def test_without_noise_automatic_noise_handling_costs_three_evaluations():
    run = Run("shade", popsize=10, noise="auto")
    sizes = [run.search.size for _ in range(12) if run.generation()]
    assert sizes == [13, *[10] * 11]
    assert run.search.recommendation is None


def test_under_noise_members_do_not_keep_a_lucky_loss_and_the_recommendation_is_better_than_the_best_told():
    rng, gains, lucky = np.random.default_rng(0), [], []
    for seed in range(5):
        for noise in ("auto", None):
            run, best, luck = Run("shade", popsize=20, seed=seed, noise=noise), None, math.inf
            for _ in range(120):
                ids, slots, made = run.ask()
                losses = sphere(made.x) + 0.3 * rng.normal(size=len(ids))
                if losses.min() < luck:
                    luck, best = losses.min(), made.x[losses.argmin()]
                run.tell(ids, slots, made, losses)
                run.search.end_generation(math.nan)
            lucky.append(-run.search.population[1].mean())
            if noise:
                gains.append(sphere(best[None])[0] / sphere(run.search.recommendation[None])[0])
    assert np.mean(lucky[::2]) < 0.5 * np.mean(lucky[1::2])
    assert np.median(gains) > 1.5


def test_positive_cauchy_by_inversion_has_the_distribution_of_redrawing():
    memory = SuccessHistory(0.1, 0.5, memory=1)
    f, _ = memory.draw(np.random.default_rng(0).random((20_000, 4)), np.zeros(20_000, dtype=np.int64), 0.0)
    redrawn = 0.1 + 0.1 * np.random.default_rng(1).standard_cauchy(60_000)
    redrawn = np.minimum(redrawn[redrawn > 0], 1.0)
    for q in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.quantile(f, q) == pytest.approx(np.quantile(redrawn, q), abs=0.015)
    assert (f > 0).all()


@pytest.mark.parametrize("adaptation", [SuccessHistory(0.5, 0.5, memory=3), RunningMeans(0.5, 0.5)])
def test_a_generation_without_success_teaches_nothing(adaptation):
    before = str(adaptation.state_dict())
    adaptation.learn(np.empty(0), np.empty(0), np.empty(0))
    assert str(adaptation.state_dict()) == before


def test_the_memory_stays_finite_for_improvements_of_any_size():
    memory = SuccessHistory(0.5, 0.5, memory=2)
    memory.learn(np.array([0.5, 0.9]), np.array([0.1, 0.2]), np.array([1e308, 1e308]))
    memory.learn(np.array([0.0]), np.array([0.4]), np.array([5e-324]))
    assert np.isfinite(memory.m_f).all()
    assert np.isfinite(memory.m_cr).all()


@pytest.mark.parametrize("overwrite", [True, False])
def test_the_archive_takes_a_batch_as_it_takes_one_after_the_other(overwrite):
    streams, parents = TrialStreams(3), Population(np.arange(40.0)[:, None])
    parents.loss = np.arange(40.0)
    whole, single = (Archive(7, 1, np.dtype("float64"), overwrite=overwrite) for _ in range(2))
    rows, beaten = np.arange(40), np.random.default_rng(0).random(40) < 0.7
    whole.add(parents, rows, rows, beaten, streams)
    for k in range(40):
        single.add(parents, rows[[k]], rows[[k]], beaten[[k]], streams)
    assert len(whole.x) == len(single.x) == 7
    assert set(whole.x[:, 0]) <= set(rows[beaten])
    np.testing.assert_array_equal(whole.parents.loss, whole.x[:, 0])
    if overwrite:
        np.testing.assert_array_equal(whole.x, single.x)
    whole.resize(3, np.random.default_rng(1))
    np.testing.assert_array_equal(whole.parents.loss, whole.x[:, 0])
    assert whole.x.shape == (3, 1)


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


@pytest.mark.parametrize("crossover", [binomial, exponential])
def test_rates_zero_and_one_take_one_coordinate_and_all_and_between_the_expected_number(crossover):
    n, d, streams = 4000, 8, TrialStreams(0)
    u = np.random.default_rng(0).random((n, 2))
    expected = {0.0: 1, 1.0: d}
    expected[0.5] = 1 + 0.5 * (d - 1) if crossover is binomial else sum(0.5**k for k in range(d))
    for rate, count in expected.items():
        trials = np.ones((n, d))
        crossover(trials, np.zeros((n, d)), np.full(n, rate), u, np.arange(n), streams)
        taken = trials.sum(axis=1)
        assert taken.mean() == pytest.approx(count, rel=0.03 if rate == 0.5 else 0)
        assert taken.min() >= 1
        assert (trials.sum(axis=0) > 0).all()
