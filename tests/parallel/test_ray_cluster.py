"""Clusters that an evaluator starts or joins itself, each in a driver process of its own."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest

import evoprompt.parallel
from evoprompt.errors import UserError
from evoprompt.parallel.ray_cluster import WorkerRequest, joined, usable_cpus

CHECKOUT = Path(evoprompt.parallel.__file__).parents[2]

DRIVER = """
    import json, os, sys

    sys.path.insert(0, {checkout!r})
    import numpy as np
    from evoprompt.errors import UserError
    from evoprompt.optim.protocol import Trials
    from evoprompt.parallel import RayEvaluator


    def squares():
        return lambda x: (x**2).sum(axis=1)


    try:
        RayEvaluator(squares, batch_size=2, num_workers=10_000)
    except UserError as error:
        refusal = str(error)

    with RayEvaluator(squares, batch_size=2, num_workers=1) as pool:
        pool.submit(Trials([0, 1, 2], np.arange(3.0)[:, None]))
        losses = sorted(loss for _, found in pool.collect() for loss in found.loss.tolist())
        pids = [pid for _, pid in pool.processes.values()]

    import ray

    print(json.dumps(dict(refusal=refusal, losses=losses, pids=pids, connected=ray.is_initialized())))
"""


@pytest.mark.system
def test_an_evaluator_runs_from_a_checkout_and_takes_down_the_cluster_it_started(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DRIVER).format(checkout=str(CHECKOUT)))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["losses"] == [0.0, 1.0, 4.0]
    assert answer["refusal"].startswith(
        "10000 Ray workers of 1 CPU and 0 GPU each need 10000 CPU, and this machine has"
    )
    assert answer["connected"] is False
    assert not any(psutil.pid_exists(pid) for pid in answer["pids"])
    assert done.stderr == ""


DROPPING_DRIVER = """
    import gc, os, sys

    sys.path.insert(0, {checkout!r})
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    import numpy as np
    import ray
    from evoprompt.optim.protocol import Trials
    from evoprompt.parallel import RayEvaluator


    def squares():
        return lambda x: (x**2).sum(axis=1)


    first = RayEvaluator(squares, batch_size=2, num_workers=1)
    with RayEvaluator(squares, batch_size=2, num_workers=1, cpus_per_worker=0) as second:
        del first
        gc.collect()
        second.submit(Trials([0, 1, 2], np.arange(3.0)[:, None]))
        print(*sorted(loss for _, found in second.collect() for loss in found.loss.tolist()))
    ray.shutdown()


    class Disconnecting:
        def __reduce__(self):
            ray.shutdown()
            return squares, ()


    try:
        RayEvaluator(Disconnecting(), batch_size=2, num_workers=1)
    except Exception as error:
        print(error)
"""


@pytest.mark.system
def test_an_evaluator_that_is_dropped_leaves_ray_to_another_and_a_lost_cluster_is_no_fault_of_the_factory(
    tmp_path: Path,
) -> None:
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(DROPPING_DRIVER).format(checkout=str(CHECKOUT)))
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    losses, refusal = done.stdout.splitlines()
    assert losses == "0.0 1.0 4.0"
    assert "Ray has not been started" in refusal
    assert "pickled" not in refusal


CLIENT = """
    import sys

    sys.path.insert(0, {checkout!r})
    import numpy as np
    from evoprompt.optim.protocol import Trials
    from evoprompt.parallel import RayEvaluator


    def squares():
        return lambda x: (x**2).sum(axis=1)


    with RayEvaluator(squares, batch_size=2, address={address!r}) as pool:
        pool.submit(Trials([0, 1, 2], np.arange(3.0)[:, None]))
        print(len(pool.processes), *sorted(loss for _, found in pool.collect() for loss in found.loss.tolist()))
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.system
def test_a_driver_outside_the_cluster_works_through_a_ray_client(tmp_path: Path) -> None:
    port, outside = free_port(), free_port()
    head = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=2", f"--port={port}"]
    head += [f"--ray-client-server-port={outside}", "--include-dashboard=false", "--disable-usage-stats"]
    head += ["--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000"]
    script = tmp_path / "driver.py"
    script.write_text(textwrap.dedent(CLIENT).format(checkout=str(CHECKOUT), address=f"ray://127.0.0.1:{outside}"))
    short = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)  # as Ray has sockets below it
    with short as folder:
        own = {**os.environ, "RAY_TMPDIR": folder, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
        with subprocess.Popen(head, env=own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as cluster:
            try:
                deadline = time.monotonic() + 400
                while True:  # its port is open before it can take a driver
                    done = subprocess.run(
                        [sys.executable, str(script)], env=own, capture_output=True, text=True, timeout=900
                    )
                    if done.returncode == 0:
                        break
                    assert "UserError: " in done.stderr, done.stderr
                    assert time.monotonic() < deadline, done.stderr
                    time.sleep(1)
                assert done.stdout.split() == ["2", "0.0", "1.0", "4.0"]
            finally:
                cluster.terminate()


def test_an_address_where_nothing_answers_is_an_error_at_once() -> None:
    with (
        pytest.raises(UserError, match=r"nothing answers at the Ray address 'ray://127\.0\.0\.1:1'"),
        joined("ray://127.0.0.1:1", WorkerRequest(1, 1, 0)),
    ):
        pass
    with (
        pytest.raises(UserError, match=r"nothing answers at the Ray address '127\.0\.0\.1:1'"),
        joined("127.0.0.1:1", WorkerRequest(1, 1, 0)),
    ):
        pass


def test_more_workers_than_this_machine_has_cpus_for_are_refused_before_a_cluster_is_started() -> None:
    with (
        pytest.raises(UserError, match=rf"this machine has {usable_cpus()};"),
        joined(None, WorkerRequest(usable_cpus() + 1, 1, 0)),
    ):
        pass


@pytest.mark.parametrize("share", [-1, float("nan"), float("inf")])
def test_a_share_that_is_no_amount_is_refused_by_its_name(share: float) -> None:
    with pytest.raises(UserError, match=f"gpus_per_worker.*{share}"):
        WorkerRequest(1, 1, share)


def test_a_worker_is_never_spread_over_two_nodes() -> None:
    request = WorkerRequest(2, cpus=4, gpus=0.5)
    assert request.room_in({"CPU": 7, "GPU": 8}) == 1
    assert request.room_in({"CPU": 3, "GPU": 8}) == 0
    assert request.room_in({"CPU": 64}) == 0
    assert request.room_in({"CPU": 64, "GPU": 1}) == 2
