"""What ranks do not show: what an optimizer itself costs, workers that wait, and the search space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks import result_file
from benchmarks.peers import METHODS
from experiments.optimizers.jobs import RUN
from experiments.statistics import mean_interval

__all__ = ["Grid", "coverage", "loops", "own_cost", "spaces"]

TIE = 0.02
"""Rates of evaluations that differ by less than this share count as equal."""


@dataclass(frozen=True)
class Grid:
    """A table of texts and what it says in a sentence."""

    title: str
    says: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join([self.says, "", *(f"| {' | '.join(line)} |" for line in lines)])


def own_cost(folder: Path) -> Grid:
    """CPU time an evaluation and memory of the optimizers alone, by dimension."""
    rows = result_file.read([folder / "overhead.csv"])
    dims = sorted(rows["dim"].unique())
    micros, peak = (rows.pivot_table(index="method", columns="dim", values=name) for name in ("us", "peak_mib"))
    largest = dims[-1]
    order = micros.sort_values(largest).index
    cells = [
        [name, *(_rounded(float(micros.loc[name, dim])) for dim in dims), f"{peak.loc[name, largest]:.0f}"]
        for name in order
    ]
    ours, plain = (float(micros.loc[name, largest]) for name in ("evoprompt:auto", "evoprompt:rand/1/bin"))
    says = (
        f"In {_spaced(largest)} coordinates the default takes {ours / 1000:.1f} ms of CPU time an evaluation, plain "
        f"rand/1/bin {plain / 1000:.2f} ms. A language model takes far longer than either, so this matters only where "
        "the function itself is cheap."
    )
    head = ["method", *(f"µs, d = {_spaced(dim)}" for dim in dims), f"MiB, d = {_spaced(largest)}"]
    return Grid("What the optimizer itself costs", says, head, cells)


def loops(folder: Path) -> Grid:
    """Generations against a steady state, at the most workers that were measured and that were simulated."""
    rows = result_file.read([folder / "scaling.csv"])
    cells, won = [], {"steady": 0, "generational": 0, "equal": 0}
    for part, how in (("sleeping", "measured"), ("simulated", "virtual clock")):
        here = rows[rows["part"] == part]
        here = here[here["workers"] == here["workers"].max()]
        for case, both in here.groupby("case", sort=False):
            rate = both.set_index("loop")["per_second"]
            gain = float(rate["steady"] / rate["generational"]) - 1
            won["equal" if abs(gain) < TIE else "steady" if gain > 0 else "generational"] += 1
            of = both.set_index("loop")["of_ideal"].astype(float)
            shares = [f"{of[name]:.0%}" for name in ("generational", "steady")]
            workers = _spaced(int(both["workers"].iloc[0]))
            cells.append([str(case), workers, how, *shares, f"{gain:+.0%}"])
    says = (
        f"Of {len(cells)} cases a steady state (loop=steady) is faster in {won['steady']}, generations in "
        f"{won['generational']}; under {TIE:.0%} counts as equal. Shares are of the ideal rate. What a steady state "
        "costs in quality for each evaluation is not in the tables, and no peer was run in parallel."
    )
    head = ["evaluation times", "workers", "how", "generations", "steady", "gain"]
    return Grid("Many workers: who waits?", says, head, cells)


def spaces(folder: Path) -> Grid:
    """Loss of the pocket model by search space, at equal budgets and on equal seeds."""
    rows = result_file.read([folder / "spaces.csv"])
    budgets = sorted(rows["budget"].unique())
    cases = rows.groupby(["budget", "culture", "seed"])["space"].nunique()
    rows = (
        rows.set_index(["budget", "culture", "seed"]).loc[cases.index[cases == rows["space"].nunique()]].reset_index()
    )
    last = rows[rows["budget"] == budgets[-1]]
    means = last.groupby("space")["loss"].mean().sort_values()
    cells = []
    for name in means.index:
        mine = rows[rows["space"] == name]
        losses = [mean_interval(mine.loc[mine["budget"] == budget, "loss"].to_numpy()) for budget in budgets]
        shown = [f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in losses]
        cost = float(last.loc[last["space"] == name, "perplexity_ratio"].mean())
        kind, *settings = str(name).split()
        scale = next(text.removeprefix("scale=") for text in settings if text.startswith("scale="))
        cells.append([kind, scale, str(mine["dim"].iloc[0]), *shown, f"×{cost:.2f}"])
    says = (
        f"Loss in points on the searched wordings after so many evaluations, mean and 95 % interval over "
        f"{last['seed'].nunique()} seeds, one culture ({', '.join(sorted(rows['culture'].unique()))}), always with the "
        "default optimizer. The pocket model is a simulator with a known truth: this says nothing about people."
    )
    head = ["space", "scale", "d", *(f"after {_spaced(int(budget))}" for budget in budgets), "perplexity"]
    return Grid("The search space matters as well", says, head, cells)


def coverage(folder: Path, names: Iterable[str]) -> Grid:
    """Which method has how many runs of which table: all, some, none, or it could not take part."""
    heads, columns = [], []
    for name in names:
        rows = result_file.read([folder / f"{name}.csv"])
        if "objective" in rows:
            parts = [(str(key), part.assign(suite="soft_prompt", function=0, instance=0)) for key, part
                     in rows.groupby("objective", sort=False)]  # fmt: skip
        else:
            parts = [(name, rows)]
        for head, part in parts:
            heads.append(head)
            columns.append(_runs(part))
    known = list(dict.fromkeys([*METHODS, *(method for column in columns for method in sorted(column.index))]))
    cells = [[name, *(str(column.get(name, "–")) for column in columns)] for name in known]
    nowhere = [name for name, *marks in cells if not {"all"} & set(marks) and all(mark in "– " for mark in marks)]
    says = (
        f"{len(nowhere)} methods that the benchmarks can run have no run in any of the ranked tables: "
        f"{', '.join(nowhere)}. A method that was not run was not beaten."
    )
    return Grid("What is missing", says, ["method", *heads], cells)


def _runs(rows: pd.DataFrame) -> pd.Series:
    """For each method "all" or how many of the runs; blank where the benchmarks would not run it."""
    whole, counts = len(rows[RUN].drop_duplicates()), rows["method"].value_counts()
    suite, dim = str(rows["suite"].iloc[0]), int(rows["dim"].max())
    marks = {name: "all" if count == whole else f"{count} of {whole}" for name, count in counts.items()}
    for name, method in METHODS.items():
        if name not in marks and (suite not in method.suites or dim > method.largest):
            marks[name] = " "
    return pd.Series(marks, dtype=object)


def _rounded(value: float) -> str:
    return f"{value:.1f}" if value < 100 else _spaced(round(value))


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", "\N{NO-BREAK SPACE}")
