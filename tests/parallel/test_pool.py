"""Who gets what, and when: the scheduling on a virtual clock, where time is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.virtual_workers import VirtualWorkers
from evoprompt.optim import DifferentialEvolution, Trials
from evoprompt.parallel import generational, steady_state
from evoprompt.parallel.pool import SECONDS_PER_CALL, Pool

DRIVER, LATENCY = 1e-3, 1e-3


def pool_of(slowness: list[float], seconds: float, batch_size: int = 1) -> tuple[Pool, VirtualWorkers]:
    workers = VirtualWorkers(lambda x: np.full(len(x), seconds), slowness, DRIVER, LATENCY)
    pool = Pool(workers, batch_size, len(slowness), timeout_s=60, max_retries=2)
    pool.start(len(slowness))
    return pool, workers


def trials(count: int, first: int = 0) -> Trials:
    ids = np.arange(first, first + count)
    return Trials(ids, ids[:, None].astype(float))


def collected(pool: Pool) -> list[int]:
    return [number for part, _ in pool.collect() for number in part.ids.tolist()]


@given(
    slowness=st.lists(st.floats(0.1, 20), min_size=1, max_size=6),
    seconds=st.sampled_from([1e-4, 0.01, 0.2, 3.0]),
    batch_size=st.integers(1, 5),
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    more=st.booleans(),
)
def test_everything_comes_back_once_from_workers_of_any_speed(
    slowness: list[float], seconds: float, batch_size: int, counts: list[int], more: bool
) -> None:
    pool, _ = pool_of(slowness, seconds, batch_size)
    for round_, count in enumerate(counts):
        pool.submit(trials(count, 1000 * round_), more)
        assert sorted(collected(pool)) == list(range(1000 * round_, 1000 * round_ + count))
    stats = pool.stats()
    assert (stats.queued, stats.outstanding, stats.replacements) == (0, 0, 0)
    assert 0 < stats.utilisation <= 1


def test_a_slow_worker_gets_none_of_the_last_ones() -> None:
    pool, workers = pool_of([1.0, 1.0, 1.0, 8.0], seconds=1.0)
    pool.submit(trials(40))
    collected(pool)  # it learns how slow they are
    began = workers.now()
    pool.submit(trials(3, 100))
    collected(pool)
    assert workers.now() - began < 1.1, "the three fast ones did it"


@pytest.mark.parametrize(("popsize", "said"), [(16, True), (32, False)])
def test_workers_that_a_generation_leaves_idle_are_told_once(
    popsize: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pool, _ = pool_of([1.0] * 8, 0.01, batch_size=4)
    box = [(0, 1)] * 4
    generational(DifferentialEvolution(box, budget=100, seed=0, popsize=popsize, variant="shade"), pool)
    (message,) = [record.getMessage() for record in caplog.records] if said else [""]
    assert ("16 candidates makes 4 micro-batches of 4 for 8 workers" in message) == said


def test_a_slow_worker_is_kept_busy_where_more_is_to_come() -> None:
    pool, workers = pool_of([1.0] * 7 + [4.0], seconds=0.05)
    optimizer = DifferentialEvolution(
        [(0, 1)] * 4, budget=4000, seed=0, popsize=64, updating="immediate", variant="shade"
    )
    steady_state(optimizer, pool)
    assert optimizer.evaluations == 4000
    assert pool.stats().utilisation > 0.97
    assert 4000 * 0.05 / (7 + 1 / 4) / workers.now() > 0.97


@pytest.mark.parametrize(("seconds", "most"), [(1e-4, 60), (0.2, 400)])
def test_short_evaluations_travel_together(seconds: float, most: int) -> None:
    pool, workers = pool_of([1.0] * 4, seconds)
    pool.submit(trials(400))
    collected(pool)
    calls = workers.calls
    pool.submit(trials(400))
    collected(pool)
    assert workers.calls - calls <= most
    assert SECONDS_PER_CALL / 1e-4 > 100, "so that a share of the queue is what limits them"


def test_the_appetite_grows_with_the_number_of_short_calls_under_way() -> None:
    pool, _ = pool_of([1.0] * 4, 0.01, batch_size=2)
    assert pool.appetite() == 8
    pool.submit(trials(64))
    collected(pool)
    assert pool.appetite() == 4 * 2 * 2 * int(SECONDS_PER_CALL / 0.02), "two calls a worker, of 50 ms each"
