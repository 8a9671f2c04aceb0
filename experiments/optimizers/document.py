"""The page: what its template is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evoprompt.report.cautions import Caution
from evoprompt.report.rendering import render
from experiments.optimizers.beside import Grid
from experiments.optimizers.plots import SHOWN, ranking
from experiments.optimizers.standing import DEFAULT, Verdict
from experiments.optimizers.words import RULE, advice, headline, lead, not_best, ranked

__all__ = ["CAUTIONS", "document"]

CAUTIONS = (
    ("Developed on some of it", "The default was developed on instances 1 to 5 of the 20-D table at 200 evaluations "
     "per coordinate. Instances 6 to 10 were kept apart; the functions are the same 24."),
    ("Test functions, not language models", "BBOB and the synthetic survey are made-up functions. Whether a method is "
     "the best on your model's loss has to be tried there."),
    ("Overlap is a lenient rule", "“As good” means that these runs cannot tell two methods apart, which with five "
     "functions or three respondents is little. It does not mean that they are equal."),
    ("The kinds share runs", "Some kinds are parts of the same tables, so they are not so many independent successes. "
     "Most tables but those at 200 evaluations per coordinate in 20-D have one seed."),
    ("Told of a larger budget", "The first kind looks at the beginning of longer runs. Methods that plan by their "
     "budget, the default among them, might do better if told of the smaller one."),
)  # fmt: skip
MICROS = ("µs", "CPU microseconds an evaluation, objective included; rough")
RANKS = {"best": "good", "as good": "flat", "behind": "bad"}  # the colour of each word of a verdict
TITLES = {"best": "default has the best mean rank", "as good": "not best, intervals overlap", "behind": "behind"}


def document(
    verdicts: Sequence[Verdict], p: Sequence[float], glance: tuple[str, str], beside: Sequence[Grid], missing: Grid
) -> str:
    """The whole page; `glance` is its first plot, for wide and for narrow screens."""
    counts = {word: sum(verdict.word == word for verdict in verdicts) for word in TITLES}
    return render(
        "which.html.j2",
        Path(__file__).parent,
        methods=len({one.method for verdict in verdicts for one in verdict.standings}),
        headline=headline(verdicts),
        lines=[lead(verdicts, p), *not_best(verdicts)],
        tiles=[(TITLES[word], count, RANKS[word]) for word, count in counts.items()],
        jobs=[_job(verdict, value) for verdict, value in zip(verdicts, p, strict=True)],
        glance=glance,
        warnings=[Caution(*pair) for pair in CAUTIONS],
        rule=RULE,
        beside=[_grid(grid, grid.head) for grid in beside],
        missing=_grid(missing, [_parts(name) for name in missing.head]),
    )


def _job(verdict: Verdict, p: float) -> dict[str, Any]:
    job, against, best = verdict.job, verdict.against_rival, verdict.word == "best"
    few = f" Only {len(verdict.cases)} {job.case}: the intervals are rough." if len(verdict.cases) <= 5 else ""
    others, left = [one.method for one in verdict.as_good[1:]], len(verdict.standings) - SHOWN
    loss: Any = ("AUC", "area under the share of targets reached") if job.objective is None else "mean loss"
    return {
        "name": job.name,
        "title": job.title,
        "best": verdict.best.method,
        "best_rank": ranked(verdict.best),
        "also": (", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")) or "–",
        "own": "best" if best else f"place {verdict.place}",
        "own_rank": "" if best else ranked(verdict.default),
        "advice": advice(verdict),
        "about": f"{job.about}. {len(verdict.standings)} methods with {verdict.runs} runs each; "
        f"{len(verdict.cases)} {job.case}.{few}",
        "drawn": ranking(verdict),
        "caption": "Filled: as good as the best, whose interval is the grey band. "
        f"Default less {verdict.rival.method}, paired: {against.difference:+.2f} ranks "
        f"[{against.low:+.2f}, {against.high:+.2f}], p = {p:.3f} after adjustment."
        + (f" The other {left} methods are in the table." if left > 0 else ""),
        "head": ["", "mean rank", "95% interval", "as good", loss, MICROS],
        "rows": [_row(one.method, _cells(verdict, row)) for row, one in enumerate(verdict.standings)],
        "absent": ", ".join(verdict.missing) or "none",
    }


def _row(method: str, cells: Sequence[str]) -> tuple[str, Sequence[str]]:
    return "default" if method == DEFAULT else "", cells


def _cells(verdict: Verdict, row: int) -> list[str]:
    one = verdict.standings[row]
    area = f"{one.loss:.3g}" if one.auc is None else f"{one.auc:.3f}"
    good = "yes" if one in verdict.as_good else ""
    return [one.method, f"{one.rank:.2f}", f"{one.low:.2f} to {one.high:.2f}", good, area, f"{one.micros:.0f}"]


def _grid(grid: Grid, head: Sequence[Any]) -> dict[str, Any]:
    return {"title": grid.title, "says": grid.says, "head": head, "cells": [_row(row[0], row) for row in grid.rows]}


def _parts(name: str) -> list[str]:
    """A column's title, a word a line."""
    return name.replace("largescale", "large").replace("_", " ").split(" ")
