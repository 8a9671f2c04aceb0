"""Real servers in processes of their own, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import forkserver
import httpx
import torch

from evoprompt.experts import write_expert
from evoprompt.llm import FrozenModel

REPOSITORY = Path(__file__).parents[2]
NAMES = ("japan", "brazil", "kenya", "germany", "india", "usa")


@dataclass(frozen=True)
class Server:
    """Where it listens, the folder of its experts, and its process."""

    url: str
    experts: Path
    process: subprocess.Popen[str]

    def health(self) -> dict[str, object]:
        found: dict[str, object] = httpx.get(f"{self.url}/health", timeout=120).json()
        return found


def write_experts(folder: Path, frozen: FrozenModel) -> Path:
    """Experts that each say something else."""
    mean, spread = frozen.embedding_statistics
    for seed, name in enumerate(NAMES):
        noise = torch.randn(3 + seed % 3, frozen.hidden, generator=torch.Generator().manual_seed(seed))
        targets = {"pdi": 10.0 + 15 * seed, "idv": 90.0 - 15 * seed}
        about = {"culture": {"key": name, "name": name.title(), "edition": "test", "targets": targets}}
        write_expert(folder / name, mean + 5 * spread * noise, frozen, about)
    return folder


@contextmanager
def serving(experts: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """`python -m evoprompt.serve`, until the block is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = forkserver.Python(
        [sys.executable, "-m", "evoprompt.serve", "--experts", str(experts), "--port", str(port), *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    server = Server(f"http://127.0.0.1:{port}", experts, process)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, process.communicate()
            try:
                server.health()
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
