"""What there is at a Ray address, asked in a process of its own, so that a cluster that hangs stops nobody else.

`python -m evoprompt.preflight.cluster <address>` joins as a driver, prints what it sees and leaves; it starts nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evoprompt.errors import UserError
from evoprompt.parallel.ray_cluster import WorkerRequest, import_path, joined
from evoprompt.preflight.findings import counted

__all__ = ["LIMIT_SECONDS", "Cluster", "ask"]

LIMIT_SECONDS = 30.0
ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True)
class Cluster:
    """Resources of the nodes that are alive, as Ray names them, and what of them is free."""

    nodes: Sequence[Mapping[str, float]]
    free: Mapping[str, float]

    def total(self, name: str) -> float:
        """How much the cluster has of a resource."""
        return sum(node.get(name, 0.0) for node in self.nodes)

    def __str__(self) -> str:
        free = f"{self.free.get('CPU', 0):g} CPU and {self.free.get('GPU', 0):g} GPU"
        nodes = f"{counted(len(self.nodes), 'node')} alive"
        return f"{nodes}, {self.total('CPU'):g} CPU and {self.total('GPU'):g} GPU, of which {free} are free now"

    def kinds(self) -> list[str]:
        """A line for every kind of node."""
        return [f"{count} x {kind}" for kind, count in Counter(map(_described, self.nodes)).most_common()]


def _described(node: Mapping[str, float]) -> str:
    names = ", ".join(name.removeprefix(ACCELERATOR) for name in node if name.startswith(ACCELERATOR))
    gpus = f"{node.get('GPU', 0):g} GPU" + (f" ({names})" if names else "")
    return f"{node.get('CPU', 0):g} CPU, {gpus}, {node.get('memory', 0) / 2**30:.0f} GiB of memory"


def ask(address: str, limit_s: float = LIMIT_SECONDS) -> Cluster:
    """Join the cluster for a moment. Raises `UserError` if there is none, or it does not answer in time."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, address],
            env={**os.environ, "PYTHONPATH": import_path()},
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"no Ray cluster at address {address!r} let this process join within {limit_s:g} s; a driver has to run on "
            "one of its nodes, or to join by ray://<head>:10001; 'ray status' says whether the cluster is well"
        ) from None
    if "AuthenticationError" in done.stderr or "Unauthenticated" in done.stderr:
        raise UserError(
            f"the Ray cluster at address {address!r} wants its token: set RAY_AUTH_MODE=token here too, and let "
            "~/.ray/auth_token be the file that its head node has"
        )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = " ".join(done.stderr.strip().splitlines()[-1:]) or f"exit code {done.returncode}"
        raise UserError(f"cannot join a Ray cluster at address {address!r}: {last}") from None
    if "refusal" in answer:
        raise UserError(answer["refusal"])
    return Cluster(**answer)


def _look(address: str) -> dict[str, object]:
    try:
        with joined(address, WorkerRequest(1, 0, 0)):
            import ray

            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            return {"nodes": nodes, "free": ray.available_resources()}
    except UserError as error:
        return {"refusal": str(error)}


if __name__ == "__main__":
    print(json.dumps(_look(sys.argv[1])))
