"""High-dimensional objectives with the shape of the main job: `python -m benchmarks.soft_prompt_like`.

A synthetic survey with low effective dimension, and the pocket model's own survey loss, at 2000 and 5000 evaluations.
The same command after an interruption goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from benchmarks import curves, result_file, workers
from benchmarks.counting import Counted
from benchmarks.peers import METHODS, select
from benchmarks.runs import spend
from benchmarks.soft_prompt_objectives import SyntheticSurvey, Vectorised, pocket

__all__ = ["OBJECTIVES", "main"]

KEY = ("objective", "budget", "method", "seed")
COLUMNS = (*KEY, "dim", "status", "loss", "evaluations", "starts", "seconds", "curve")
OBJECTIVES = {
    "synthetic 1280": 1280,
    "synthetic 40960": 40_960,
    "pocket full": 512,
    "pocket projection 64": 64,
    "pocket projection 256": 256,
}
"""Objectives and their numbers of coordinates."""
_MARKS = np.geomspace(0.005, 1.0, 30)


@dataclass(frozen=True)
class Runs:
    """The runs of one method on one objective, in one process."""

    objective: str
    method: str
    items: tuple[tuple[int, int], ...]

    def results(self) -> Iterator[dict[str, Any]]:
        """A row per (budget, seed)."""
        for budget, seed in self.items:
            yield {**self._key(budget, seed), **_run(self.objective, self.method, budget, seed)}

    def after(self, done: int, reason: str) -> tuple[dict[str, Any], Runs | None]:
        """The row of the run that killed its process, and the runs behind it."""
        failed = {"status": f"failed: {reason}", "loss": np.inf, "evaluations": 0, "starts": 1, "seconds": np.nan}
        row = {**self._key(*self.items[done]), **failed, "dim": OBJECTIVES[self.objective], "curve": ""}
        rest = self.items[done + 1 :]
        return row, replace(self, items=rest) if rest else None

    def _key(self, budget: int, seed: int) -> dict[str, Any]:
        return dict(zip(KEY, (self.objective, budget, self.method, seed), strict=True))


def _run(name: str, method: str, budget: int, seed: int) -> dict[str, Any]:
    survey = _objective(name, seed)
    box = np.full(survey.d, survey.limit)
    objective = Counted(lambda x: float(survey(np.asarray(x)[None])[0]), -box, box, budget, many=survey)

    def start_seed(start: int) -> int:
        return int(np.random.SeedSequence([seed, survey.d, start]).generate_state(1)[0] >> 1)

    status, starts, seconds = spend(METHODS[method], objective, start_seed)
    curve = [_best_at(objective.gains, int(mark * budget)) for mark in _MARKS]
    return {
        "dim": survey.d, "status": status, "loss": objective.best_loss, "evaluations": objective.used, "starts": starts,
        "seconds": seconds, "curve": " ".join(f"{value:.4g}" for value in curve),
    }  # fmt: skip


def _best_at(gains: Sequence[tuple[int, float]], evaluations: int) -> float:
    return min((loss for used, loss in gains if used <= evaluations), default=np.inf)


@lru_cache(maxsize=1)
def _objective(name: str, seed: int) -> Vectorised:
    kind, *rest = name.split()
    if kind == "synthetic":
        return SyntheticSurvey(int(rest[0]), seed)
    return pocket("full", 0, seed) if rest[0] == "full" else pocket("random_projection", int(rest[1]), seed)


def markdown(rows: pd.DataFrame) -> str:
    """A row per method, best mean rank first; a column per objective and budget with the mean loss over seeds."""
    losses = rows.assign(loss=rows["loss"].astype(float).fillna(np.inf))
    wide = losses.pivot_table(index=["objective", "budget", "seed"], columns="method", values="loss", dropna=False)
    ranked = wide.round(9).rank(axis=1)
    means = wide.groupby(level=["objective", "budget"], sort=False).mean()
    heads = ["", "method", "mean rank", *(f"{name}, {budget}" for name, budget in means.index), "ms/eval"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    notes = []
    for place, (method, rank) in enumerate(ranked.mean().sort_values().items(), start=1):
        mine = rows[rows["method"] == method]
        cells = ["-" if np.isnan(value) else f"{value:.3g}" for value in means[method]]
        cost = 1e3 * mine["seconds"].sum() / max(1, mine["evaluations"].sum())
        lines.append(f"| {place} | {method} | {rank:.2f} | {' | '.join(cells)} | {cost:.2f} |")
        failed = mine[mine["status"].str.startswith("failed")]
        if len(failed):
            notes.append(f"{method}: {len(failed)} of {len(mine)} runs failed: {failed['status'].iloc[0][8:]}")
        missing = int(wide[method].isna().sum())
        if missing:
            notes.append(f"{method}: its rank is over {len(wide) - missing} of {len(wide)} (objective, budget, seed).")
    title = (
        f"Mean best loss over {rows['seed'].nunique()} seeds (each another respondent or projection), and the mean "
        "over objectives, budgets and seeds of the rank within each. ms/eval is CPU time, the objective included."
    )
    return "\n\n".join([title, "\n".join(lines), *notes]) + "\n"


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Mean best loss over evaluations at the largest budget, a panel per objective, its ten best methods."""
    largest = rows[rows["budget"] == rows["budget"].max()]
    names = list(largest["objective"].drop_duplicates())
    figure, panels = plt.subplots(1, len(names), figsize=(5.2 * len(names), 4.6), layout="constrained", squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        here = largest[(largest["objective"] == name) & (largest["evaluations"] > 0)]
        best = here.groupby("method")["loss"].mean().sort_values().index[:10]
        ends = []
        for place, method in enumerate(best):
            texts = here.loc[here["method"] == method, "curve"]
            curve = np.mean([[float(value) for value in text.split()] for text in texts], axis=0)
            colour, style, width = curves.look(place, str(method))
            axes.plot(_MARKS * here["budget"].iloc[0], curve, color=colour, linestyle=style, linewidth=width)
            ends.append((float(curve[-1]), str(method), colour))
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(which="minor", labelsize=7)
        axes.set_xlabel("evaluations")
        axes.set_title(name, loc="left", fontsize=10)
        curves.label(axes, ends)
    panels[0][0].set_ylabel("best loss (points on the survey's scales)")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objectives", default="synthetic 1280,synthetic 40960", help=", ".join(OBJECTIVES))
    parser.add_argument("--budgets", default="2000,5000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--slow-seeds", type=int, default=1, help="seeds for methods that take ms an evaluation")
    parser.add_argument("--methods", default="all", help="all, ours, peers or names, with commas between")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which a run counts as failed")
    parser.add_argument("--out", default="benchmarks/results/soft_prompt_like.csv")
    options = parser.parse_args(arguments)
    file = result_file.ResultFile(options.out, COLUMNS, KEY)
    tasks = []
    for name in options.objectives.split(","):
        for method in select(options.methods.split(","), "soft_prompt", OBJECTIVES[name]):
            seeds = min(options.seeds, options.slow_seeds) if method.slow else options.seeds
            every = [(int(budget), seed) for seed in range(seeds) for budget in options.budgets.split(",")]
            items = [item for item in every if Runs(name, method.name, ())._key(*item) not in file]
            if items:
                tasks.append(Runs(name, method.name, tuple(items)))
    began = time.monotonic()

    def note(row: dict[str, Any]) -> None:
        file.add(row)
        where = f"{row['method']} on {row['objective']}, {row['budget']} evaluations, seed {row['seed']}"
        print(f"{time.monotonic() - began:.0f} s: {where}: {row['loss']:.4g} {row['status']}", flush=True)

    workers.run(tasks, options.jobs, note, options.limit)
    rows = result_file.read([options.out])
    text = markdown(rows) + "\n" + result_file.remarks(options.out)
    Path(options.out).with_suffix(".md").write_text(text)
    draw(rows, Path(options.out).with_suffix(".png"))
    print(text)


if __name__ == "__main__":
    main()
