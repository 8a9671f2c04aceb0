"""How the pool of workers scales: `python -m benchmarks.scaling`.

Real Ray workers that sleep for a controlled time, one worker slower than the others if asked for, under both loops;
what a round trip costs; the pocket model on real workers; and the same scheduling code on a virtual clock, up to 1 024
workers. Every part can be had alone (`python -m benchmarks.scaling overhead`).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import result_file
from benchmarks.virtual_workers import VirtualWorkers
from evoprompt.optim import DifferentialEvolution, Objective, Optimizer, Trials
from evoprompt.parallel import LocalEvaluator, RayEvaluator, generational, steady_state
from evoprompt.parallel.pool import Pool

__all__ = ["Sleeps", "main", "markdown", "simulated"]

KEY = ("part", "case", "loop", "workers")
COLUMNS = (*KEY, "evaluations", "seconds", "utilisation", "of_ideal", "per_second", "overhead_ms", "memory_mib")
CASES = ("constant", "log-normal", "one 4 x slower")
LOOPS: dict[str, Callable[[Optimizer, Any], None]] = {"generational": generational, "steady": steady_state}
Measurement = tuple[tuple[str, str, str, int], Callable[[], dict[str, Any]]]  # by its key
POPSIZE = 64
SECONDS = 0.05  # of an evaluation
VIRTUAL_SECONDS = 1.0  # of an evaluation on the virtual clock, as a large model takes
SLOWER = 4.0
DRIVER_SECONDS, LATENCY_SECONDS = 1e-3, 1e-3  # of a call, as measured by the part `overhead` on two cores


def durations(case: str, mean: float, x: NDArray[Any]) -> NDArray[np.float64]:
    """Seconds (n,) that points (n, d) take: the same wherever they are evaluated."""
    if case != "log-normal":
        return np.full(len(x), mean)
    drawn = np.array([np.random.default_rng(zlib.crc32(row.tobytes())).normal() for row in x])
    return mean * np.exp(0.5 * drawn - 0.125)


@dataclass(frozen=True)
class Sleeps:
    """An objective that sleeps; in one of the workers that share `folder`, four times as long."""

    case: str
    folder: str

    def __call__(self) -> Objective:
        slowness = 1.0
        if self.case == CASES[2]:
            try:
                os.close(os.open(Path(self.folder) / "slow", os.O_CREAT | os.O_EXCL))
                slowness = SLOWER
            except FileExistsError:
                pass

        def objective(x: NDArray[Any]) -> NDArray[Any]:
            time.sleep(slowness * float(durations(self.case, SECONDS, x).sum()))
            return (x**2).sum(axis=1)

        return objective


class Returns:
    """An objective that takes no time."""

    def __call__(self) -> Objective:
        return lambda x: x[:, 0]


def optimizer(loop: str, budget: int, popsize: int = POPSIZE, d: int = 8) -> Optimizer:
    """Differential evolution whose generations are all of one size; in steady state it learns from each result."""
    updating = "immediate" if loop == "steady" else "deferred"
    box = [(-1.0, 1.0)] * d
    return DifferentialEvolution(
        box, budget=budget, popsize=popsize, seed=0, updating=updating, variant="shade", dtype="float32"
    )


def sleeping(most: int) -> Iterator[Measurement]:
    """Real workers, real time."""
    for case in CASES:
        for workers in (count for count in (1, 2, 4, 8) if count <= most):
            for loop in LOOPS:
                yield ("sleeping", case, loop, workers), partial(_sleeping, case, loop, workers)


def _sleeping(case: str, loop: str, workers: int) -> dict[str, Any]:
    budget = POPSIZE * max(2, 3 * workers)
    with (
        tempfile.TemporaryDirectory() as folder,
        RayEvaluator(Sleeps(case, folder), 1, workers, cpus_per_worker=1 / 16) as pool,
    ):
        began = time.perf_counter()
        LOOPS[loop](optimizer(loop, budget), pool)
        return _speed(case, workers, budget, SECONDS, time.perf_counter() - began, pool.stats().busy)


def simulated(most: int) -> Iterator[Measurement]:
    """The same scheduling code on a virtual clock, with a population of four to a worker."""
    for case in CASES:
        for workers in (2**power for power in range(11) if 2**power <= most):
            for loop in LOOPS:
                yield ("simulated", case, loop, workers), partial(_simulated, case, loop, workers)


def _simulated(case: str, loop: str, workers: int) -> dict[str, Any]:
    slowness = [SLOWER if case == CASES[2] and not index else 1.0 for index in range(workers)]
    takes = partial(durations, case, VIRTUAL_SECONDS)
    virtual = VirtualWorkers(takes, slowness, DRIVER_SECONDS, LATENCY_SECONDS, charged=True)
    pool = Pool(virtual, 1, workers, timeout_s=60, max_retries=2)
    pool.start(workers)
    popsize = max(POPSIZE, 4 * workers)
    LOOPS[loop](optimizer(loop, 16 * popsize, popsize), pool)
    return _speed(case, workers, 16 * popsize, VIRTUAL_SECONDS, virtual.now(), pool.stats().busy)


def _speed(case: str, workers: int, budget: int, mean: float, seconds: float, busy: float) -> dict[str, Any]:
    ideal = workers - (1 - 1 / SLOWER if case == CASES[2] else 0)  # in workers of full speed
    return {
        "evaluations": budget, "seconds": seconds, "per_second": budget / seconds,
        "utilisation": busy / (workers * seconds), "of_ideal": budget * mean / seconds / ideal,
    }  # fmt: skip


def overhead(_: int) -> Iterator[Measurement]:
    """What an evaluation costs beside the work itself, and whether the driver grows over many large ones."""
    for batch, d in ((1, 64), (8, 64), (8, 40_960)):
        yield ("overhead", f"micro-batches of {batch}, d = {d}", "generational", 1), partial(_overhead, batch, d)


def _overhead(batch: int, d: int) -> dict[str, Any]:
    count = 10_000 if d > 64 else 4000
    local = _per_evaluation(LocalEvaluator(Returns()(), batch), count // 10, d)[0]
    with RayEvaluator(Returns(), batch, 1) as pool:
        seconds, memory = _per_evaluation(pool, count, d)
    return {
        "evaluations": count, "seconds": seconds * count, "per_second": 1 / seconds,
        "overhead_ms": 1e3 * (seconds - local), "memory_mib": memory,
    }  # fmt: skip


def _per_evaluation(evaluator: Any, count: int, d: int) -> tuple[float, float]:
    """Seconds per evaluation, and MiB by which this process grew over the last four fifths of them."""
    x = np.random.default_rng(0).random((POPSIZE, d), dtype=np.float32)
    done, middle, began = 0, 0.0, time.perf_counter()
    while done < count:
        evaluator.submit(Trials(np.arange(done, done + POPSIZE), x.copy()))
        done += sum(len(part) for part, _ in evaluator.collect())
        if not middle and done >= count / 5:
            middle = _resident()
    return (time.perf_counter() - began) / done, _resident() - middle


def _resident() -> float:
    """MiB that this process holds and shares with no other: what the object store maps does not count."""
    pages = [int(number) for number in Path("/proc/self/statm").read_text().split()]
    return (pages[1] - pages[2]) * os.sysconf("SC_PAGESIZE") / 2**20


def pocket(most: int) -> Iterator[Measurement]:
    """The survey loss of the pocket model, a thread each, in this process and on workers."""
    yield ("pocket", "in this process", "generational", 1), partial(_pocket, 0)
    for workers in (count for count in (1, 2) if count <= most):
        yield ("pocket", "Ray", "generational", workers), partial(_pocket, workers)


def _pocket(workers: int) -> dict[str, Any]:
    """Rates after as many evaluations to warm up; without workers in this process."""
    from benchmarks.spaces import survey_factory  # loads torch
    from evoprompt.llm import ModelSpec, load_model
    from evoprompt.prompts import DEFAULT_SPACE, space_for

    frozen = load_model(ModelSpec(device="cpu", threads=1))
    space = space_for(frozen, {"kind": DEFAULT_SPACE}, 0)
    factory, budget = survey_factory(frozen, space, "mexico"), 4 * POPSIZE
    with RayEvaluator(factory, 8, workers) if workers else LocalEvaluator(factory(), 8, threads=1) as evaluator:
        generational(optimizer("generational", budget, d=space.d), evaluator)
        before, began = evaluator.stats(), time.perf_counter()
        generational(optimizer("generational", budget, d=space.d), evaluator)
        seconds, busy = time.perf_counter() - began, evaluator.stats().busy - before.busy
    return {
        "evaluations": budget, "seconds": seconds, "per_second": budget / seconds,
        "utilisation": busy / (max(1, workers) * seconds),
    }  # fmt: skip


PARTS = {"sleeping": sleeping, "overhead": overhead, "pocket": pocket, "simulated": simulated}


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """A table per part."""
    made = []
    for part in PARTS:
        mine = [row for row in rows if row["part"] == part]
        if mine:
            made.append("\n".join([f"**{TITLES[part]}**", "", *_table(part, mine)]))
    return "\n\n".join(made) + "\n"


TITLES = {
    "sleeping": f"Ray workers that sleep {1e3 * SECONDS:.0f} ms an evaluation, population {POPSIZE}",
    "overhead": "One Ray worker with an objective that takes no time",
    "pocket": "The pocket model's survey loss, a thread a worker, micro-batches of 8",
    "simulated": (
        f"The same scheduling on a virtual clock: {VIRTUAL_SECONDS:g} s an evaluation, four candidates a worker in the "
        f"population, {1e3 * DRIVER_SECONDS:g} ms of Ray in the driver a call and what optimizer and scheduling take, "
        f"{1e3 * LATENCY_SECONDS:g} ms on the way"
    ),
}


def _table(part: str, rows: Sequence[dict[str, str]]) -> list[str]:
    if part == "overhead":
        lines = ["| case | evaluations | ms an evaluation beside the work | driver grew by, MiB |", "|---|---|---|---|"]
        return lines + [
            f"| {row['case']} | {row['evaluations']} | {float(row['overhead_ms']):.2f} "
            f"| {float(row['memory_mib']):.0f} |"
            for row in rows
        ]
    lines = ["| case | loop | workers | evaluations/s | utilisation | of the ideal |", "|---|---|---|---|---|---|"]
    for row in rows:
        ideal = f"{float(row['of_ideal']):.1%}" if row["of_ideal"] else ""
        lines.append(
            f"| {row['case']} | {row['loop']} | {row['workers']} | {float(row['per_second']):.1f} | "
            f"{float(row['utilisation']):.1%} | {ideal} |"
        )
    return lines


def draw(rows: Sequence[dict[str, str]], path: Path) -> None:
    """Share of the ideal over the number of workers: measured, and on the virtual clock."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    colours = dict(zip(CASES, ("#0072B2", "#009E73", "#D55E00"), strict=True))
    for axes, part, title in zip(
        panels,
        ("sleeping", "simulated"),
        (f"Ray workers, {SECONDS:g} s", f"virtual clock, {VIRTUAL_SECONDS:g} s"),
        strict=True,
    ):
        for case in CASES:
            for loop in LOOPS:
                mine = [row for row in rows if (row["part"], row["case"], row["loop"]) == (part, case, loop)]
                axes.plot(
                    [int(row["workers"]) for row in mine],
                    [float(row["of_ideal"]) for row in mine],
                    color=colours[case],
                    linestyle="-" if loop == "steady" else "--",
                    marker="o",
                    markersize=3,
                    label=f"{case}, {'steady state' if loop == 'steady' else loop}",
                )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("workers")
        axes.set_title(f"{title} an evaluation", loc="left", fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share of the ideal speed")
    panels[0].set_ylim(0, 1.05)
    panels[0].legend(fontsize=8, loc="lower left", frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the rows that are missing, then print the tables and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--workers", type=int, help="at most so many; by default 8 real ones, 1024 simulated ones")
    parser.add_argument("--out", default="benchmarks/results/scaling.csv")
    options = parser.parse_args(arguments)
    file = result_file.ResultFile(options.out, COLUMNS, KEY)
    for part in options.parts:
        most = options.workers or (1024 if part == "simulated" else 8)
        for key, measure in PARTS[part](most):
            if dict(zip(KEY, key, strict=True)) not in file:
                row = dict.fromkeys(COLUMNS, "") | dict(zip(KEY, key, strict=True)) | measure()
                file.add(row)
                print(", ".join(str(row[name]) for name in KEY), f"{row['per_second']:.1f}/s", flush=True)
    rows = result_file.rows(options.out)
    text = markdown(rows) + "\n" + result_file.remarks(options.out)
    Path(options.out).with_suffix(".md").write_text(text)
    if {"sleeping", "simulated"} <= {row["part"] for row in rows}:
        draw(rows, Path(options.out).with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
