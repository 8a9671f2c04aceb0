"""The Ray evaluator on a small cluster on this machine, with processes that really die."""

import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from parallel_objectives import (
    BuildsOnce,
    HangsOnce,
    Kills,
    OneIsBroken,
    Raises,
    Slow,
    SmallNet,
    chosen_at_random,
    dying,
    evaluate,
    first_coordinate,
    healthy,
    numbered_trials,
    raising,
    refusing,
    sleeping,
    with_a_metric_that_cannot_travel,
)

import evoprompt.parallel
from evoprompt.errors import UserError
from evoprompt.optim import DifferentialEvolution
from evoprompt.optim.protocol import Objective
from evoprompt.parallel import LocalEvaluator, RayEvaluator, WorkersLostError, generational

CHECKOUT = Path(evoprompt.parallel.__file__).parents[2]

JOINING_DRIVER = """
    import sys

    sys.path.insert(0, {checkout!r})
    import numpy as np
    from evoprompt.optim.protocol import Trials
    from evoprompt.parallel import RayEvaluator


    def squares():
        return lambda x: (x**2).sum(axis=1)


    with RayEvaluator(squares, batch_size=2, num_workers=2, address={address!r}) as pool:
        pool.submit(Trials([0, 1, 2], np.arange(3.0)[:, None]))
        print(*sorted(loss for _, found in pool.collect() for loss in found.loss.tolist()))
"""

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("num_workers", [1, 2])
def test_local_and_ray_give_the_same_bits_from_the_same_micro_batches(num_workers: int) -> None:
    trials = chosen_at_random(37)
    with LocalEvaluator(SmallNet()(), batch_size=5, threads=1) as local:
        here = evaluate(local, trials)
    with RayEvaluator(SmallNet(), batch_size=5, num_workers=num_workers) as pool:
        there = evaluate(pool, trials)
        again = evaluate(pool, trials)
    for other in (there, again):
        assert other.loss.tobytes() == here.loss.tobytes()
        assert list(other.metrics) == list(here.metrics)
        for name, values in here.metrics.items():
            assert other.metrics[name].dtype == values.dtype
            assert other.metrics[name].tobytes() == values.tobytes()
    np.testing.assert_array_equal(there.metrics["batch"], [5] * 35 + [2] * 2)
    assert set(there.worker.split(",")) <= {f"ray-{index}" for index in range(num_workers)}
    assert there.seconds > 0


def test_one_raising_candidate_costs_only_itself_and_nan_passes() -> None:
    trials = numbered_trials(8)
    here = evaluate(LocalEvaluator(Raises()(), batch_size=4), trials)
    with RayEvaluator(Raises(), batch_size=4, num_workers=1) as pool:
        there = evaluate(pool, trials)
        assert "ArithmeticError: candidate four is not to be had" in str(pool.last_error)
        assert pool.replacements == 0
    np.testing.assert_array_equal(there.loss, [0, 1, 2, 3, np.nan, 5, np.nan, np.inf])
    np.testing.assert_array_equal(there.loss, here.loss)
    for name, values in here.metrics.items():
        np.testing.assert_array_equal(there.metrics[name], values)


@pytest.mark.system
def test_a_worker_killed_in_the_middle_of_a_micro_batch_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    trials = numbered_trials(20)
    with RayEvaluator(Kills(tmp_path, victim=9), batch_size=2, num_workers=2) as pool:
        found = evaluate(pool, trials)
        assert pool.replacements == 1
        assert "[8, 9]" in str(pool.last_error)
    np.testing.assert_array_equal(found.loss, np.arange(20))
    np.testing.assert_array_equal(found.metrics["row"], trials.x)
    finished = [int(line) for line in (tmp_path / "finished.txt").read_text().split()]
    assert sorted(finished) == list(range(20))


def test_a_worker_killed_from_outside_is_replaced(tmp_path: Path) -> None:
    with RayEvaluator(Slow(tmp_path, seconds=0.4), batch_size=1, num_workers=2) as pool:
        _, victim = pool.processes["ray-1"]

        def kill_when_busy() -> None:
            wait_until((tmp_path / f"begun-{victim}").exists)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill_when_busy, daemon=True)
        killer.start()
        found = evaluate(pool, numbered_trials(12))
        killer.join(60)
        assert pool.replacements == 1
        assert victim not in found.metrics["pid"]
    np.testing.assert_array_equal(found.loss, np.arange(12))


@pytest.mark.system
def test_a_candidate_that_kills_every_worker_fails_alone_after_the_retries(tmp_path: Path) -> None:
    with RayEvaluator(Kills(tmp_path, victim=2, times=99), batch_size=2, num_workers=1, max_retries=1) as pool:
        found = evaluate(pool, numbered_trials(6))
        assert pool.replacements == 3
    np.testing.assert_array_equal(found.loss, [0, 1, np.nan, 3, 4, 5])
    assert len(list(tmp_path.glob("killed-*"))) == 3  # with its micro-batch, with that again, alone
    assert np.isnan(found.metrics["row"][2]).all()


@pytest.mark.system
def test_a_worker_that_hangs_is_killed_and_its_micro_batch_goes_to_the_next(tmp_path: Path) -> None:
    with RayEvaluator(HangsOnce(tmp_path), batch_size=2, num_workers=2, hang_s=2) as pool:
        before = time.monotonic()
        found = evaluate(pool, numbered_trials(12))
        assert pool.replacements == 1
        assert "gave no answer for" in str(pool.last_error)
        assert time.monotonic() - before < 60
    np.testing.assert_array_equal(found.loss, np.arange(12))


@pytest.mark.system
def test_candidates_do_not_pay_for_workers_that_died_while_idle(tmp_path: Path) -> None:
    with RayEvaluator(healthy, batch_size=1, num_workers=4, cpus_per_worker=0.25) as pool:
        for _, victim in list(pool.processes.values())[:3]:
            os.kill(victim, signal.SIGKILL)
        found = evaluate(pool, numbered_trials(2))
        np.testing.assert_array_equal(found.loss, [0, 1])


@pytest.mark.system
def test_a_driver_that_comes_late_ends_no_healthy_worker(tmp_path: Path) -> None:
    with RayEvaluator(Slow(tmp_path, seconds=0.2), batch_size=1, num_workers=2, hang_s=1) as pool:
        pool.submit(numbered_trials(4))
        time.sleep(2.5)
        assert sorted(int(part.ids[0]) for part, _ in pool.collect()) == [0, 1, 2, 3]
        assert pool.replacements == 0


@pytest.mark.system
def test_a_worker_that_raises_on_everything_is_replaced(tmp_path: Path) -> None:
    with RayEvaluator(OneIsBroken(tmp_path), batch_size=1, num_workers=2) as pool:
        found = evaluate(pool, numbered_trials(60))
        assert pool.replacements == 1
        assert "the device is in a bad state" in str(pool.last_error)
    assert np.isfinite(found.loss).all(), "what it failed on was given to the other"


@pytest.mark.system
def test_a_broken_worker_does_not_change_a_generational_search(tmp_path: Path) -> None:
    def search(evaluator: LocalEvaluator | RayEvaluator) -> DifferentialEvolution:
        optimizer = DifferentialEvolution([(0, 1)] * 3, budget=96, seed=0, popsize=16, variant="shade")
        generational(optimizer, evaluator)
        return optimizer

    alone = search(LocalEvaluator(first_coordinate, batch_size=4))
    with RayEvaluator(OneIsBroken(tmp_path), batch_size=4, num_workers=2) as pool:
        beside = search(pool)
        assert pool.replacements == 1
    assert (beside.best.loss, beside.evaluations, beside.failed) == (alone.best.loss, 96, 0)
    np.testing.assert_array_equal(beside.best.x, alone.best.x)


def test_a_metric_that_cannot_travel_fails_its_micro_batch_alone() -> None:
    with RayEvaluator(with_a_metric_that_cannot_travel, batch_size=1, num_workers=1) as pool:
        evaluate(pool, numbered_trials(40, first_id=100))  # it learns that several can go together
        found = evaluate(pool, numbered_trials(40))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(found.loss)), [7])


@pytest.mark.system
def test_a_timeout_is_kept_while_results_keep_coming(tmp_path: Path) -> None:
    with RayEvaluator(Slow(tmp_path, seconds=0.05), batch_size=1, num_workers=2) as pool:
        pool.submit(numbered_trials(200))
        began = time.monotonic()
        some = len(list(pool.collect(timeout=1)))
        assert time.monotonic() - began < 2
        assert 0 < some < 200


def test_a_search_does_not_begin_on_what_another_left(tmp_path: Path) -> None:
    with RayEvaluator(healthy, batch_size=1, num_workers=1) as pool:
        pool.submit(numbered_trials(3))
        with pytest.raises(RuntimeError, match="3 candidates of another search are in this evaluator"):
            generational(DifferentialEvolution([(0, 1)] * 2, budget=20, seed=0), pool)


def test_short_micro_batches_travel_together_and_come_back_apart() -> None:
    trials = numbered_trials(300)
    with RayEvaluator(healthy, batch_size=3, num_workers=2) as pool:
        evaluate(pool, trials)  # it learns how short they are
        arrived = []
        pool.submit(trials)
        for part, evaluation in pool.collect():
            arrived.append(len(part))
            np.testing.assert_array_equal(evaluation.loss, part.ids)
            np.testing.assert_array_equal(evaluation.metrics["row"], part.x)
        stats = pool.stats()
    assert arrived == [3] * 100
    assert (stats.workers, stats.outstanding, stats.queued, stats.replacements) == (2, 0, 0, 0)
    assert 0 < stats.utilisation < 1


def test_a_reader_may_leave_between_any_two_results() -> None:
    with RayEvaluator(healthy, batch_size=1, num_workers=1) as pool:
        evaluate(pool, numbered_trials(20))
        pool.submit(numbered_trials(40))
        seen = []
        while pool.stats().outstanding:
            part, _ = next(iter(pool.collect()))
            seen.append(int(part.ids[0]))
    assert sorted(seen) == list(range(40))


@pytest.mark.system
def test_losing_the_last_worker_for_good_is_waited_for_in_words_and_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("evoprompt.parallel.pool.SILENT_SECONDS", 1)
    with RayEvaluator(BuildsOnce(tmp_path), batch_size=2, num_workers=1, timeout_s=8) as pool:
        pool.submit(numbered_trials(4))
        with pytest.raises(
            RuntimeError, match=r"no worker is left.*ray-0 could not build its objective.*the model folder is gone"
        ):
            list(pool.collect())
    assert re.search(r"no worker is up; waiting \d s more for one", caplog.text)


@pytest.mark.system
def test_another_process_can_join_the_cluster_and_leaves_it_running(tmp_path: Path) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(JOINING_DRIVER).format(checkout=str(CHECKOUT), address=address))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout.split()) == (0, ["0.0", "1.0", "4.0"]), done.stderr
    assert ray.cluster_resources()["CPU"] == 2


@pytest.mark.system
def test_a_timeout_leaves_micro_batches_outstanding_and_a_closed_pool_leaves_no_process(tmp_path: Path) -> None:
    pool = RayEvaluator(Slow(tmp_path, seconds=0.5), batch_size=1, num_workers=1)
    pids = [pid for _, pid in pool.processes.values()]
    pool.submit(numbered_trials(2))
    assert list(pool.collect(timeout=0)) == []
    assert [part.ids.tolist() for part, _ in pool.collect()] == [[0], [1]]
    assert all(psutil.pid_exists(pid) for pid in pids)
    pool.close()
    pool.close()
    assert wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(numbered_trials(1))


def test_a_factory_that_raises_gives_its_message() -> None:
    with pytest.raises(RuntimeError, match=r"the factory raised in worker ray-0: OSError: the model folder is empty"):
        RayEvaluator(raising, batch_size=1, num_workers=1)
    with pytest.raises(UserError, match=r"^unknown model 'lama'; did you mean llama\?$"):
        RayEvaluator(refusing, batch_size=1, num_workers=1)


@pytest.mark.system
def test_a_factory_that_kills_its_process_is_tried_again_and_then_told() -> None:
    with pytest.raises(WorkersLostError, match=r"worker ray-0 dies whenever it builds the objective: .*ActorDied"):
        RayEvaluator(dying, batch_size=1, num_workers=1, max_retries=1)


def test_a_factory_that_cannot_be_pickled_is_refused_by_its_name() -> None:
    lock = threading.Lock()

    def locked() -> Objective:
        with lock:
            return healthy()

    with pytest.raises(UserError, match=r"locked.*cannot be pickled"):
        RayEvaluator(locked, batch_size=1, num_workers=1)


def test_a_request_for_ten_thousand_cpus_fails_at_once_with_what_there_is() -> None:
    before = time.monotonic()
    with pytest.raises(UserError, match=r"1 Ray worker of 10000 CPU.*has 2 CPU and 0 GPU on 1 node.*executor\.workers"):
        RayEvaluator(healthy, batch_size=1, num_workers=1, cpus_per_worker=10_000)
    with pytest.raises(UserError, match=r"1 Ray worker of 1 CPU and 64 GPU each do not fit"):
        RayEvaluator(healthy, batch_size=1, num_workers=1, gpus_per_worker=64)
    assert time.monotonic() - before < 10


@pytest.mark.system
def test_workers_that_do_not_come_up_in_time_are_counted_meanwhile_and_in_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("evoprompt.parallel.ray_evaluator.SILENT_SECONDS", 1)
    with (
        RayEvaluator(healthy, batch_size=1, num_workers=1, cpus_per_worker=2),
        pytest.raises(UserError, match=r"not all ready after 2 s: 0 of 1 have a process"),
    ):
        RayEvaluator(healthy, batch_size=1, num_workers=1, timeout_s=2)
    with pytest.raises(UserError, match=r"after 3 s: .* 0 their objective.*wait longer"):
        RayEvaluator(sleeping, batch_size=1, num_workers=1, timeout_s=3)
    assert re.search(r"waiting for 1 Ray worker of 1 CPU .*: \d of 1 have a process, 0 their objective", caplog.text)


@pytest.mark.system
def test_as_many_workers_as_possible_have_the_whole_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evoprompt.parallel.ray_evaluator.SILENT_SECONDS", 0.1)
    monkeypatch.setattr("evoprompt.parallel.ray_evaluator.PATIENCE_SECONDS", 0.1)
    with RayEvaluator(partial(sleeping, 4), batch_size=1) as pool:
        assert pool.processes


@pytest.mark.parametrize("num_workers", [0, -1, 1.5, True])
def test_a_number_of_workers_that_is_no_positive_whole_number_is_refused(num_workers: int) -> None:
    with pytest.raises(UserError, match=f"num_workers.*{num_workers}"):
        RayEvaluator(healthy, batch_size=1, num_workers=num_workers)


def test_another_clusters_address_is_refused_while_connected_to_one() -> None:
    with (
        RayEvaluator(healthy, batch_size=1, num_workers=1),
        pytest.raises(
            UserError, match=r"is connected to the Ray cluster at .*, not 192\.0\.2\.1:1; leave the address out"
        ),
    ):
        RayEvaluator(healthy, batch_size=1, num_workers=1, address="192.0.2.1:1")
