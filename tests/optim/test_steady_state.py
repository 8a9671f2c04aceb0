"""One result at a time, many in flight, no barrier; and every such run repeated from its log."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.optim import DifferentialEvolution, Portfolio, make_optimizer

BOX = [(-5.0, 5.0)] * 4


def sphere(x):
    return ((np.asarray(x, dtype=np.float64) - 0.3) ** 2).sum(axis=1)


def drive(optimizer, in_flight, order_seed, fail=0.0):
    """Keep ``in_flight`` trials out and tell them one by one in random order."""
    rng, waiting = np.random.default_rng(order_seed), []
    while not optimizer.should_stop():
        while len(waiting) < in_flight and len(trials := optimizer.ask(1)):
            waiting.append(trials)
        trials = waiting.pop(rng.integers(len(waiting)))
        optimizer.tell(trials, [np.nan] if rng.random() < fail else sphere(trials.x))
    return optimizer


def assert_same(one, other):
    for mine, theirs in zip(one.population, other.population, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (one.evaluations, one.asked, one.failed, one.generation) == (
        other.evaluations, other.asked, other.failed, other.generation,
    )  # fmt: skip
    assert one.best.id == other.best.id


@pytest.mark.parametrize("variant", ["rand/1/bin", "jde", "jade", "shade", "lshade", "jso"])
@pytest.mark.parametrize("in_flight", [1, 7, 30])
def test_any_number_in_flight_leads_to_the_optimum(variant, in_flight):
    engine = DifferentialEvolution(
        BOX, budget=2500, seed=4, popsize=16, updating="immediate", variant=variant, dtype="float64"
    )
    drive(engine, in_flight, order_seed=0)
    assert engine.evaluations == 2500
    assert engine.best.loss < 0.01


@pytest.mark.parametrize("in_flight", [24, 64, 200])
def test_the_default_search_takes_results_that_are_generations_late(in_flight):
    engine = Portfolio([(-1, 1)] * 8, budget=2000, seed=0, popsize=64, updating="immediate")
    waiting = []
    while not engine.should_stop():
        while len(waiting) < in_flight and len(trials := engine.ask(1)):
            waiting.append(trials)
        trials = waiting.pop(0)
        engine.tell(trials, trials.x[:, 0])  # a sum over coordinates: it searches along lines
    assert engine.evaluations == 2000
    assert engine.best.loss < -0.99


@given(
    in_flight=st.integers(1, 12),
    order=st.integers(0, 10**6),
    fail=st.sampled_from([0.0, 0.4]),
    variant=st.sampled_from(["rand/1/bin", "shade", "lshade"]),
    updating=st.sampled_from(["immediate", "deferred"]),
)
def test_equal_asks_and_tells_in_any_order_give_equal_runs(in_flight, order, fail, variant, updating):
    def driven():
        optimizer = make_optimizer(variant, bounds=BOX, budget=90, seed=order, popsize=8, updating=updating)
        drive(optimizer, in_flight, order, fail)
        return optimizer

    assert_same(driven(), driven())


def test_a_fast_worker_does_not_wait_for_the_starting_points():
    engine = DifferentialEvolution(BOX, seed=1, popsize=10, updating="immediate", variant="shade")
    first = engine.ask()
    assert len(engine.ask()) == 0
    engine.tell(first[:5], sphere(first.x[:5]))
    assert engine.generation == 0
    evolved = engine.ask(3)
    assert engine.generation == 1
    engine.tell(first[5:], sphere(first.x[5:]))
    assert np.isfinite(engine.population[1]).all()
    engine.tell(evolved, sphere(evolved.x))
    assert engine.evaluations == 13


def test_a_generation_closes_after_as_many_results_as_members():
    engine = DifferentialEvolution(BOX, seed=1, popsize=6, updating="immediate", variant="rand/1/bin")
    for _ in range(30):
        trials = engine.ask(1)
        engine.tell(trials, sphere(trials.x))
    assert engine.generation == 5
    assert len(engine.record) == 6
