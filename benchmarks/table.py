"""From runs to one table: ranks, errors and shares of targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from benchmarks.counting import TARGETS

__all__ = ["EXPLANATION", "UNDER_NOISE", "area", "markdown", "problem_errors", "ranks", "share"]

FLOOR = 1e-8
"""Errors below count as this."""

EXPLANATION = """\
mean rank: on each problem (function x instance) the methods are ranked by the median over seeds of their error
(equal errors share the mean of their ranks; errors below 1e-8 are equal), and the ranks are averaged over problems.
median, mean log10 error: over problems, of that same median. ECDF: share of (run, target) pairs reached at the end, 51
targets 10^[2 .. -8]; AUC: the same share averaged over the logarithm of evaluations, from d to the budget.
us/eval: CPU time of a run by its evaluations, objective included. A run that failed keeps the best error it had."""

UNDER_NOISE = """\
Under noise the error is that of the point a method recommends, evaluated without noise: the mean of a CMA-ES, what
evoprompt's and nevergrad's optimizers recommend, and the best observed point of all others."""


def problem_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """log10 of the median error over seeds: a row per (function, instance), a column per method."""
    floored = rows["error"].astype(float).fillna(np.inf).clip(lower=FLOOR, upper=1e300).map(np.log10)
    medians = floored.groupby([rows["function"], rows["instance"], rows["method"]]).median()
    return medians.unstack("method")


def ranks(errors: pd.DataFrame) -> pd.DataFrame:
    """Ranks within each problem, 1 for the least error, shared among equals; NaN where a method did not run."""
    return errors.round(9).rank(axis=1, method="average")


def share(hits: Iterable[str], evaluations: float = np.inf) -> float:
    """Share of (run, target) pairs reached within a number of evaluations."""
    counts = [int((_numbers(text) <= evaluations).sum()) for text in hits]
    return float(np.mean(counts)) / len(TARGETS)


def area(hits: Iterable[str], d: int, budget: int) -> float:
    """Area under the share of targets reached over log(evaluations) from d to the budget, of the whole."""
    late = [np.log(np.maximum(_numbers(text), d) / d) / np.log(budget / d) for text in hits]
    return float(np.mean([np.sum(1 - each) for each in late])) / len(TARGETS)


def markdown(rows: pd.DataFrame, groups: Mapping[str, Iterable[int]]) -> str:
    """The table of one suite, dimension and budget, best mean rank first, with a note on what is not complete."""
    suite, dim, budget = str(rows["suite"].iloc[0]), int(rows["dim"].iloc[0]), int(rows["budget"].iloc[0])
    errors = problem_errors(rows)
    ranked = ranks(errors)
    heads = ["", "method", "mean rank", "median log10 err", "mean log10 err", "ECDF", "AUC", *groups, "us/eval"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    notes = [UNDER_NOISE] if suite == "noisy" else []
    functions = ranked.index.get_level_values("function")
    for place, (method, mean_rank) in enumerate(ranked.mean().sort_values().items(), start=1):
        runs = rows[rows["method"] == method]
        hits = runs["hits"].astype(str)
        ok = runs[~runs["status"].str.startswith("failed")]
        cells = [
            f"{place}", f"{method}", f"{mean_rank:.2f}",
            f"{errors[method].median():.3f}", f"{errors[method].mean():.3f}",
            f"{share(hits):.3f}", f"{area(hits, dim, budget):.3f}",
            *(_mean_rank(ranked[method][functions.isin(list(group))]) for group in groups.values()),
            f"{1e6 * ok['seconds'].sum() / max(1, ok['evaluations'].sum()):.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
        notes += _incomplete(str(method), runs, rows)
    title = (
        f"{suite}, {dim}-D, {budget} evaluations, {rows['function'].nunique()} functions, "
        f"instances {' '.join(map(str, sorted(rows['instance'].unique())))}, {rows['seed'].nunique()} seeds, "
        f"{ranked.shape[1]} methods. By group: mean rank."
    )
    return "\n\n".join([title, "\n".join(lines), EXPLANATION, *notes]) + "\n"


def _mean_rank(ranks: pd.Series) -> str:
    return f"{ranks.mean():.2f}" if ranks.notna().any() else "-"


def _incomplete(method: str, runs: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    notes = []
    problems, expected = runs.groupby(["function", "instance"]).ngroups, rows.groupby(["function", "instance"]).ngroups
    if problems < expected:
        notes.append(f"{method}: {problems} of {expected} problems only; its rank is over those.")
    if runs["seed"].nunique() < rows["seed"].nunique():
        notes.append(f"{method}: {runs['seed'].nunique()} of {rows['seed'].nunique()} seeds only.")
    failed = runs[runs["status"].str.startswith("failed")]
    if len(failed):
        notes.append(f"{method}: {len(failed)} of {len(runs)} runs failed, for example: {failed['status'].iloc[0][8:]}")
    return notes


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=np.float64) if isinstance(text, str) else np.empty(0)
