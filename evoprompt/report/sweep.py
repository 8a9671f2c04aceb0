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
from evoprompt.report.elements import figure, page, section, table
from evoprompt.report.files import write_bytes
from evoprompt.report.method import METHOD
from evoprompt.report.numbers import interval, number, share
from evoprompt.report.sweep_cautions import DOUBTFUL, sweep_cautions
from evoprompt.report.sweep_config import configuration
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
    drawn = {plot.name: plot for plot in plots}
    sections = [
        sweep_cautions(rows, skipped),
        _losses(rows, drawn),
        _means(rows),
        _gains(drawn),
        _runs(folder, rows),
        configuration(rows),
    ]
    foot = "<footer><p>The numbers behind every plot are in <code>plots/*.csv</code>.</p></footer>"
    body = f"<header>{_top(rows)}</header><main>{''.join(sections)}</main>{foot}"
    return page(f"{_count(rows)}: evolved soft prompts", body, kind="sweep")


def _count(rows: Sequence[Row]) -> str:
    return "1 run" if len(rows) == 1 else f"{len(rows)} runs"


def _top(rows: Sequence[Row]) -> str:
    said = sweep_verdict(rows)
    facts = [", ".join(dict.fromkeys(row.name for row in rows))]
    for column, title in enumerate(METHOD):
        words = list(dict.fromkeys(row.method[column][0] for row in rows))
        facts += [f"{title} {', '.join(words)}"] if any(words) else []
    return (
        f'<h1>{_count(rows)}</h1><p class="facts">{escape(" · ".join(facts))}</p>'
        f'<p class="headline {said.tone}">{escape(said.headline)}</p>'
        f'<ul class="said">{"".join(f"<li>{escape(line)}</li>" for line in said.comparisons)}</ul>'
        f'<p class="facts">{escape(said.cost)}</p>'
    )


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
    words = {row.method: list(map(escape, shown)) for row, shown in zip(rows, methods, strict=True)}
    checks, several = _known_checks(rows), of_several_cultures(rows)
    lines = [
        ("together" if (name, method) in several else "", [escape(name), *words[method], *_mean_cells(members, checks)])
        for (name, method), members in (grouped(rows) | several).items()
    ]
    head = ["culture", *titles, "runs", *LOSSES, *_titles(checks)]
    head += ["better than naive", "gain (range)", "mean gain, 95% interval"]
    return section(
        "means",
        "Means over runs",
        "Methods are named by what differs between them; an option that most runs of a name share is left out. "
        "Intervals are over the seeds of a culture; in a line of several cultures they are over cultures, each the "
        "mean of its runs.",
        f'<div class="card">{table("", head, lines, kind=f"words-{len(titles)}")}</div>',
    )


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
        lines.append(("doubtful" if row.doubt else "", [*words, *_marked(row), *checked, *cost, where]))
    head = ["culture", *titles, "seed", *LOSSES, *_titles(checks), "perplexity", "KL", "run"]
    runs = table("", head, lines, kind=f"words-{len(titles)}")
    files = '<p class="files">Files: <a href="sweep.csv">CSV</a></p>'
    lead = "Losses are held-out, in points."
    return section("runs", "Every run", lead, f'<div class="card">{runs}{files}</div>')
