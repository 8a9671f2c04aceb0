"""Thirty seeded runs and the hash of each: `python -m benchmarks.seeded_runs` says whether any result has changed.

A change that is meant to move or rename things must leave every hash as it is. A hash covers each trial's number, point
and loss, in the order of the numbers. Figures come from floating point, so compare on the machine, and with the
versions, that wrote the hashes: `--write` does that, on the commit to compare with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evoprompt.optim import Trials, make_optimizer, minimize
from evoprompt.parallel import LocalEvaluator, RayEvaluator, generational, steady_state
from evoprompt.typing import Doubles, Floats

HASHES = Path(__file__).parent / "results" / "seeded_runs.json"

DIMENSIONS = ["pdi", "idv", "mas", "uai", "lto", "ivr"]

AUTO = "auto"
"""What the portfolio is called."""


def rosenbrock(x: Floats) -> Doubles:
    """(n, d) to (n,)."""
    x = x.astype(np.float64)
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1)


def rastrigin(x: Floats) -> Doubles:
    """Separable, (n, d) to (n,); fails where the first coordinate is above 4."""
    x = x.astype(np.float64)
    losses: Doubles = (x**2 - 10 * np.cos(2 * np.pi * x) + 10).sum(axis=1)
    return np.where(x[:, 0] > 4, np.nan, losses)


def make_rosenbrock() -> Callable[[Floats], Doubles]:
    """What a Ray worker calls once."""
    return rosenbrock


class Hash:
    """The hash of trials and their losses, by number."""

    def __init__(self) -> None:
        self._rows: dict[int, bytes] = {}

    def add(self, trials: Trials, losses: Any) -> None:
        """Note evaluations."""
        for i, x, loss in zip(trials.ids.tolist(), trials.x, np.asarray(losses, np.float64), strict=True):
            self._rows[i] = x.tobytes() + loss.tobytes()

    def digest(self) -> str:
        """Of everything noted."""
        whole = hashlib.sha256()
        for i in sorted(self._rows):
            whole.update(i.to_bytes(8, "little") + self._rows[i])
        return whole.hexdigest()[:16]


class Noted:
    """An evaluator whose results are hashed on their way."""

    def __init__(self, evaluator: Any, found: Hash) -> None:
        self._evaluator, self._found = evaluator, found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluator, name)

    def collect(self, timeout: float | None = None) -> Any:
        """As the evaluator's own."""
        for trials, evaluation in self._evaluator.collect(timeout):
            self._found.add(trials, evaluation.loss)
            yield trials, evaluation


def asked(
    name: str, d: int = 6, budget: int = 600, fun: Any = rosenbrock, dtype: str = "float64", **options: Any
) -> str:
    """Ask and tell, a generation at a time."""
    optimizer, found = make_optimizer(name, bounds=[(-5, 5)] * d, budget=budget, seed=7, dtype=dtype, **options), Hash()
    while optimizer.should_stop() is None and len(trials := optimizer.ask()):
        losses = fun(trials.x)
        found.add(trials, losses)
        optimizer.tell(trials, losses)
    return found.digest()


def noisy(x: Floats) -> Doubles:
    """The sphere with noise that follows from the point, (n, d) to (n,)."""
    x = x.astype(np.float64)
    return np.asarray((x**2).sum(axis=1) + 0.1 * np.sin(1e6 * x.sum(axis=1)))


def minimised(**arguments: Any) -> str:
    """`minimize` with a constraint."""
    from scipy.optimize import NonlinearConstraint

    found = hashlib.sha256()

    def fun(x: Floats) -> Any:
        found.update(np.ascontiguousarray(x).tobytes())
        return rosenbrock(x[None])[0]

    minimize(fun, [(-5, 5)] * 3, constraints=NonlinearConstraint(lambda x: x[0] + x[1], 1, 3), seed=3, **arguments)
    return found.hexdigest()[:16]


def evaluated(name: str, loop: Any, evaluator: Callable[[], Any]) -> str:
    """With an evaluator, in one of the two loops."""
    found, workers = Hash(), evaluator()
    options = {"updating": "immediate"} if loop is steady_state else {}
    optimizer = make_optimizer(name, bounds=[(-5, 5)] * 6, budget=400, seed=11, popsize=20, dtype="float64", **options)
    try:
        loop(optimizer, Noted(workers, found))
    finally:
        workers.close()
    return found.digest()


def studied(**settings: str) -> str:
    """The main command: losses and dimensions of every trial, and the prompt that was found."""
    import subprocess

    import pandas as pd
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "evoprompt.run", "+culture=arab", f"hydra.run.dir={folder}", "report=false"]
        done = subprocess.run(
            [*command, "survey.respondents=2", "model.threads=1", *overrides],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(overrides)} failed:\n{done.stderr[-2000:]}")
        history = pd.read_parquet(Path(folder) / "history.parquet")
        kept = history[["trial", "generation", "loss", "failed", *DIMENSIONS]].sort_values("trial")
        whole = hashlib.sha256(kept.to_csv(index=False, float_format="%.17g").encode())
        for name, prompt in sorted(load_file(Path(folder) / "expert" / "adapter_model.safetensors").items()):
            whole.update(name.encode() + prompt.tobytes())
    return whole.hexdigest()[:16]


def _runs() -> dict[str, Callable[[], str]]:
    names = (
        "rand/1/bin", "best/1/exp", "current-to-best/1/bin", "jde", "jade", "shade", "lshade", "jso", "lsrtde", "arrde",
        "cma", "nevergrad", "scipy", "dual_annealing", "random",
    )  # fmt: skip
    runs: dict[str, Callable[[], str]] = {name: lambda name=name: asked(name) for name in names}  # type: ignore[misc]
    local, ray = (lambda: LocalEvaluator(rosenbrock, 5)), (lambda: RayEvaluator(make_rosenbrock, 5, num_workers=2))
    return runs | {
        "auto": lambda: asked(AUTO, budget=4000),
        "auto, float32": lambda: asked(AUTO, budget=4000, dtype="float32"),
        "auto, separable, failures": lambda: asked(AUTO, fun=rastrigin, budget=3000),
        "auto, 64 coordinates": lambda: asked(AUTO, d=64, budget=2500),
        "auto, noise, integers": lambda: asked(AUTO, fun=noisy, noise="auto", integrality=[True] * 3 + [False] * 3),
        "shade, noise": lambda: asked("shade", fun=noisy, noise=0.1, dtype="float32"),
        "minimize, constraint": lambda: minimised(budget=1500),
        "jso, generational, in this process": lambda: evaluated("jso", generational, local),
        "jso, generational, two Ray workers": lambda: evaluated("jso", generational, ray),
        "lshade, steady state, in this process": lambda: evaluated("lshade", steady_state, local),
        "study: full": lambda: studied(space="full", budget="60", executor="local"),
        "study: random_projection, shade": lambda: studied(
            space="random_projection", optimizer="shade", budget="60", executor="local"
        ),
        "study: low_rank, suffix": lambda: studied(space="low_rank", budget="60", executor="local", placement="suffix"),
        "study: vocab_pca": lambda: studied(budget="120", executor="local"),
        "study: vocab_pca, two Ray workers": lambda: studied(budget="120", executor="ray", executor__workers="2"),
    }  # fmt: skip


def main() -> int:
    """Run, print a table, and compare with the hashes or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the hashes in place of comparing with them")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    chosen = parser.parse_args()
    known: dict[str, str] = {} if chosen.write else json.loads(HASHES.read_text())["hashes"]
    found: dict[str, str] = {}
    print("| run | hash | |\n|---|---|---|", flush=True)
    for name, run in _runs().items():
        if chosen.only in name:
            found[name] = run()
            word = "" if chosen.write else "as before" if found[name] == known.get(name) else "CHANGED"
            print(f"| {name} | {found[name]} | {word} |", flush=True)
    if chosen.write:
        machine = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
        HASHES.write_text(json.dumps({**machine, "hashes": found}, indent=1) + "\n")
        return 0
    return int(any(found[name] != known.get(name) for name in found))


if __name__ == "__main__":
    raise SystemExit(main())
