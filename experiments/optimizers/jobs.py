"""Kinds of problems, and which runs of the committed benchmarks tell about each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import result_file
from benchmarks.counting import TARGETS
from benchmarks.peers import METHODS
from evoprompt.errors import UserError

__all__ = ["JOBS", "RUN", "Job", "complete", "early", "load", "not_run"]

RUN = ["function", "instance", "seed"]
SURVEYS = "soft_prompt_like"
_MID = ("bbob_20d_200", "bbob_10d_1000", "bbob_20d_1000")


@dataclass(frozen=True)
class Job:
    """One kind of problem.

    Attributes
    ----------
    name : str
    title : str
        As a user would say it.
    about : str
        Which runs stand for it.
    tables : tuple of str
        Result files, without their suffix.
    functions : iterable of int, optional
        Of the suite's functions; all by default.
    first : int, optional
        Judge after this many evaluations per coordinate and not at the end.
    objective : str, optional
        Of the survey-like objectives.
    """

    name: str
    title: str
    about: str
    tables: tuple[str, ...]
    functions: Iterable[int] = ()
    first: int | None = None
    objective: str | None = None

    @property
    def case(self) -> str:
        """What the intervals are over."""
        return "functions" if self.objective is None else "made-up respondents"


JOBS = (
    Job(
        "expensive", "Expensive: 20 evaluations per coordinate",
        "20-D, all 24 functions; where runs of 200 evaluations per coordinate stood after the first 20",
        ("bbob_20d_200",), first=20,
    ),
    Job("few", "Few evaluations: 200 per coordinate", "20-D, all 24 functions", ("bbob_20d_200",)),
    Job(
        "few_fresh", "Few evaluations, on fresh instances",
        "20-D, all 24 functions; other shifts and rotations of them than the default was developed on",
        ("bbob_20d_200_new",),
    ),
    Job(
        "smooth", "Smooth, many evaluations: 1000 per coordinate",
        "10-D and 20-D, functions 6 to 14: one valley, well or ill-conditioned",
        ("bbob_10d_1000", "bbob_20d_1000"), range(6, 15),
    ),
    Job(
        "very_many", "Low dimension, very many: 10 000 per coordinate", "10-D, all 24 functions",
        ("bbob_10d_10000",),
    ),
    Job(
        "separable", "Separable: a sum over coordinates", "10-D and 20-D, functions 1 to 5, 200 and 1000 evaluations "
        "per coordinate", _MID, range(1, 6),
    ),
    Job(
        "multimodal", "Many valleys that lead somewhere", "10-D and 20-D, functions 15 to 19: multimodal with global "
        "structure, 200 and 1000 evaluations per coordinate", _MID, range(15, 20),
    ),
    Job(
        "weak", "Many valleys that lead nowhere", "10-D and 20-D, functions 20 to 24: weak global structure, 200 and "
        "1000 evaluations per coordinate", _MID, range(20, 25),
    ),
    Job(
        "noisy", "Noisy", "20-D, the 30 noisy functions, 200 evaluations per coordinate; the recommended point "
        "counts, without noise", ("noisy_20d_200",),
    ),
    Job("high_160", "High dimension: 160", "24 functions, 50 evaluations per coordinate", ("largescale_160d_50",)),
    Job("high_640", "High dimension: 640", "12 functions, 50 evaluations per coordinate", ("largescale_640d_50",)),
    Job(
        "soft_1280", "Soft-prompt-like: 1280 coordinates", "A synthetic survey in which 32 directions matter, 2000 "
        "evaluations", (SURVEYS,), objective="synthetic 1280",
    ),
    Job(
        "soft_40960", "Soft-prompt-like: 40 960 coordinates", "The same survey, 2000 evaluations: one for every 20 "
        "coordinates", (SURVEYS,), objective="synthetic 40960",
    ),
)  # fmt: skip


def load(job: Job, folder: Path) -> list[pd.DataFrame]:
    """Rows of each of a job's tables, all in the columns of the BBOB tables.

    Raises
    ------
    UserError
        A file is missing, has no rows of the job, or mixes dimensions or budgets.
    """
    tables = []
    for name in job.tables:
        path = folder / f"{name}.csv"
        if not path.is_file():
            raise UserError(f"{path} is not there: give results=<folder of the benchmarks' CSV files>")
        rows = result_file.read([path])
        if job.objective is not None:
            # Each made-up respondent is a function of its own.
            rows = rows[rows["objective"] == job.objective].assign(suite="soft_prompt", instance=0)
            rows = rows.assign(function=rows["seed"], error=rows["loss"], seed=0)
        if job.functions:
            rows = rows[rows["function"].isin(list(job.functions))]
        budgets = rows[["suite", "dim", "budget"]].drop_duplicates()
        if len(budgets) != 1:
            raise UserError(f"{path} has {len(budgets)} suites, dimensions or budgets for {job.name!r}; it takes one")
        tables.append(rows if job.first is None else early(rows, job.first))
    return tables


def early(rows: pd.DataFrame, first: int) -> pd.DataFrame:
    """The same runs as they stood after `first` evaluations per coordinate; their error is the last target reached."""
    budget = first * int(rows["dim"].iloc[0])
    hits = [[hit for hit in text.split() if float(hit) <= budget] for text in rows["hits"].astype(str)]
    errors = [float(TARGETS[len(reached) - 1]) if reached else np.inf for reached in hits]
    return rows.assign(error=errors, hits=[" ".join(reached) for reached in hits], budget=budget)


def complete(tables: Iterable[pd.DataFrame]) -> list[str]:
    """Methods that have every run of every table, so that ranks are among equals."""
    found = []
    for rows in tables:
        runs = rows.groupby("method")[RUN].apply(lambda each: len(each.drop_duplicates()))
        found.append(set(runs.index[runs == len(rows[RUN].drop_duplicates())]))
    return sorted(set.intersection(*found))


def not_run(job: Job, tables: list[pd.DataFrame], ranked: Iterable[str]) -> list[str]:
    """Known methods that could take part and are not ranked, with how many of the runs they have where it is some."""
    suite, dim = str(tables[0]["suite"].iloc[0]), max(int(rows["dim"].iloc[0]) for rows in tables)
    there = pd.concat([rows[["method", "dim", "budget", *RUN]] for rows in tables])
    whole, counts = len(there.drop(columns="method").drop_duplicates()), there["method"].value_counts()
    able = [name for name, method in METHODS.items() if suite in method.suites and dim <= method.largest]
    missing = [name for name in dict.fromkeys([*able, *sorted(counts.index)]) if name not in set(ranked)]
    return [f"{name} ({counts[name]} of {whole} runs)" if name in counts else name for name in missing]
