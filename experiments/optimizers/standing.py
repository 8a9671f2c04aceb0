"""Mean ranks with intervals, and the rule by which a method is recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from benchmarks import table
from experiments.optimizers.jobs import JOBS, Job, complete, load, not_run
from experiments.statistics import Paired, adjusted, mean_interval, paired

__all__ = ["DEFAULT", "Standing", "Verdict", "as_good", "judge", "judge_all", "rank_cases"]

DEFAULT = "evoprompt:auto"


@dataclass(frozen=True)
class Standing:
    """A method at a job: mean rank with its 95 % interval, and what else is known of it.

    Attributes
    ----------
    method : str
    rank, low, high : float
    auc : float, optional
        Area under the share of targets reached.
    loss : float, optional
        Mean best loss, where there are no targets.
    micros : float
        CPU microseconds an evaluation, objective included.
    """

    method: str
    rank: float
    low: float
    high: float
    auc: float | None = None
    loss: float | None = None
    micros: float = float("nan")


@dataclass(frozen=True)
class Verdict:
    """What the runs say of one job.

    Attributes
    ----------
    standings : sequence of Standing
        Best mean rank first.
    cases : DataFrame, shape (cases, methods)
        Ranks that the means and intervals are of: a row per function.
    runs : int
        Of each method.
    missing : sequence of str
    """

    job: Job
    standings: Sequence[Standing]
    cases: pd.DataFrame
    runs: int
    missing: Sequence[str]

    @property
    def best(self) -> Standing:
        """Least mean rank."""
        return self.standings[0]

    @cached_property
    def as_good(self) -> list[Standing]:
        """The best and all that cannot be told from it."""
        return as_good(self.standings)

    @property
    def default(self) -> Standing:
        """That of `evoprompt:auto`."""
        return next(one for one in self.standings if one.method == DEFAULT)

    @property
    def place(self) -> int:
        """Of the default, from 1."""
        return self.standings.index(self.default) + 1

    @property
    def word(self) -> str:
        """How the default does, by the rule."""
        return "best" if self.place == 1 else "as good" if self.default in self.as_good else "behind"

    @property
    def rival(self) -> Standing:
        """The best of all others than the default."""
        return next(one for one in self.standings if one.method != DEFAULT)

    @property
    def best_by_area(self) -> str | None:
        """The method with the largest area, where areas are known."""
        known = [one for one in self.standings if one.auc is not None]
        return max(known, key=lambda one: one.auc or 0.0).method if known else None

    @cached_property
    def against_rival(self) -> Paired:
        """Rank of the default less that of its best rival, case by case; below 0 is better."""
        return paired(self.cases[DEFAULT].to_numpy(), self.cases[self.rival.method].to_numpy())


def as_good(standings: Sequence[Standing]) -> list[Standing]:
    """The rule: of standings, best mean rank first, the best and all whose interval overlaps the best one's."""
    best = standings[0]
    return [best, *(one for one in standings[1:] if one.low <= best.high)]


def rank_cases(tables: Sequence[pd.DataFrame], methods: Sequence[str]) -> pd.DataFrame:
    """Ranks (cases, methods): by `benchmarks.table` on each problem, averaged over instances, then over tables."""
    means = []
    for rows in tables:
        ranked = table.ranks(table.problem_errors(rows)[list(methods)])
        means.append(ranked.groupby("function").mean())
    return pd.concat(means).groupby("function").mean()


def judge(job: Job, folder: Path) -> Verdict:
    """Rank all methods that have every run of a job, on the result files in a folder."""
    tables = load(job, folder)
    methods = complete(tables)
    cases = rank_cases(tables, methods)
    standings = [_standing(name, cases[name], tables) for name in methods]
    standings.sort(key=lambda one: (one.rank, one.method))
    runs = sum(int((rows["method"] == methods[0]).sum()) for rows in tables)
    return Verdict(job, standings, cases, runs, not_run(job, tables, methods))


def _standing(method: str, ranks: pd.Series, tables: Sequence[pd.DataFrame]) -> Standing:
    areas, losses, seconds, evaluations = [], [], 0.0, 0
    for rows in tables:
        mine = rows[rows["method"] == method]
        if "hits" in mine:
            areas.append(table.area(mine["hits"].astype(str), int(mine["dim"].iloc[0]), int(mine["budget"].iloc[0])))
        else:
            losses.append(float(mine["error"].mean()))
        ok = mine[~mine["status"].str.startswith("failed")]
        seconds, evaluations = seconds + float(ok["seconds"].sum()), evaluations + int(ok["evaluations"].sum())
    area, loss = (sum(values) / len(values) if values else None for values in (areas, losses))
    return Standing(method, *mean_interval(ranks.to_numpy()), area, loss, 1e6 * seconds / max(1, evaluations))


def judge_all(folder: Path) -> tuple[list[Verdict], list[float]]:
    """Every job's verdict, and p of default against rival, adjusted for that there are many."""
    verdicts = [judge(job, folder) for job in JOBS]
    return verdicts, adjusted([verdict.against_rival.p for verdict in verdicts])
