"""What differential evolution promises beyond the common contract."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.optim import DifferentialEvolution, Trials


def classic(bounds, **options):
    return DifferentialEvolution(bounds, **{"variant": "shade", **options})


def sphere(x):
    return ((np.asarray(x, dtype=np.float64) - 0.3) ** 2).sum(axis=1)


def run(engine, objective=sphere):
    while not engine.should_stop():
        trials = engine.ask()
        engine.tell(trials, objective(trials.x))
    return engine


def box(d=4):
    return [(-5.0, 5.0)] * d


def test_one_nan_in_the_first_population_does_not_poison_the_run():
    engine = classic(box(), budget=1500, seed=1, popsize=16)
    trials = engine.ask()
    losses = sphere(trials.x)
    losses[2] = np.nan
    engine.tell(trials, losses)
    run(engine)
    assert engine.best.loss < 1e-4
    assert np.isfinite(engine.population[1]).all()


def test_a_trial_depends_on_the_seed_and_its_number_alone():
    one, many = (classic(box(), seed=9, popsize=8, updating="immediate") for _ in range(2))
    for engine in (one, many):
        first = engine.ask()
        engine.tell(first, sphere(first.x))
    piecewise = np.concatenate([one.ask(k).x for k in (1, 3, 0, 4)])
    np.testing.assert_array_equal(piecewise, many.ask().x)


def test_extra_trials_replace_their_target_on_arrival_and_late_ones_are_not_lost():
    engine = classic(box(), seed=2, popsize=8)
    first = engine.ask()
    engine.tell(first, sphere(first.x) + 10)
    generation = engine.ask()
    assert len(engine.ask()) == 0
    extra = engine.ask(2)
    engine.tell(generation, sphere(generation.x) + 10)
    assert engine.generation == 2
    engine.tell(extra, [0.5, np.nan])
    assert engine.best.id == extra.ids[0]
    assert 0.5 in engine.population[1]


def test_a_better_guest_takes_the_worst_members_place_and_a_worse_one_does_not():
    engine = classic(box(2), seed=0, popsize=6)
    first = engine.ask()
    engine.tell(first, np.arange(6.0))
    engine.tell([[0.3, 0.3], [4.0, 4.0]], [-1.0, 99.0])
    x, losses = engine.population
    assert sorted(losses.tolist()) == [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    np.testing.assert_allclose(x[5], 0.3)


def test_a_warm_start_costs_nothing_and_saves_evaluations():
    known = np.full((3, 4), 0.25) + np.arange(3)[:, None] * 0.1
    engine = classic(box(), budget=40, seed=0, popsize=8, x0=np.zeros(4))
    engine.warm_start(known, sphere(known))
    assert engine.evaluations == engine.asked == 0
    assert engine.best.id == -1
    first = engine.ask()
    assert len(first) == 5
    np.testing.assert_array_equal(first.x[0], 0)
    engine.tell(first, sphere(first.x))
    assert engine.generation == 1
    assert run(engine).evaluations == 40


def test_a_fully_known_population_starts_evolving_at_once():
    known = np.random.default_rng(0).uniform(-5, 5, (8, 4))
    engine = classic(box(), popsize=8)
    engine.warm_start(known, sphere(known))
    assert engine.generation == 1
    assert len(engine.ask()) == 8


def test_the_record_says_who_replaced_whom():
    engine = classic(box(), seed=1, popsize=8)
    for _ in range(3):
        before_x, before = engine.population
        trials = engine.ask()
        engine.tell(trials, sphere(trials.x))
        record, (after_x, after) = engine.record, engine.population
        np.testing.assert_array_equal(record.id, trials.ids)
        np.testing.assert_array_equal(record.parent_loss, before[record.slot])
        np.testing.assert_array_equal(record.replaced, (after_x != before_x).any(axis=1) | np.isinf(before))
        np.testing.assert_array_equal(after[record.slot], np.where(record.replaced, record.loss, record.parent_loss))
        assert np.isnan(record.tags["f"]).all() == (record.generation == 0)
    assert (record.parent_id < record.id).all()
    assert ((record.tags["f"] > 0) & (record.tags["cr"] >= 0)).all()
    assert len(record) == 8


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e6])
def test_the_tolerance_does_not_care_for_a_constant_added(offset):
    engine = classic(box(2), budget=20_000, seed=1, popsize=12, tol=1e-3, dtype="float64")
    run(engine, lambda x: sphere(x) + offset)
    assert engine.should_stop() == "tolerance"
    assert 100 < engine.evaluations < 2000


@given(
    sides=st.lists(
        st.sampled_from([(None, None), (0.0, None), (None, 1.0), (-1.0, 1.0), (2.0, 2.0), (0.1, 0.1)]), min_size=1
    ),
    repair=st.sampled_from(["midpoint", "reflect", "resample", "clip"]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_every_kind_of_bound_is_kept_by_every_repair(sides, repair, dtype):
    engine = classic(sides, seed=1, popsize=5, repair=repair, variant="rand/1/bin", f=2.0, dtype=dtype)
    low = np.array([-np.inf if a is None else a for a, _ in sides], dtype=dtype)
    high = np.array([np.inf if b is None else b for _, b in sides], dtype=dtype)
    for _ in range(4):
        trials = engine.ask()
        assert np.isfinite(trials.x).all()
        assert ((trials.x >= low) & (trials.x <= high)).all()
        engine.tell(trials, (trials.x.astype(np.float64) ** 2).sum(axis=1))


def test_float32_points_never_leave_a_float64_box():
    engine = classic([(0.1, 0.7)] * 5, seed=0, popsize=8, repair="clip", variant="rand/1/bin", f=2.0, dtype="float32")
    for _ in range(10):
        x = engine.ask()
        assert (x.x.astype(np.float64) >= 0.1).all()
        assert (x.x.astype(np.float64) <= 0.7).all()
        engine.tell(x, -x.x.sum(axis=1))


def test_the_widest_box_does_not_overflow():
    engine = classic([(-3e38, 3e38)] * 3, seed=0, popsize=6, variant="rand/1/bin", f=2.0, dtype="float32")
    for _ in range(5):
        trials = engine.ask()
        assert np.isfinite(trials.x).all()
        engine.tell(trials, np.abs(trials.x.astype(np.float64)).sum(axis=1))


def test_trials_cannot_be_written_to_and_what_is_given_back_is_the_callers_own():
    engine, untouched = (classic(box(), seed=3, popsize=6) for _ in range(2))
    for _ in range(3):
        trials, reference = engine.ask(), untouched.ask()
        np.testing.assert_array_equal(trials.x, reference.x)
        losses = sphere(trials.x)
        for mine in (trials.x, trials[2:4].x, trials.ids):
            with pytest.raises(ValueError, match="read-only"):
                mine[:] = 77
        engine.tell(trials, losses)
        losses[:] = -1e9
        untouched.tell(reference, sphere(reference.x))
        engine.population[0][:] = 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"popsize": 3}, "at least 4|>= 4"),
        ({"popsize": 8.0}, "popsize.*8.0"),
        ({"budget": 10, "popsize": 11}, "10 evaluations.*11"),
        ({"budget": 3}, "3 evaluations.*4"),
        ({"budget": 0}, "budget"),
        ({"seed": -1}, "seed"),
        ({"variant": "rand/3/bin"}, "variant.*'rand/1/bin'.*'rand/3/bin'"),
        ({"cr": 1.5}, "cr.*1.5"),
        ({"repair": "wrap"}, "repair.*'reflect'.*'wrap'"),
        ({"updating": "lazy"}, "updating.*'deferred'.*'lazy'"),
        ({"noise": "loud"}, "noise.*'auto'.*'loud'"),
        ({"noise": -1.0}, "noise.*-1.0"),
        ({"seconds": 0}, "seconds.*> 0.*0"),
        ({"seconds": "soon"}, "seconds.*'soon'"),
        ({"tol": 2}, "tol.*from 0 to 1.*2"),
        ({"integrality": [True] * 3}, "integrality.*4 booleans"),
        ({"dtype": "int32"}, "dtype"),
        ({"x0": [9.0] * 4}, "x0.*bounds"),
        ({"x0": np.zeros((50, 4)), "popsize": 10}, "50 rows"),
        ({"memory": 0}, "memory"),
    ],
)
def test_arguments_out_of_range_are_refused_with_their_value(options, message):
    with pytest.raises(ValueError, match=message):
        classic(box(), **options)


@pytest.mark.parametrize("bounds", [[(1, 0)], [(0, np.nan)], [], [1, 2, 3], [(np.inf, np.inf)]])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="bound"):
        classic(bounds)


def test_the_default_population_is_sane_in_forty_thousand_dimensions():
    engine = DifferentialEvolution([(-1, 1)] * 40_960, budget=1500)
    assert 8 <= engine.popsize <= 100
    trials = engine.ask()
    engine.tell(trials, sphere(trials.x))
    assert engine.ask().x.dtype == np.float64


@pytest.mark.parametrize(
    ("objective", "budget", "limit"),
    [
        (lambda x: ((x - 1.1) ** 2).sum(axis=1), 2000, 1e-4),
        (lambda x: (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1), 8000, 2.0),
        (lambda x: (10 + (x - 1.1) ** 2 - 10 * np.cos(2 * np.pi * (x - 1.1))).sum(axis=1), 8000, 3.0),
    ],
    ids=["sphere", "rosenbrock", "rastrigin"],
)
def test_ten_dimensional_problems_are_solved(objective, budget, limit):
    settings = {"budget": budget, "dtype": "float64", "popsize": round(1.2 * budget ** (1 / 3))}
    losses = [run(classic(box(10), seed=seed, **settings), objective).best.loss for seed in range(5)]
    assert np.median(losses) < limit


def test_trials_act_as_an_array_and_slice():
    trials = Trials([3, 4, 5], np.arange(6.0).reshape(3, 2))
    assert np.asarray(trials).shape == (3, 2)
    assert trials[np.array([0, 2])].ids.tolist() == [3, 5]
    with pytest.raises(ValueError, match="one length"):
        Trials([1], np.zeros((2, 2)))
    with pytest.raises(TypeError, match=r"\[1:2\]"):
        trials[1]


def test_an_equal_trial_replaces_its_parent_so_plateaus_can_be_crossed():
    engine = classic(box(), seed=0, popsize=6)
    for _ in range(2):
        trials = engine.ask()
        engine.tell(trials, np.ones(6))
    np.testing.assert_array_equal(engine.population[0], trials.x)


def test_the_tolerance_is_measured_from_the_same_start_after_a_reload():
    engine, copy = (classic(box(2), seed=1, popsize=12, tol=1e-2) for _ in range(2))
    first = engine.ask()
    engine.tell(first, 1e6 * sphere(first.x))
    copy.load_state_dict(engine.state_dict())
    for each in (engine, copy):
        run(each, lambda x: 1e6 * sphere(x))
    assert engine.evaluations == copy.evaluations
    assert copy.should_stop() == "tolerance"
