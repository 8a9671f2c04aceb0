"""What an optimizer itself costs: `python -m benchmarks.overhead`. CPU time of one evaluation and peak memory.

The objective looks its answers up in an array, so what is timed is the optimizer, asking and telling together. Each
figure comes from a fresh process of one thread, with a population of 100.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks import curves, resident, result_file
from benchmarks.overhead_cases import CASES, Case, Done, run_case
from benchmarks.workers import ONE_THREAD

__all__ = ["Lookup", "main"]

POPSIZE = 100
DIMS = (10, 1000, 40_960)
COLUMNS = ("method", "dim", "dtype", "status", "us", "evaluations", "peak_mib", "copies")
_WARM_UP = 300
_MOST = 20_000_000
_ANSWERS = 1_000_003


class Lookup:
    """An objective whose losses were drawn beforehand; keeps the time, and ends the run when there is enough of it.

    Parameters
    ----------
    d : int
    seconds : float
        How long to measure, after a warm-up of three generations.
    """

    def __init__(self, d: int, seconds: float) -> None:
        self.d, self._seconds = d, seconds
        self.low, self.high = np.full(d, -5.0), np.full(d, 5.0)
        self._answers: NDArray[np.float64] = np.random.default_rng(0).random(_ANSWERS) + 1.0
        self._list = self._answers.tolist()
        self.count, self.begun, self.first = 0, 0.0, 0

    def __call__(self, x: Any) -> float:
        """The next answer."""
        self._tick(1)
        return self._list[self.count % _ANSWERS]

    def batch(self, x: Any) -> NDArray[np.float64]:
        """The next answers (n,)."""
        self._tick(len(x))
        start = self.count % (_ANSWERS - len(x))
        return self._answers[start : start + len(x)]

    def _tick(self, n: int) -> None:
        if self.first == 0 and self.count >= _WARM_UP:
            self.begun, self.first = time.process_time(), self.count
        elif self.first and time.process_time() - self.begun > self._seconds:
            self.elapsed, self.timed = time.process_time() - self.begun, self.count - self.first
            raise Done
        self.count += n


def _measure(name: str, d: int, seconds: float) -> dict[str, Any]:
    """One figure, in this process."""
    case = CASES[name]
    objective = Lookup(d, seconds)
    case.load()
    gc.collect()
    base = resident.reset_peak()
    try:
        run_case(case, objective, POPSIZE, _MOST)
        raise RuntimeError(f"ended by itself after {objective.count} evaluations")
    except Exception as error:
        if not hasattr(objective, "elapsed"):
            return {"status": f"failed: {type(error).__name__}: {str(error)[:120]}"}
    peak = resident.peak() - base
    copies = peak / (POPSIZE * d * np.dtype(case.dtype).itemsize)
    return {
        "status": "ok", "us": 1e6 * objective.elapsed / objective.timed, "evaluations": objective.timed,
        "peak_mib": peak / 2**20, "copies": copies,
    }  # fmt: skip


def _fresh(case: Case, d: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row, the least time of several fresh processes."""
    row: dict[str, Any] = {"method": case.name, "dim": d, "dtype": case.dtype, "us": np.nan, "evaluations": 0}
    row |= {"peak_mib": np.nan, "copies": np.nan}
    if d in case.infeasible:
        return {**row, "status": case.infeasible[d]}
    command = [sys.executable, "-m", "benchmarks.overhead", "--measure", case.name, str(d), str(options.seconds)]
    every = []
    for _ in range(options.repeats):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=options.limit, env={**os.environ, **ONE_THREAD}
            )
        except subprocess.TimeoutExpired:
            return {**row, "status": f"failed: took more than {options.limit:.0f} s"}
        if done.returncode != 0:
            return {**row, "status": f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:120]}"}
        every.append(json.loads(done.stdout.splitlines()[-1]))
        if every[-1]["status"] != "ok":
            return {**row, **every[-1]}
    return {**row, **min(every, key=lambda measured: measured["us"])}


def markdown(rows: pd.DataFrame) -> str:
    """A row per method, a column per dimension."""
    dims = sorted(rows["dim"].unique())
    heads = [
        "method",
        *(f"d={d}: us" for d in dims),
        *(f"d={d}: MiB" for d in dims),
        f"copies at d={dims[-1]}",
        "dtype",
    ]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    notes = []
    for method in rows["method"].drop_duplicates():
        mine = rows[rows["method"] == method].drop_duplicates("dim", keep="last").set_index("dim")
        cells = [method, *(_cell(mine, d, "us") for d in dims), *(_cell(mine, d, "peak_mib") for d in dims)]
        lines.append(f"| {' | '.join([*cells, _cell(mine, dims[-1], 'copies'), mine['dtype'].iloc[0]])} |")
        notes += [f"{method}, d={d}: {row['status']}." for d, row in mine.iterrows() if row["status"] != "ok"]
    title = (
        f"Population {POPSIZE}, an objective that costs nothing, one thread: CPU microseconds an evaluation, and peak "
        "memory above that of the process before the optimizer was made. A copy is one population in its dtype."
    )
    return "\n\n".join([title, "\n".join(lines), *notes]) + "\n"


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Time over the number of coordinates, and population copies at the largest; ours thicker and blue."""
    good = rows[rows["status"] == "ok"].drop_duplicates(["method", "dim"], keep="last")
    largest = good["dim"].max()
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 6), layout="constrained", width_ratios=[3, 2])
    ends = []
    order = good[good["dim"] == largest].sort_values("us")["method"]
    for place, method in enumerate(order):
        mine = good[good["method"] == method].sort_values("dim")
        colour, style, width = curves.look(place, method)
        left.plot(mine["dim"], mine["us"], color=colour, linestyle=style, linewidth=width, marker="o", markersize=3)
        ends.append((float(mine["us"].iloc[-1]), method, colour))
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("coordinates")
    left.set_ylabel("CPU microseconds an evaluation")
    curves.label(left, ends)
    copies = good[good["dim"] == largest].sort_values("copies", ascending=False)
    ours = copies["method"].str.startswith("evoprompt")
    right.barh(copies["method"], copies["copies"], color=np.where(ours, "#0072B2", "#BBBBBB"))
    right.set_xlabel(f"peak memory in populations, {largest} coordinates")
    right.tick_params(axis="y", labelsize=8)
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _cell(rows: pd.DataFrame, d: int, column: str) -> str:
    if d not in rows.index or rows.loc[d, "status"] != "ok":
        return "-"
    value = float(rows[column].loc[d])
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", type=lambda text: [int(part) for part in text.split(",")], default=list(DIMS))
    parser.add_argument("--methods", default=",".join(CASES))
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each process measures")
    parser.add_argument("--repeats", type=int, default=3, help="processes for each figure, the least of which counts")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a process is given up")
    parser.add_argument("--out", default="benchmarks/results/overhead.csv")
    parser.add_argument("--measure", nargs=3, metavar=("METHOD", "DIM", "SECONDS"), help="one figure, as JSON")
    options = parser.parse_args(arguments)
    if options.measure:
        method, d, seconds = options.measure
        print(json.dumps(_measure(method, int(d), float(seconds))))
        return
    file = result_file.ResultFile(options.out, COLUMNS, ("method", "dim"))
    for name in options.methods.split(","):
        for d in options.dims:
            if {"method": name, "dim": d} not in file and not CASES[name].missing:
                row = _fresh(CASES[name], d, options)
                file.add(row)
                print(f"{name}, d={d}: {row['status']} {row['us']:.1f} us, {row['copies']:.1f} copies", flush=True)
    rows = result_file.read([options.out])
    text = markdown(rows) + "\n" + result_file.remarks(options.out)
    Path(options.out).with_suffix(".md").write_text(text)
    draw(rows, Path(options.out).with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
