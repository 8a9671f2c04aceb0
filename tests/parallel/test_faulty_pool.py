"""Whatever happens to workers, every candidate comes back once; on a virtual clock, thousands of times over."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from faulty_workers import Chances, FaultyWorkers
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.optim import Trials
from evoprompt.parallel.pool import Pool, WorkersLostError

SHARES = st.sampled_from([0.0, 0.02, 0.1])


def trials(count: int, first: int) -> Trials:
    ids = np.arange(first, first + count)
    return Trials(ids, ids[:, None].astype(float))


def require_sound(pool: Pool) -> None:
    """What the pool counts is what there is."""
    under_way = [len(job.trials) for slot in pool.slots for call in slot.calls for job in call.jobs]
    ready = sum(len(part) for part, _ in pool._ready)
    assert pool._queued == sum(len(job.trials) for job in pool._queue)
    assert pool._queued + sum(under_way) + ready == pool.stats().outstanding
    assert pool.stats().workers == sum(slot.up for slot in pool.slots)


@pytest.fixture(scope="module", autouse=True)
def _told_to_nobody() -> Iterator[None]:
    """Thousands of faults would be thousands of lines."""
    logger = logging.getLogger("evoprompt.parallel")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@given(
    seed=st.integers(0, 10**6),
    seconds=st.sampled_from([0.001, 0.05, 0.3, 2.0]),
    chances=st.builds(
        Chances,
        SHARES,
        st.sampled_from([0.0, 0.02]),
        SHARES,
        SHARES,
        SHARES,
        st.frozensets(st.integers(0, 60), max_size=2),
    ),
    rooms=st.lists(st.tuples(st.floats(1, 100), st.integers(1, 6)), max_size=3).map(sorted),
    first_room=st.integers(1, 6),
    most=st.sampled_from([None, 2, 8]),
    batch_size=st.integers(1, 4),
    losses=st.integers(0, 12),
    more=st.booleans(),
)
def test_every_candidate_comes_back_once_whatever_happens(
    seed: int, seconds: float, chances: Chances, rooms: list, first_room: int, most: int | None, batch_size: int,
    losses: int, more: bool,
) -> None:  # fmt: skip
    workers = FaultyWorkers(seed, seconds, chances, [(0.0, first_room), *rooms])
    pool = Pool(workers, batch_size, most, timeout_s=30, max_retries=2, hang_s=60)
    pool.start(min(first_room, most or first_room))
    seen: Counter[int] = Counter()
    submitted = 0
    try:
        for count in (workers.random.randrange(1, 60), workers.random.randrange(1, 20)):
            pool.submit(trials(count, submitted), more)
            submitted += count
            for part, _ in pool.collect():
                seen.update(part.ids.tolist())
                if losses and workers.random.random() < 0.3:
                    losses -= 1
                    workers.lose()
                require_sound(pool)
                assert workers.clock < 10**5, "it stands still"
            workers.lose()  # while idle
    except WorkersLostError:
        assert pool.last_error
        return
    assert seen == Counter(range(submitted))


def test_deaths_of_idle_workers_are_charged_to_nobody() -> None:
    workers = FaultyWorkers(0, 1.0, Chances(), [(0.0, 16)])
    pool = Pool(workers, 1, 16, timeout_s=30, max_retries=0)
    pool.start(16)
    pool.submit(trials(16, 0))
    assert len(list(pool.collect())) == 16
    for _ in range(16):
        workers.lose()
    pool.submit(trials(4, 16))
    assert sorted(float(evaluation.loss[0]) for _, evaluation in pool.collect()) == [16, 17, 18, 19]
    assert pool.replacements >= 4
