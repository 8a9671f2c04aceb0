"""The portfolio: each of its stages, and what it makes of whole problems."""

import numpy as np
import pytest

from evoprompt.optim import DifferentialEvolution, Portfolio
from evoprompt.optim.engine.algorithm import Results
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.optim.engine.state import load_state, save_state
from evoprompt.optim.engine.unit_box import UnitSpace
from evoprompt.optim.portfolio.covariance import SearchDistribution
from evoprompt.optim.portfolio.gaussian import Sampling
from evoprompt.optim.portfolio.lines import LineSearch
from evoprompt.optim.portfolio.opening import TESTS, exchanged, is_separable
from evoprompt.optim.portfolio.quadratic import QuadraticModel


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


def separable_rastrigin(x):
    z = np.asarray(x, dtype=np.float64) - 1.37
    return (10 + z**2 - 10 * np.cos(2 * np.pi * z)).sum(axis=1)


def rotated_ellipsoid(x):
    d = x.shape[1]
    z = (np.asarray(x, dtype=np.float64) - 0.7) @ rotation(d)
    return (z**2 * 10.0 ** np.linspace(0, 6, d)).sum(axis=1)


def sphere(x):
    return ((np.asarray(x, dtype=np.float64) - 0.3) ** 2).sum(axis=1)


def kinked(x):
    z = np.asarray(x, dtype=np.float64) @ rotation(x.shape[1])[:, :6]
    return np.abs(z - 2.0).sum(axis=1)


def plateau(x):
    return np.floor(np.abs(np.asarray(x, dtype=np.float64) @ rotation(x.shape[1]))).sum(axis=1)


def solve(objective, d, budget, seed=0, of=Portfolio, **options):
    engine = of([(-5, 5)] * d, budget=budget, seed=seed, dtype="float64", **options)
    while not engine.should_stop():
        trials = engine.ask()
        engine.tell(trials, objective(trials.x))
    return engine


def kinds(objective, d, budget, **options):
    """The stages in the order in which they come."""
    engine = Portfolio([(-5, 5)] * d, budget=budget, seed=1, **options)
    seen = ["opening"]
    while not engine.should_stop():
        if (stage := told(engine, objective)) != seen[-1]:
            seen.append(stage)
    return seen


def told(engine, objective, part=slice(None)):
    """Ask, tell, and say which stage that was."""
    before, trials = engine.stages, engine.ask()
    engine.tell(trials[part], objective(trials.x[part]))
    (stage,) = (name for name, count in engine.stages.items() if count > before[name])
    return stage


def test_a_sum_over_coordinates_is_recognised_and_solved_line_by_line():
    losses = [solve(separable_rastrigin, 10, 2000, seed).best.loss for seed in range(3)]
    assert max(losses) < 1e-7


def test_a_rotated_ill_conditioned_problem_is_solved():
    losses = [solve(rotated_ellipsoid, 10, 3000, seed).best.loss for seed in range(3)]
    assert np.median(losses) < 1e-3


def test_exchanging_halves_tells_sums_over_coordinates_from_all_else():
    for seed in range(20):
        points = -5 + 10 * exchanged(np.random.default_rng(seed).random((2 + TESTS, 6)))
        assert is_separable(separable_rastrigin(points))
        assert not is_separable(rotated_ellipsoid(points))
        assert not is_separable(sphere(points) + 1e-3 * np.random.default_rng(seed).standard_normal(len(points)))
        assert not is_separable(np.ones(len(points)))
        assert not is_separable(np.where(np.arange(len(points)) == 3, np.inf, sphere(points)))


@pytest.mark.parametrize(
    ("objective", "d", "budget", "options", "expected"),
    [
        (separable_rastrigin, 5, 400, {}, ["opening", "lines"]),
        (rotated_ellipsoid, 5, 600, {}, ["opening", "gaussian"]),
        (rotated_ellipsoid, 2, 3000, {}, ["opening", "gaussian", "de"]),
        (kinked, 40, 1500, {}, ["opening", "de", "gaussian"]),
        (sphere, 5, 600, {"noise": 0.1}, ["opening", "gaussian"]),
    ],
    ids=["lines", "gaussian", "restarts", "contest", "noise"],
)
def test_a_state_from_any_stage_continues_identically(tmp_path, objective, d, budget, options, expected):
    def fresh():
        return Portfolio([(-5, 5)] * d, budget=budget, seed=3, **options)

    engine, seen = fresh(), []
    while not engine.should_stop():
        half = len(trials := engine.ask()) // 2
        before = engine.stages
        engine.tell(trials[:half], objective(trials.x[:half]))
        (kind,) = (name for name, count in engine.stages.items() if count > before[name]) if half else seen[-1:]
        new = kind not in seen
        seen.append(kind)
        if new or engine.generation % 7 == 0:
            save_state(tmp_path, engine.state_dict())
            copy = fresh()
            copy.load_state_dict(load_state(tmp_path))
            for each in (engine, copy):
                each.tell(trials[half:], objective(trials.x[half:]))
            for _ in range(3):
                mine, theirs = engine.ask(), copy.ask()
                np.testing.assert_array_equal(mine.x, theirs.x)
                engine.tell(mine, objective(mine.x))
                copy.tell(theirs, objective(theirs.x))
            assert engine.best.loss == copy.best.loss
        else:
            engine.tell(trials[half:], objective(trials.x[half:]))
    assert [kind for kind in expected if kind not in seen] == []


def test_a_plateau_neither_ends_nor_breaks_the_search():
    assert solve(plateau, 6, 1500).best.loss <= 2


def test_noise_is_found_out_and_a_steady_centre_recommended():
    recommended, luckiest = [], []
    for seed in range(7):
        rng = np.random.default_rng(seed)
        engine = solve(lambda x, rng=rng: sphere(x) + 0.5 * rng.standard_normal(len(x)), 8, 4000, seed, noise="auto")
        recommended.append(sphere(engine.recommendation.x[None])[0])
        luckiest.append(sphere(engine.best.x[None])[0])
        assert engine.recommendation.loss > engine.best.loss
    assert np.median(recommended) < 0.3
    assert np.median(recommended) < np.median(luckiest)


def test_without_noise_the_search_for_it_costs_two_evaluations_and_nothing_else():
    assert solve(separable_rastrigin, 6, 1200, noise="auto").best.loss < 1e-6


def test_whole_numbers_do_not_freeze_the_search():
    target = np.array([3.0, -2.0, 4.0, 0.35, -1.2])
    integral = np.array([True, True, True, False, False])
    engine = solve(
        lambda x: ((x - target) ** 2).sum(axis=1) + 0.5 * (x[:, 0] + x[:, 3]) ** 2, 5, 800, integrality=integral
    )
    assert np.array_equal(engine.best.x[:3], np.round(engine.best.x[:3]))
    assert engine.best.loss < solve(
        lambda x: ((x - target) ** 2).sum(axis=1) + 0.5 * (x[:, 0] + x[:, 3]) ** 2, 5, 800,
        of=DifferentialEvolution, popsize=30, integrality=integral,
    ).best.loss + 0.05  # fmt: skip


@pytest.mark.parametrize("bounds", [[(2, 2)] * 3, [(-1, 1)], [(-1, 1), (3, 3)], [(None, None)] * 2, [(0, None)] * 3])
def test_degenerate_and_open_boxes_are_searched(bounds):
    engine = Portfolio(bounds, budget=120, seed=0)
    while not engine.should_stop():
        trials = engine.ask()
        assert np.isfinite(trials.x).all()
        engine.tell(trials, sphere(trials.x))
    assert engine.evaluations == 120


@pytest.mark.parametrize(("d", "budget"), [(2, 100), (5, 12), (3000, 200), (100_000, 60)])
def test_any_dimension_and_budget_is_spent_exactly(d, budget):
    engine = Portfolio([(-5, 5)] * d, budget=budget, seed=0)
    first = None
    while not engine.should_stop():
        trials = engine.ask()
        losses = sphere(trials.x)
        first = losses[0] if first is None else first
        engine.tell(trials, losses)
    assert engine.evaluations == budget
    assert engine.best.loss < first


def test_known_points_take_the_place_of_the_test_without_misleading_it():
    engine = Portfolio([(-5, 5)] * 6, budget=400, seed=0, dtype="float64")
    known = np.random.default_rng(0).uniform(-5, 5, (40, 6))
    engine.warm_start(known, rotated_ellipsoid(known))
    while not engine.should_stop():
        assert told(engine, rotated_ellipsoid) != "lines"
    assert engine.best.loss < rotated_ellipsoid(known).min()


def test_an_exact_quadratic_is_modelled_exactly():
    rng = np.random.default_rng(1)
    normal = SearchDistribution(np.full(4, 0.5), 0.2, size=8)
    z = normal.points(rng.standard_normal((60, 4)))
    model = QuadraticModel(4)

    def loss(points):
        return (((points - 0.6) @ rotation(4)) ** 2 * np.array([1.0, 3.0, 10.0, 30.0])).sum(axis=1)

    model.fit(z, loss(z), normal.frame)
    for _ in range(4):
        new = normal.points(rng.standard_normal((8, 4)))
        model.judge(new, loss(new))
    assert model.trusted
    np.testing.assert_allclose(model.step(), 0.6, atol=1e-4)


def test_a_model_that_ranks_at_random_is_not_trusted():
    rng = np.random.default_rng(2)
    normal = SearchDistribution(np.full(4, 0.5), 0.2, size=8)
    model = QuadraticModel(4)
    for _ in range(20):
        z = normal.points(rng.standard_normal((60, 4)))
        model.fit(z, rng.standard_normal(60), normal.frame)
        new = normal.points(rng.standard_normal((8, 4)))
        model.judge(new, rng.standard_normal(8))
    assert not model.trusted


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_distribution_learns_the_scales_of_a_problem(diagonal):
    rng, scale = np.random.default_rng(3), np.array([1.0, 30.0, 1000.0])
    normal = SearchDistribution(np.full(3, 1.0), 0.3, size=10, diagonal=diagonal)
    for _ in range(120):
        z = normal.points(rng.standard_normal((10, 3)))
        normal.learn(z[np.argsort((z**2 * scale**2).sum(axis=1))])
    spread = normal.deviations * scale
    assert spread.max() / spread.min() < 5


def test_a_line_with_many_minima_is_searched_globally():
    found = []
    for place in np.linspace(-4.3, 4.3, 9):
        line = LineSearch(-5.0, 5.0, 0.1)

        def loss(t, place=place):
            return (t - place) ** 2 + 10 - 10 * np.cos(2 * np.pi * (t - place))

        for _ in range(120):
            t = line.ask()
            line.tell(t, loss(t) - loss(0.1))
        found.append(abs(line.best - place))
    assert max(found) < 1e-4


@pytest.mark.parametrize("d", [1, 5, 20])
def test_rounding_does_not_make_a_sum_over_coordinates_look_like_none(d):
    for seed in range(30):
        engine = Portfolio([(-5, 5)] * d, budget=100 * d + 100, seed=seed, dtype="float64")
        assert [told(engine, separable_rastrigin) for _ in range(6)][1:] == ["lines"] * 5


@pytest.mark.parametrize("updating", ["deferred", "immediate"])
@pytest.mark.parametrize("in_flight", [pytest.param(2, marks=pytest.mark.system), 16])
def test_lines_are_searched_with_many_trials_in_flight(updating, in_flight):
    losses = []
    for seed in range(3):
        engine = Portfolio([(-5, 5)] * 10, budget=4000, seed=seed, dtype="float64", updating=updating)
        rng, waiting = np.random.default_rng(seed), []
        while not engine.should_stop():
            while len(waiting) < in_flight and len(trials := engine.ask(1)):
                waiting.append(trials)
            trials = waiting.pop(rng.integers(len(waiting)))
            engine.tell(trials, separable_rastrigin(trials.x))
        losses.append(engine.best.loss)
    assert np.median(losses) < 1e-6


@pytest.mark.parametrize(
    ("objective", "d", "budget"), [(rotated_ellipsoid, 20, 1000), (kinked, 40, 1200), (separable_rastrigin, 6, 600)]
)
def test_the_size_of_asks_changes_nothing(objective, d, budget):
    def one_by_one(x):
        return np.array([objective(row[None])[0] for row in x])

    losses = []
    for n in (None, 1, 3):
        engine = Portfolio([(-5, 5)] * d, budget=budget, seed=1, dtype="float64")
        while not engine.should_stop():
            waiting = []
            while len(trials := engine.ask() if n is None else engine.ask(min(n, len(left(engine))))):
                waiting.append(trials)
            for trials in waiting:
                engine.tell(trials, one_by_one(trials.x))
        losses.append(engine.best.loss)
    assert losses[0] == losses[1] == losses[2]


def left(engine):
    """What is left of the generation."""
    return engine.state_dict()["generations"]["todo"]


@pytest.mark.parametrize("updating", ["deferred", "immediate"])
def test_the_tolerance_looks_at_whole_generations(updating):
    engine = Portfolio([(-5, 5)] * 6, budget=3000, seed=0, tol=1e-6, updating=updating, dtype="float64")
    while not engine.should_stop():
        trials = engine.ask(1 if updating == "immediate" else None)
        engine.tell(trials, rotated_ellipsoid(trials.x))
        if engine.evaluations == 150:
            engine.tell(np.full((1, 6), 1.0), rotated_ellipsoid(np.full((1, 6), 1.0)))
    assert engine.should_stop() == "budget" or engine.best.loss < 10
    assert len(engine.population[0]) > 4


def test_more_knowledge_does_not_hide_what_kind_of_problem_it_is():
    for m in (0, 3, 8, 20):
        engine = Portfolio([(-5, 5)] * 10, budget=2500, seed=0, dtype="float64")
        known = np.random.default_rng(m).uniform(-5, 5, (m, 10))
        engine.warm_start(known, separable_rastrigin(known))
        while not engine.should_stop():
            trials = engine.ask()
            engine.tell(trials, separable_rastrigin(trials.x))
        assert engine.best.loss < 1e-6


def test_a_run_resumed_in_its_opening_keeps_the_points_it_began_with():
    def begun(**options):
        return Portfolio([(-5, 5)] * 10, seed=0, popsize=4, dtype="float64", **options)

    engine = begun(budget=2000)
    engine.tell(trials := engine.ask(3), sphere(trials.x))
    shorter, longer = begun(budget=100), begun(budget=5000)
    for copy in (shorter, longer):
        copy.load_state_dict(engine.state_dict())
        np.testing.assert_array_equal(copy.ask().x, begun(budget=2000).ask().x[3:])
    given = begun(budget=500, x0=np.full((12, 10), 0.5))
    given.tell(trials := given.ask(3), sphere(trials.x))
    copy = begun(budget=500)
    copy.load_state_dict(given.state_dict())
    np.testing.assert_array_equal(copy.ask(20).x, given.ask(20).x)


def test_coordinates_without_choice_do_not_make_a_problem_look_separable():
    for seed in range(40):
        bounds = [(-5, 5)] * 2 + [(1, 1)] * 18
        engine = Portfolio(bounds, budget=600, seed=seed, dtype="float64")
        assert told(engine, lambda x: rotated_ellipsoid(x[:, :2])) == "opening"
        assert told(engine, lambda x: rotated_ellipsoid(x[:, :2])) != "lines"


def test_the_widest_box_is_searched_in_double_precision():
    engine = Portfolio([(-1e308, 1e308)] * 3, budget=400, seed=0, dtype="float64")
    while not engine.should_stop():
        trials = engine.ask()
        assert np.isfinite(trials.x).all()
        engine.tell(trials, np.abs(trials.x / 1e300 - 1.0).sum(axis=1))


def test_the_sampling_stage_follows_the_less_violated_before_the_better():
    space, size = UnitSpace(Box([(-5.0, 5.0)] * 3, "float64")), 8
    stage = Sampling(space, TrialStreams(0), np.full(3, 0.5), 0.1, size)
    for generation in range(60):
        ids, slots = np.arange(size) + generation * size, np.arange(size)
        x = stage.make(ids, slots)
        violation = np.maximum(2.0 - x[:, 0], 0.0)  # the better the loss, the more is violated
        stage.select(Results(ids, slots, x, (x**2).sum(axis=1), violation, np.empty((size, 0))))
        stage.end_generation()
    np.testing.assert_allclose(space.point(stage.centre[None])[0], [2.0, 0.0, 0.0], atol=0.3)
