"""One result at a time, many in flight, no barrier; and every such run repeated from its log."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprompt.optim import DifferentialEvolution, Portfolio, make_optimizer
from evoprompt.optim.engine.state import load_state, save_state
from evoprompt.optim.engine.telllog import TellLog, replay

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


@settings(max_examples=25, deadline=None)
@given(
    in_flight=st.integers(1, 12),
    order=st.integers(0, 10**6),
    fail=st.sampled_from([0.0, 0.4]),
    variant=st.sampled_from(["rand/1/bin", "shade", "lshade"]),
    updating=st.sampled_from(["immediate", "deferred"]),
)
def test_a_run_in_random_order_is_repeated_exactly_from_its_log(
    tmp_path_factory, in_flight, order, fail, variant, updating
):
    def new():
        return make_optimizer(variant, bounds=BOX, budget=90, seed=order, popsize=8, updating=updating)

    log = TellLog(new())
    drive(log, in_flight, order, fail)
    folder = tmp_path_factory.mktemp("log")
    save_state(folder, log.state_dict())
    assert_same(replay(load_state(folder), new()), log)


def test_a_log_keeps_guests_warm_starts_plain_arrays_and_violations():
    def new():
        return DifferentialEvolution(BOX, popsize=8, seed=2, updating="immediate", variant="shade")

    log = TellLog(new())
    log.warm_start([[1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 0.5, 0.5]], [40.0, 2.0])
    for _ in range(4):
        trials = log.ask(9)
        log.tell(trials.x[:4], sphere(trials.x[:4]))
        log.tell([[0.1, 0.2, 0.3, 0.4]], [1.0], violation=[0.25])
        log.tell(trials[6:], sphere(trials.x[6:]), violation=np.arange(len(trials) - 6.0))
    again = replay(log, new())
    assert_same(again, log)
    np.testing.assert_array_equal(again.ask(5).x, log.ask(5).x)


def test_a_log_that_is_loaded_goes_on_as_a_log():
    def new():
        return TellLog(DifferentialEvolution(BOX, popsize=8, seed=2, budget=60, updating="immediate"))

    log, copy = new(), new()
    trials = log.ask(5)
    log.tell(trials[1:], sphere(trials.x[1:]))
    copy.load_state_dict(log.state_dict())
    for each in (log, copy):
        more = each.ask(4)
        each.tell(more, sphere(more.x))
    for name, value in log.state_dict().items():
        np.testing.assert_array_equal(value, copy.state_dict()[name])


def test_a_used_optimizer_cannot_be_logged_or_replayed_into():
    used = DifferentialEvolution(BOX, popsize=8)
    used.ask(2)
    with pytest.raises(ValueError, match="2 trials"):
        TellLog(used)
    log = TellLog(DifferentialEvolution(BOX, popsize=8))
    with pytest.raises(ValueError, match="2 trials"):
        replay(log, used)


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
