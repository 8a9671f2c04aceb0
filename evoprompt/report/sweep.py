"""Many runs at once: what they say together, plots, and one table of all runs below a folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from urllib.parse import quote

from evoprompt.report.certainty import mean_interval
from evoprompt.report.drawing import Plot, write_plots
from evoprompt.report.elements import cautions_box, figure, page, section, table
from evoprompt.report.files import csv_bytes, write_bytes
from evoprompt.report.numbers import interval, number, share
from evoprompt.report.sweep_plots import DRAWN_GROUPS, sweep_plots
from evoprompt.report.sweep_rows import (
    CHECKS,
    COLUMNS,
    LOSSES,
    METHOD,
    Row,
    grouped,
    read_sweep,
    shown_methods,
    told_apart,
)
from evoprompt.report.sweep_verdict import sweep_verdict

DOUBTFUL = (
    "no success, however low the loss: few words on the labels, invalid answers, or free text does not confirm it"
)


def _marked(row: Row) -> list[str]:
    """The losses as text, a doubtful one of the evolved prompt with a mark."""
    *baselines, evolved = map(number, row.losses)
    return [*baselines, f"{evolved}†" if row.doubtful else evolved]


def _check(name: str, value: float | None) -> str:
    return number(value) if name == "confirmed_loss" else share(value)


def _known_checks(rows: Sequence[Row]) -> list[int]:
    """Those of `CHECKS` that any run has."""
    return [column for column in range(len(CHECKS)) if any(row.checks[column] is not None for row in rows)]


def text_table(rows: Sequence[Row]) -> str:
    """The table for a terminal: held-out losses, a line per run."""
    head = ["culture", "seed", *METHOD, *LOSSES]
    lines = [head]
    for row, method in zip(rows, shown_methods(rows), strict=True):
        lines.append([row.culture, str(row.seed), *method, *_marked(row)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    words = (0, *range(2, 2 + len(METHOD)))
    drawn = [
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*drawn, *([f"† {DOUBTFUL}"] if any(row.doubtful for row in rows) else [])])


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
    write_bytes(folder / "sweep.csv", csv_bytes(COLUMNS, (row.cells for row in rows)))
    plots = sweep_plots(rows)
    write_plots(folder, plots)
    report = folder / "report.html"
    write_bytes(report, sweep_page(folder, rows, skipped, plots).encode())
    return report


def sweep_page(folder: Path, rows: Sequence[Row], skipped: Sequence[str], plots: Sequence[Plot]) -> str:
    """The page: what all runs say together, plots and means over runs, then every run with a link to its own report."""
    drawn = {plot.name: plot for plot in plots}
    body = (
        f"<header>{_top(rows)}</header><main>{_cautions(rows, skipped)}{_losses(rows, drawn)}"
        f'<section><h2>Means over runs</h2><div class="card">{_means(rows)}</div></section>'
        f"{_gains(drawn)}"
        f'<section><h2>Every run</h2><div class="card">{_runs(folder, rows)}'
        '<p class="files">Files: <a href="sweep.csv">CSV</a></p></div></section></main>'
        "<footer><p>The numbers behind every plot are in <code>plots/*.csv</code>.</p></footer>"
    )
    return page(f"{_count(rows)}: evolved soft prompts", body, kind="sweep")


def _count(rows: Sequence[Row]) -> str:
    return "1 run" if len(rows) == 1 else f"{len(rows)} runs"


def _top(rows: Sequence[Row]) -> str:
    said = sweep_verdict(rows)
    facts = [", ".join(dict.fromkeys(row.name for row in rows))]
    for column, title in enumerate(METHOD):
        words = list(dict.fromkeys(row.method[column][0] for row in rows))
        facts.append(f"{title} {', '.join(words)}")
    return (
        f'<h1>{_count(rows)}</h1><p class="facts">{escape(" · ".join(facts))}</p>'
        f'<p class="headline {said.tone}">{escape(said.headline)}</p>'
        f'<ul class="said">{"".join(f"<li>{escape(line)}</li>" for line in said.comparisons)}</ul>'
        f'<p class="facts">{escape(said.cost)}</p>'
    )


def _cautions(rows: Sequence[Row], skipped: Sequence[str]) -> str:
    found = [f"{escape(line)}." for line in skipped]
    if any(row.method[0] == ("pocket",) for row in rows):
        found.insert(0, "The pocket model is a simulator; its figures say nothing about people.")
    if any(row.doubtful for row in rows):
        found.append(f"† {escape(DOUBTFUL)}.")
    box = "".join(f"<li>{line}</li>" for line in found)
    return cautions_box(box) if box else ""


def _losses(rows: Sequence[Row], drawn: Mapping[str, Plot]) -> str:
    left = len(grouped(rows)) - DRAWN_GROUPS
    more = f" The last {left} groups are in the tables only." if left > 0 else ""
    caption = (
        "A faint mark is a run, a full one the mean over the runs of one culture and method, a bar its 95% bootstrap "
        f"interval over runs.{more}"
    )
    return section(
        "losses",
        "Held-out loss of every run",
        "Mean absolute distance to the target on wordings that no search saw, in points; lower is better.",
        figure(drawn["losses"], caption),
    )


def _gains(drawn: Mapping[str, Plot]) -> str:
    if "gains" not in drawn:
        return ""
    return section(
        "gains",
        "Did the gains carry over to new wordings?",
        "By how many points the evolved prompt lowered the loss against no prompt.",
        figure(
            drawn["gains"],
            "A dot is a run. On the broken line a gain is as large on held-out wordings as on the searched ones; "
            "below the dotted line less than half of it is left. Hollow: no success, however low the loss.",
        ),
    )


def _means(rows: Sequence[Row]) -> str:
    titles, methods = told_apart(rows)
    words = {row.method: shown for row, shown in zip(rows, methods, strict=True)}
    checks = _known_checks(rows)
    lines = []
    for (name, method), members in grouped(rows).items():
        means = [number(_mean([row.losses[column] for row in members])) for column in range(len(LOSSES))]
        means[-1] += "†" if any(row.doubtful for row in members) else ""
        means += [_check(CHECKS[column], _mean([row.checks[column] for row in members])) for column in checks]
        fallen = [(row.gain, row.doubtful) for row in members if row.gain is not None]
        gains = [gain for gain, _ in fallen]
        span = f"{number(min(gains))} to {number(max(gains))}" if gains else "–"
        better = sum(gain > 0 and not doubtful for gain, doubtful in fallen)
        certain = interval(mean_interval(gains)[1:]) if gains else "–"
        counts = [f"{better} of {len(gains)}", span, certain]
        cells = [*map(escape, (name, *words[method])), str(len(members)), *means, *counts]
        lines.append(("", cells))
    head = [
        "culture",
        *titles,
        "runs",
        *LOSSES,
        *_titles(checks),
        "better than naive",
        "gain (range)",
        "mean gain, 95% interval",
    ]
    return table("", head, lines, kind=f"words-{len(titles)}")


def _titles(checks: Sequence[int]) -> list[str]:
    return [CHECKS[column].replace("_", " ") for column in checks]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _runs(folder: Path, rows: Sequence[Row]) -> str:
    checks = _known_checks(rows)
    lines = []
    titles, methods = told_apart(rows)
    for row, method in zip(rows, methods, strict=True):
        where = escape(row.folder)
        if (folder / row.folder / "report.html").is_file():
            where = f'<a href="{escape(quote(row.folder))}/report.html">{where}</a>'
        words = [escape(str(word)) for word in (row.name, *method, row.seed)]
        checked = (_check(CHECKS[column], row.checks[column]) for column in checks)
        cost = [f"×{number(row.perplexity_ratio, 2)}", number(row.kl, 3)]
        lines.append(("doubtful" if row.doubtful else "", [*words, *_marked(row), *checked, *cost, where]))
    head = ["culture", *titles, "seed", *LOSSES, *_titles(checks), "perplexity", "KL", "run"]
    return table("", head, lines, kind=f"words-{len(titles)}")
