"""Ours and every peer on the BBOB functions: `python -m benchmarks.bbob --dims 20 --budget 200 --out FILE.csv`.

Every method gets the same number of evaluations, counted outside it, in the box [-5, 5]; what converges early
restarts with another seed until they are spent. The same command after an interruption goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import curves, result_file, table, workers
from benchmarks.counting import TARGETS, Counted
from benchmarks.peers import METHODS, Method, select
from benchmarks.problems import GROUPS, Problem, load
from benchmarks.runs import spend

__all__ = ["Runs", "main", "run_once"]

KEY = ("suite", "dim", "budget", "method", "function", "instance", "seed")
COLUMNS = (*KEY, "status", "error", "evaluations", "starts", "seconds", "hits")
_CHECKPOINTS = 25


@dataclass(frozen=True)
class Runs:
    """The runs of one method on one function: instances times seeds, in one process."""

    suite: str
    dim: int
    budget: int
    method: str
    function: int
    items: tuple[tuple[int, int], ...]

    def results(self) -> Iterator[dict[str, Any]]:
        """A row per run."""
        for instance, seed in self.items:
            problem = load(self.suite, self.function, instance, self.dim, stream=seed * self.budget)
            yield {**self._key(instance, seed), **run_once(METHODS[self.method], problem, seed, self.budget)}

    def after(self, done: int, reason: str) -> tuple[dict[str, Any], Runs | None]:
        """The row of the run that killed its process, and the runs behind it."""
        failed = {"status": f"failed: {reason}", "error": np.inf, "evaluations": 0, "starts": 1, "seconds": np.nan}
        rest = self.items[done + 1 :]
        row = {**self._key(*self.items[done]), **failed, "hits": ""}
        return row, replace(self, items=rest) if rest else None

    def _key(self, instance: int, seed: int) -> dict[str, Any]:
        values = (self.suite, self.dim, self.budget, self.method, self.function, instance, seed)
        return dict(zip(KEY, values, strict=True))


def run_once(method: Method, problem: Problem, seed: int, budget: int) -> dict[str, Any]:
    """One run of ``budget`` evaluations, restarts included.

    Returns
    -------
    dict
        status, error (of the best point, or without noise of the recommended one), evaluations, starts, CPU
        seconds, hits (for each target reached, the evaluation).
    """
    noisy = problem.suite == "noisy"
    marks = np.unique(np.geomspace(problem.d, budget, _CHECKPOINTS).astype(int)).tolist() if noisy else []
    objective = Counted(problem.loss, problem.low, problem.high, budget, f_opt=problem.f_opt, checkpoints=marks)
    status, starts, seconds = spend(method, objective, partial(_seed, seed, problem))
    if noisy:
        kept = [(count, problem.true_error(x)) for count, x in objective.recommendations]
        final, hits = problem.true_error(objective.recommended()), _reached_for_good(kept)
    else:
        final, hits = objective.best_loss - problem.f_opt, objective.hits
    return {
        "status": status, "error": float(final), "evaluations": objective.used, "starts": starts,
        "seconds": seconds, "hits": " ".join(map(str, hits)),
    }  # fmt: skip


def _seed(seed: int, problem: Problem, start: int) -> int:
    """A number below 2^31, the same for every method."""
    words = np.random.SeedSequence([seed, problem.function, problem.instance, problem.d, start]).generate_state(1)
    return int(words[0] >> 1)


def _reached_for_good(kept: Sequence[tuple[int, float]]) -> list[int]:
    """For each target, from which checkpoint on the recommended point's true error stays below it."""
    hits = []
    for target in TARGETS:
        above = [place for place, (_, error) in enumerate(kept) if not error <= target]
        first = above[-1] + 1 if above else 0
        if first == len(kept):
            break
        hits.append(kept[first][0])
    return hits


def _tasks(options: argparse.Namespace, file: result_file.ResultFile) -> list[Runs]:
    functions = [f for group in GROUPS[options.suite].values() for f in group]
    if options.functions:
        functions = [f for f in functions if f in options.functions]
    tasks = []
    for dim in options.dims:
        for method in select(options.methods.split(","), options.suite, dim):
            seeds = min(options.seeds, options.slow_seeds) if method.slow else options.seeds
            for function in functions:
                every = [(instance, seed) for instance in options.instances for seed in range(seeds)]
                task = Runs(options.suite, dim, options.budget * dim, method.name, function, tuple(every))
                items = tuple(item for item in every if task._key(*item) not in file)
                if items:
                    tasks.append(replace(task, items=items))
    return tasks


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table and draw the curves."""
    options = _parser().parse_args(arguments)
    file = result_file.ResultFile(options.out, COLUMNS, KEY)
    tasks = _tasks(options, file)
    total, done, began = sum(len(task.items) for task in tasks), 0, time.monotonic()

    def note(row: dict[str, Any]) -> None:
        nonlocal done
        file.add(row)
        done += 1
        if done % max(1, total // 100) == 0:
            seconds = time.monotonic() - began
            print(f"{done}/{total} runs, {seconds:.0f} s, {row['method']} f{row['function']}", flush=True)

    workers.run(tasks, options.jobs, note, options.limit)
    rows = result_file.read([options.out, *options.reference])
    for dim in options.dims:
        wanted = {
            "suite": [options.suite],
            "dim": [dim],
            "budget": [options.budget * dim],
            "instance": options.instances,
        }
        chosen = rows[rows[list(wanted)].isin(wanted).all(axis=1)].drop_duplicates(list(KEY))
        text = table.markdown(chosen, GROUPS[options.suite])
        text += "".join(f"\n{path}:\n\n{result_file.remarks(path)}" for path in [options.out, *options.reference])
        stem = Path(options.out).with_suffix("")
        name = stem if len(options.dims) == 1 else stem.with_name(f"{stem.name}_{dim}d")
        name.with_suffix(".md").write_text(text)
        curves.draw(chosen, name.with_suffix(".png"))
        print(text)


def _numbers(text: str) -> list[int]:
    """Numbers and ranges, as in "1-5,9"."""
    parts = [part.split("-") for part in text.split(",")]
    return [number for part in parts for number in range(int(part[0]), int(part[-1]) + 1)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=sorted(GROUPS), default="bbob")
    parser.add_argument("--dims", type=_numbers, default=[20])
    parser.add_argument("--budget", type=int, default=200, help="evaluations for each dimension")
    parser.add_argument("--instances", type=_numbers, default=_numbers("1-5"))
    parser.add_argument("--functions", type=_numbers, default=[], help="all of the suite's by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--slow-seeds", type=int, default=10**9, help="seeds for methods that take ms an evaluation")
    parser.add_argument("--methods", default="all", help="all, ours, peers or names, with commas between")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which a run counts as failed")
    parser.add_argument("--reference", nargs="*", default=[], help="recorded runs to show in the table too")
    parser.add_argument("--out", default="benchmarks/results/bbob.csv")
    return parser


if __name__ == "__main__":
    main()
