"""A slow external program, one process per evaluation, on Ray workers: by generations, then in steady state."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evoprompt import DifferentialEvolution, minimize
from evoprompt.parallel import RayEvaluator

PROGRAM = [sys.executable, str(Path(__file__).with_name("simulator.py"))]
BOUNDS = [(-5, 5), (-5, 5)]


def simulate(x: np.ndarray) -> list[float]:
    """Points (n, 2) to n losses; an exception or a timeout costs its candidate and no other."""
    losses = []
    for point in x:
        command = [*PROGRAM, *map(str, point)]
        losses.append(float(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout))
    return losses


def objective() -> Callable[[np.ndarray], list[float]]:
    """Called once in each worker: what is slow to load belongs here."""
    return simulate


def new() -> DifferentialEvolution:
    """An optimizer that learns from every result when it is told."""
    return DifferentialEvolution(BOUNDS, budget=60, seed=0, updating="immediate")


if __name__ == "__main__":
    with RayEvaluator(objective, batch_size=1, num_workers=2) as workers:
        result = minimize(None, BOUNDS, budget=60, evaluator=workers)
        print(f"by generations: {result.x}, {result.fun:.3g} after {result.nfev} evaluations, {result.nfail} failed")

        optimizer = new()
        workers.submit(optimizer.ask(3))  # three in flight: no worker waits for the driver
        for trials, evaluation in workers.collect():
            optimizer.tell(trials, evaluation)
            more = optimizer.ask(len(trials))
            if len(more):
                workers.submit(more)
    print(f"steady state: {optimizer.best.x}, {optimizer.best.loss:.3g} after {optimizer.evaluations} evaluations")
