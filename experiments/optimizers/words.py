"""What the numbers say, in sentences and as the table of recommendations."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from experiments.optimizers.standing import DEFAULT, Standing, Verdict

__all__ = ["RULE", "advice", "frame", "headline", "lead", "markdown", "not_best", "ranked"]

RULE = (
    "Within one result file every method has the same problems, seeds and number of evaluations. Methods are ranked on "
    "each problem by the median error over seeds; ranks are averaged over a function's instances, then over files and "
    "over functions. The 95 % interval is a bootstrap over functions. The best mean rank is recommended; every method "
    "whose interval overlaps the best one's counts as good. Only methods that have every run of a kind are ranked."
)


def ranked(one: Standing) -> str:
    """A mean rank with its interval."""
    return f"{one.rank:.2f} [{one.low:.2f}, {one.high:.2f}]"


def headline(verdicts: Sequence[Verdict]) -> str:
    """The answer in one sentence."""
    best = len(_named(verdicts, "best"))
    rest = f" and is not the best in {len(verdicts) - best}" if best < len(verdicts) else ""
    return f"{DEFAULT}, the default, has the best mean rank in {best} of {len(verdicts)} kinds of problems{rest}"


def not_best(verdicts: Sequence[Verdict]) -> list[str]:
    """A sentence for each kind in which the default is not the best, worst first."""
    found = sorted((verdict for verdict in verdicts if verdict.word != "best"), key=_gap, reverse=True)
    return [f"Not the best: {verdict.job.title} ({_behind(verdict)})." for verdict in found]


def lead(verdicts: Sequence[Verdict], p: Sequence[float]) -> str:
    """Where a paired test tells the default from its best rival."""
    ahead = [one.job.title for one, value in zip(verdicts, p, strict=True) if value < 0.05 and one.word == "best"]
    where = "; ".join(ahead) if ahead else "none"
    return (
        "Paired by function and adjusted for that there are many tests, its lead over the best rival is beyond chance "
        f"in {len(ahead)} of its {len(_named(verdicts, 'best'))} first places: {where}."
    )


def advice(verdict: Verdict) -> str:
    """What to take, and how the default does."""
    others = [one.method for one in verdict.as_good if one.method not in (verdict.best.method, DEFAULT)]
    own = ", the default" if verdict.word == "best" else ""
    parts = [f"Take {verdict.best.method}{own}: mean rank {ranked(verdict.best)}."]
    if verdict.word != "best":
        parts.append(f"The default is not the best: {_behind(verdict)}.")
    if others:
        parts.append(f"As good by the rule: {', '.join(others)}.")
    if verdict.best_by_area not in (None, verdict.best.method):
        parts.append(f"By the area under the targets reached on the way, {verdict.best_by_area} leads.")
    return " ".join(parts)


def _behind(verdict: Verdict) -> str:
    rest = "the intervals overlap" if verdict.word == "as good" else "the intervals do not overlap"
    return (
        f"place {verdict.place} of {len(verdict.standings)} with {ranked(verdict.default)}, after "
        f"{verdict.best.method} with {verdict.best.rank:.2f}; {rest}"
    )


def _gap(verdict: Verdict) -> float:
    return (verdict.default.rank - verdict.best.rank) / len(verdict.standings)


def _named(verdicts: Sequence[Verdict], word: str) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.word == word]


def frame(verdicts: Sequence[Verdict], p: Sequence[float]) -> pd.DataFrame:
    """`recommendations.csv`: a row per kind of problem."""
    rows = []
    for verdict, adjusted in zip(verdicts, p, strict=True):
        best, default, against = verdict.best, verdict.default, verdict.against_rival
        rows.append({
            "job": verdict.job.name, "title": verdict.job.title, "tables": "; ".join(verdict.job.tables),
            "methods": len(verdict.standings), "runs_each": verdict.runs, "cases": len(verdict.cases),
            "take": best.method, "rank": best.rank, "low": best.low, "high": best.high,
            "as_good": "; ".join(one.method for one in verdict.as_good[1:]), "best_by_area": verdict.best_by_area,
            "default": verdict.word, "default_place": verdict.place, "default_rank": default.rank,
            "default_low": default.low, "default_high": default.high, "rival": verdict.rival.method,
            "difference": against.difference, "difference_low": against.low, "difference_high": against.high,
            "p": against.p, "p_adjusted": adjusted, "not_ranked": "; ".join(verdict.missing),
        })  # fmt: skip
    return pd.DataFrame(rows).round(4)


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The table of recommendations."""
    head = ["kind of problem", "take", "mean rank [95 %]", "as good by the rule", f"`{DEFAULT}`", "methods", "cases"]
    lines = [head, ["---"] * len(head)]
    for verdict in verdicts:
        others = ", ".join(one.method for one in verdict.as_good[1:]) or "–"
        own = "best" if verdict.word == "best" else f"**place {verdict.place}**, {ranked(verdict.default)}"
        counts = [str(len(verdict.standings)), f"{len(verdict.cases)} {verdict.job.case}"]
        lines.append([verdict.job.title, f"**{verdict.best.method}**", ranked(verdict.best), others, own, *counts])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
