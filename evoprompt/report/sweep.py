"""The page of a sweep: what its runs say together, plots, and one table of all runs below a folder."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from evoprompt.report.certainty import mean_interval
from evoprompt.report.drawing import Plot, write_plots
from evoprompt.report.files import write_bytes
from evoprompt.report.method import METHOD
from evoprompt.report.numbers import interval, number, share
from evoprompt.report.rendering import render
from evoprompt.report.sweep_cautions import DOUBTFUL, sweep_cautions
from evoprompt.report.sweep_config import SHOWN_KEYS, SHOWN_VALUES, compared
from evoprompt.report.sweep_plots import DRAWN_GROUPS, sweep_plots
from evoprompt.report.sweep_rows import (
    CHECKS,
    LOSSES,
    Row,
    grouped,
    of_several_cultures,
    read_sweep,
    shown_methods,
    sweep_csv,
    told_apart,
)
from evoprompt.report.sweep_verdict import pairs, sweep_verdict
from evoprompt.study.run_info import optimizer_words


def _marked(row: Row) -> list[str]:
    """The losses as text, a doubtful one of the evolved prompt with a mark."""
    *baselines, evolved = map(number, row.losses)
    return [*baselines, f"{evolved}†" if row.doubt else evolved]


def _check(name: str, value: float | None) -> str:
    return number(value) if name == "confirmed_loss" else share(value)


def _known_checks(rows: Sequence[Row]) -> list[int]:
    """Those of `CHECKS` that any run has."""
    return [column for column in range(len(CHECKS)) if any(row.checks[column] is not None for row in rows)]


def text_table(rows: Sequence[Row]) -> str:
    """The table for a terminal: held-out losses, a line per run."""
    shown = shown_methods(rows)
    columns = [column for column in range(len(METHOD)) if any(words[column] for words in shown)]
    lines = [["culture", "seed", *(METHOD[column] for column in columns), *LOSSES]]
    for row, words in zip(rows, shown, strict=True):
        lines.append([row.culture, str(row.seed), *(words[column] for column in columns), *_marked(row)])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    left = (0, *range(2, 2 + len(columns)))
    drawn = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*drawn, *([f"† {DOUBTFUL}"] if any(row.doubt for row in rows) else [])])


def write_sweep(folder: Path) -> Path:
    """Write `sweep.csv`, `plots/` and `report.html` into a folder of runs, print the table, and return the page's path.

    Raises
    ------
    UserError
        There is no finished run below the folder, or it cannot be written.
    """
    rows, skipped = read_sweep(folder)
    print(text_table(rows))
    for line in skipped:
        print(f"evoprompt: skipped: {line}", file=sys.stderr)
    write_bytes(folder / "sweep.csv", sweep_csv(rows))
    plots = sweep_plots(rows)
    write_plots(folder, plots)
    report = folder / "report.html"
    write_bytes(report, sweep_page(folder, rows, skipped, plots).encode())
    return report


def sweep_page(folder: Path, rows: Sequence[Row], skipped: Sequence[str], plots: Sequence[Plot]) -> str:
    """The page: what all runs say together, plots and means over runs, then every run with a link to its own report."""
    settings, differing = compared([row.config for row in rows])
    made_with, found = compared([row.made_with for row in rows])
    return render(
        "sweep.html.j2",
        count=_count(rows),
        facts=_facts(rows),
        verdict=sweep_verdict(rows),
        warnings=sweep_cautions(rows, skipped),
        plots={"gains": None, **{plot.name: plot for plot in plots}},
        undrawn=len(grouped(rows)) - DRAWN_GROUPS,
        means=_means(rows),
        runs=_runs(folder, rows),
        together="the run" if len(rows) == 1 else f"all {len(rows)} runs",
        settings=settings,
        differing=differing | found,
        made_with=[("", [key, value]) for key, value in made_with.items()],
        SHOWN_KEYS=SHOWN_KEYS,
        SHOWN_VALUES=SHOWN_VALUES,
    )


def _count(rows: Sequence[Row]) -> str:
    return "1 run" if len(rows) == 1 else f"{len(rows)} runs"


def _facts(rows: Sequence[Row]) -> list[str]:
    """Cultures, then each part of the methods; an optimizer with the shares that its stages took of all its runs."""
    facts = [", ".join(dict.fromkeys(row.name for row in rows))]
    for column, title in enumerate(METHOD):
        words = list(dict.fromkeys(row.method[column][0] for row in rows))
        if title == "optimizer":
            words = [_searched([row for row in rows if row.method[column][0] == name], name) for name in words]
        facts += [f"{title} {', '.join(words)}"] if any(words) else []
    return facts


def _searched(rows: Sequence[Row], name: str) -> str:
    """An optimizer in words, with what all its runs' stages took together."""
    stages: Counter[str] = Counter()
    for row in rows:
        stages.update(row.stages)
    return optimizer_words({"name": name, "stages": stages})


def _means(rows: Sequence[Row]) -> tuple[list[str], list[tuple[str, list[str]]], str]:
    """Head, rows and class of the table of means."""
    titles, methods = told_apart(rows)
    words = {row.method: list(shown) for row, shown in zip(rows, methods, strict=True)}
    checks, several = _known_checks(rows), of_several_cultures(rows)
    lines = [
        ("together" if (name, method) in several else "", [name, *words[method], *_mean_cells(members, checks)])
        for (name, method), members in (grouped(rows) | several).items()
    ]
    head = ["culture", *titles, "runs", *LOSSES, *_titles(checks)]
    return [*head, "better than naive", "gain (range)", "mean gain, 95% interval"], lines, f"words-{len(titles)}"


def _mean_cells(members: Sequence[Row], checks: Sequence[int]) -> list[str]:
    """How many runs, the mean of every column, and how large and how certain the gain is."""
    losses = [number(_mean([row.losses[column] for row in members])) for column in range(len(LOSSES))]
    losses[-1] += "†" if any(row.doubt for row in members) else ""
    checked = [_check(CHECKS[column], _mean([row.checks[column] for row in members])) for column in checks]
    gains = [row.gain for row in members if row.gain is not None]
    better = sum(row.gain is not None and row.gain > 0 and row.doubt is None for row in members)
    span = f"{number(min(gains))} to {number(max(gains))}" if gains else "–"
    certain = interval(mean_interval([naive - evolved for evolved, naive in pairs(members, "naive")])[1:])
    return [str(len(members)), *losses, *checked, f"{better} of {len(gains)}", span, certain]


def _titles(checks: Sequence[int]) -> list[str]:
    return [CHECKS[column].replace("_", " ") for column in checks]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _runs(folder: Path, rows: Sequence[Row]) -> tuple[list[str], list[tuple[str, list[Any]]], str]:
    """Head, rows and class of the table of runs; the last cell is the folder, with its report's address if any."""
    checks = _known_checks(rows)
    lines: list[tuple[str, list[Any]]] = []
    titles, methods = told_apart(rows)
    for row, method in zip(rows, methods, strict=True):
        has_report = (folder / row.folder / "report.html").is_file()
        where = (row.folder, f"{quote(row.folder)}/report.html") if has_report else row.folder
        checked = (_check(CHECKS[column], row.checks[column]) for column in checks)
        cost = [f"×{number(row.perplexity_ratio, 2)}", number(row.kl, 3)]
        cells = [row.name, *method, str(row.seed), *_marked(row), *checked, *cost, where]
        lines.append(("doubtful" if row.doubt else "", cells))
    head = ["culture", *titles, "seed", *LOSSES, *_titles(checks), "perplexity", "KL", "run"]
    return head, lines, f"words-{len(titles)}"
