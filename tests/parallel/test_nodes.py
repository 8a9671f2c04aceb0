"""Nodes that leave and join, and a node that runs out of memory: real Ray nodes, all on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import evoprompt.parallel

FOLDERS = [str(Path(evoprompt.parallel.__file__).parents[2]), str(Path(__file__).parent)]

HEAD = """
    import json, os, sys

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    sys.path[:0] = {folders!r}
    from pathlib import Path
    from parallel_objectives import FillsMemory, Slow, evaluate, numbered_trials
    from evoprompt.parallel import RayEvaluator
"""

NODES = """
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1, include_dashboard=False))
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    workers, arrived = [], []
    with RayEvaluator(Slow(Path({folder!r}), 0.25), batch_size=1, address=cluster.address) as pool:
        workers.append(len(pool.processes))
        pool.submit(numbered_trials(120))
        for count, (part, evaluation) in enumerate(pool.collect()):
            arrived.append((int(part.ids[0]), float(evaluation.loss[0])))
            if count == 10:
                cluster.remove_node(second, allow_graceful=False)
            if count == 40:
                cluster.add_node(num_cpus=1)
            workers.append(len(pool.processes))
    print(json.dumps(dict(workers=workers, arrived=arrived, replacements=pool.replacements)))
"""

MEMORY = """
    import psutil

    there = psutil.virtual_memory()
    spare = int(0.1 * there.total)
    os.environ["RAY_memory_usage_threshold"] = str(1 - (there.available - spare) / there.total)
    os.environ["RAY_memory_monitor_refresh_ms"] = "100"
    factory = FillsMemory(Path({folder!r}), 2 * spare)
    with RayEvaluator(factory, batch_size=2, num_workers=1) as pool:
        losses = evaluate(pool, numbered_trials(8)).loss.tolist()
        print(json.dumps(dict(losses=losses, replacements=pool.replacements, said=pool.last_error)))
"""


def answer_of(script: str, folder: Path) -> dict:
    file = folder / "driver.py"
    file.write_text(textwrap.dedent(HEAD + script).format(folders=FOLDERS, folder=str(folder)))
    done = subprocess.run([sys.executable, str(file)], cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.system
def test_a_node_may_leave_and_another_join_while_candidates_are_evaluated(tmp_path: Path) -> None:
    answer = answer_of(NODES, tmp_path)
    assert sorted(number for number, _ in answer["arrived"]) == list(range(120)), "each once"
    assert all(number == loss for number, loss in answer["arrived"])
    workers = answer["workers"]
    assert workers[0] == 2
    lost = workers.index(1)
    assert 2 in workers[lost:], "a worker was started on the new node"


@pytest.mark.system
def test_a_worker_that_ray_kills_for_its_memory_is_replaced(tmp_path: Path) -> None:
    answer = answer_of(MEMORY, tmp_path)
    assert answer["losses"] == list(range(8))
    assert answer["replacements"] == 1
    assert "memory" in answer["said"].lower()
