"""What the whole suite shares: workers of one thread each, the pocket model loaded once, and a user's signals."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from evoprompt.llm import FrozenModel

LONGEST = [
    *("tests/run/", "tests/study/", "tests/experiments/", "tests/llm/", "tests/serving/", "tests/parallel/"),
    *("tests/cluster/", "tests/examples/", "tests/benchmarks/", "tests/test_wheel", "tests/report/", "tests/optim/"),
]
MadeOnce = Callable[[str, Callable[[Path], object]], Path]

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # nothing above imports numpy or torch, and the workers share the machine
os.environ.setdefault("RAY_AUTH_TOKEN", "0" * 64)  # else the first clusters of a new machine each write one, at once
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # models take two threads, which else burn a CPU while they wait
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so it is in the background of a script, and for all children
    signal.signal(signal.SIGINT, signal.default_int_handler)

collect_ignore_glob = ["*/conftest.py"]  # no tests, but they would be imported under one name

hypothesis.settings.register_profile("fast", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=300, deadline=None, derandomize=True)


def _asked_for_system(config: pytest.Config) -> bool:
    return config.option.markexpr == "system"


def pytest_configure(config: pytest.Config) -> None:
    """Properties are tried on few examples, or on many where `-m system` or HYPOTHESIS_PROFILE asks for it."""
    if not config.getoption("--hypothesis-profile"):
        profile = "thorough" if _asked_for_system(config) else "fast"
        hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", profile))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each of up to four CPUs where folders are asked for, none for a few files.

    `-m system` has one more, since it often waits: for clusters, servers, browsers and what dies slowly.
    """
    files = all(Path(argument.split("::")[0]).is_file() for argument in config.args)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if files else min(4, cpus) + _asked_for_system(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A file's tests run on one worker, for what they share, long ones first; `-m system` has the properties too."""
    items.sort(key=lambda item: next((n for n, folder in enumerate(LONGEST) if item.nodeid.startswith(folder)), 99))
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))
        if _asked_for_system(config) and getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("system")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """A folder of a name that one worker makes and all read: whoever comes first makes it, the others wait."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / f"{name}.made").exists():
                shutil.rmtree(shared / name, ignore_errors=True)
                (shared / name).mkdir()
                make(shared / name)
                (shared / f"{name}.made").touch()
        return shared / name

    return folder


@pytest.fixture(scope="session")
def pocket() -> FrozenModel:
    """The bundled model in float32 on the CPU."""
    from evoprompt.llm import ModelSpec, load_model

    return load_model(ModelSpec(device="cpu"))
