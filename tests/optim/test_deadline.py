"""Time as a budget."""

import time

import numpy as np
import pytest

from evoprompt.optim import DifferentialEvolution, minimize
from evoprompt.optim.engine import ledger
from evoprompt.optim.engine.state import load_state, save_state
from evoprompt.optim.engine.stopwatch import Stopwatch

BOX = [(-5.0, 5.0)] * 3


def sphere(x):
    return (np.asarray(x) ** 2).sum(axis=1)


class Clock:
    """A time that passes when a test says so."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(ledger, "Stopwatch", lambda: Stopwatch(clock))
    return clock


def engine(**options):
    return DifferentialEvolution(BOX, **{"popsize": 8, "variant": "lshade", **options})


def until_stopped(optimizer, clock, pause):
    while not (reason := optimizer.should_stop()):
        trials = optimizer.ask()
        clock.now += pause
        optimizer.tell(trials, sphere(trials.x))
    return reason


def test_nothing_is_handed_out_after_the_deadline(clock):
    optimizer = engine(seconds=0.1)
    assert until_stopped(optimizer, clock, pause=0.03125) == "deadline"
    assert len(optimizer.ask()) == len(optimizer.ask(3)) == 0
    assert optimizer.generation == 4, "one is handed out after 0.09 s, none after 0.13 s"


def test_what_comes_after_the_deadline_still_counts(clock):
    optimizer = engine(seconds=0.05)
    trials = optimizer.ask()
    clock.now += 0.06
    optimizer.tell(trials, sphere(trials.x))
    assert optimizer.evaluations == 8
    assert optimizer.best.loss == sphere(trials.x).min()
    assert optimizer.should_stop() == "deadline"


def test_the_time_counts_from_the_first_ask_and_over_restarts(clock, tmp_path):
    optimizer = engine(seconds=0.2)
    clock.now += 0.25
    assert optimizer.should_stop() is None
    optimizer.ask(1)
    clock.now += 0.12
    save_state(tmp_path, optimizer.state_dict())
    clock.now += 0.15
    again = engine(seconds=0.2)
    again.load_state_dict(load_state(tmp_path))
    assert len(again.ask(1)) == 1
    clock.now += 0.1
    assert again.should_stop() == "deadline"
    longer = engine(seconds=60)
    longer.load_state_dict(load_state(tmp_path))
    assert len(longer.ask(1)) == 1


def test_without_a_budget_the_population_shrinks_with_the_time(clock):
    optimizer = engine(popsize=40, seconds=0.4)
    until_stopped(optimizer, clock, pause=0.01)
    assert len(optimizer.population[1]) < 20


def test_the_first_of_budget_and_deadline_ends_the_run(clock):
    assert until_stopped(engine(seconds=60, budget=100), clock, pause=0.01) == "budget"
    assert until_stopped(engine(seconds=0.05, budget=10**9), clock, pause=0.01) == "deadline"


def test_the_stopwatch_goes_on_where_it_was_set():
    now = [100.0]
    watch = Stopwatch(lambda: now[0])
    assert watch.tick() == 0
    now[0] = 107.0
    assert watch.read() == 7
    watch.load_state_dict({"elapsed": 30.0})
    now[0] = 200.0
    assert watch.tick() == 30
    now[0] = 201.5
    assert watch.tick() == 31.5


def test_minimize_stops_in_the_middle_of_a_generation_and_goes_on_from_there(tmp_path):
    calls = []

    def slow(x):
        calls.append(x.copy())
        if len(calls) == 9:
            time.sleep(2.5)  # past the deadline, whatever the others took
        return float((x**2).sum())

    settings = {"popsize": 30, "method": "shade", "checkpoint": tmp_path}
    result = minimize(slow, BOX, seconds=2, **settings)
    assert result.stop_reason == "deadline"
    assert result.success
    assert result.nfev == len(calls) <= 9, "no other point is begun after the deadline"
    done = result.nfev
    result = minimize(slow, BOX, seconds=3600, budget=40, **settings)
    assert result.stop_reason == "budget"
    assert result.nfev == len(calls) == 40
    assert result.nfail == 0
    assert len(np.unique(np.array(calls[: done + 5]), axis=0)) == done + 5


def test_minimize_asks_for_an_end():
    with pytest.raises(ValueError, match="budget, seconds, maxiter, target or tol"):
        minimize(lambda x: 0.0, BOX)
    assert minimize(lambda x: float(x @ x), BOX, maxiter=3, popsize=8, method="jde").nfev == 24
    assert minimize(lambda x: float(x @ x), BOX, target=0.5, popsize=8).stop_reason == "target"
