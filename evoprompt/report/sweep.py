"""The page of a sweep: what its runs say together, plots, and one table of all runs below a folder."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

import pandas as pd

from evoprompt.report.cautions import Caution, noted, warnings
from evoprompt.report.drawing import Plot, write_page
from evoprompt.report.files import Run, write_bytes
from evoprompt.report.method import METHOD, flattened
from evoprompt.report.numbers import interval, mean_interval, number
from evoprompt.report.rendering import Rows, render
from evoprompt.report.sweep_plots import DRAWN_GROUPS, sweep_plots
from evoprompt.report.sweep_rows import CHECKS, LOSSES, Row, grouped, read_sweep, shown_methods, sweep_csv, told_apart
from evoprompt.report.verdict import pairs, sweep_verdict
from evoprompt.study.run_info import optimizer_words

DOUBTFUL = (
    "no success, however low the loss: few words on the labels, invalid answers, or free text does not confirm it"
)
ONE_SEED = Caution("One seed", "Every culture and method was run once; repeat with other seeds before claiming a gain.")
RECORDED = ("model", "instrument", "scoring", "versions")  # parts of run.json that say what a run was made with

Table = tuple[list[str], Rows, str]  # head, rows, and the table's class


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
    return write_page(folder, plots, sweep_page(folder, rows, skipped, plots))


def text_table(rows: Sequence[Row]) -> str:
    """The table for a terminal: held-out losses, a line per run."""
    shown = shown_methods(rows)
    methods = zip(METHOD, *(shown[row.method] for row in rows), strict=True)
    columns = [
        ("culture", *(row.culture for row in rows)),
        ("seed", *(str(row.seed) for row in rows)),
        *(column for column in methods if any(column[1:])),
        *zip(LOSSES, *map(_marked, rows), strict=True),
    ]
    padded = []
    for column in columns:
        width = max(map(len, column))
        left = column[0] in ("culture", *METHOD)
        padded.append([cell.ljust(width) if left else cell.rjust(width) for cell in column])
    drawn = ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]
    return "\n".join([*drawn, *([f"† {DOUBTFUL}"] if any(row.doubt for row in rows) else [])])


def sweep_page(folder: Path, rows: Sequence[Row], skipped: Sequence[str], plots: Sequence[Plot]) -> str:
    """The page: what all runs say together, plots and means over runs, then every run with a link to its own report."""
    settings, differing = compared([flattened(row.run.settings) for row in rows])
    shared, found = compared([made_with(row.run) for row in rows])
    return render(
        "sweep.html.j2",
        count="1 run" if len(rows) == 1 else f"{len(rows)} runs",
        facts=_facts(rows),
        verdict=sweep_verdict(rows),
        warnings=sweep_cautions(rows, skipped),
        plots={"gains": None, **{plot.name: plot for plot in plots}},
        undrawn=len(grouped(rows)) - DRAWN_GROUPS,
        tables=_tables(folder, rows),
        together="the run" if len(rows) == 1 else f"all {len(rows)} runs",
        settings=settings,
        differing=differing | found,
        made_with=[("", [key, value]) for key, value in shared.items()],
    )


def sweep_cautions(rows: Sequence[Row], skipped: Sequence[str]) -> list[Caution]:
    """The warnings of the runs, each title once and the commonest first, then which runs are left out."""
    titles: dict[str, dict[str, list[str]]] = {}  # title -> text -> runs
    for row in rows:
        for caution in [*warnings(row.run.metrics, row.run.settings), *noted(row.run.info)]:
            titles.setdefault(caution.title, {}).setdefault(caution.text, []).append(row.folder)
    counts = {title: len({run for runs in texts.values() for run in runs}) for title, texts in titles.items()}
    commonest = sorted(counts, key=lambda title: -counts[title])
    found = [_merged(title, titles[title], counts[title], len(rows)) for title in commonest]
    if all(len(members) == 1 for members in grouped(rows).values()):
        found.append(ONE_SEED)
    if any(row.doubt for row in rows):
        found.append(Caution("", f"† {DOUBTFUL}."))
    return [*found, *(Caution("", f"{line}.") for line in skipped)]


def _merged(title: str, texts: Mapping[str, Sequence[str]], count: int, total: int) -> Caution:
    first = next(iter(texts))
    if len(texts) == 1 and count == total:
        return Caution(title, first)
    among = f"In all {total} runs." if count == total else f"In {count} of {total} runs."
    if len(texts) == 1:
        return Caution(title, f"{among} {first}", "Which", (", ".join(texts[first]),))
    each = tuple(f"{', '.join(runs)}: {text}" for text, runs in texts.items())
    return Caution(title, among, "What it says of each", each)


def made_with(run: Run) -> dict[str, Any]:
    """What the settings do not say, by dotted key: versions, fingerprints, and what was found out as the run began."""
    settings, constant = flattened(run.settings), (run.metrics.get("constant") or {}).get("values") or ()
    found = {
        **flattened({part: known for part in RECORDED if (known := getattr(run.info, part))}),
        "target.edition": run.metrics.get("edition"),
        "constant.values": [round(value, 1) for value in constant] or None,
    }
    return {key: value for key, value in found.items() if value is not None and settings.get(key) != value}


def compared(runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, Counter[str]]]:
    """What all runs have alike, by key, and of every other key how many runs have which value.

    >>> compared([{"budget": 9, "seed": 0}, {"budget": 9, "seed": 1}])
    ({'budget': '9'}, {'seed': Counter({'0': 1, '1': 1})})
    """
    keys = dict.fromkeys(key for run in runs for key in run)
    counts = {key: Counter(_text(run[key]) if key in run else "not set" for run in runs) for key in keys}
    shared = {key: next(iter(values)) for key, values in counts.items() if len(values) == 1}
    return shared, {key: values for key, values in counts.items() if key not in shared}


def _text(value: Any) -> str:
    """A value in one line, as YAML reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _facts(rows: Sequence[Row]) -> list[str]:
    """Cultures, then each part of the methods; an optimizer with the shares that its stages took of all its runs."""
    facts = [", ".join(dict.fromkeys(row.name for row in rows))]
    for column, title in enumerate(METHOD):
        stages: dict[str, Counter[str]] = {}
        for row in rows:
            stages.setdefault(row.method[column][0], Counter()).update(row.stages)
        words = list(stages)
        if title == "optimizer":
            words = [optimizer_words({"name": name, "stages": taken}) for name, taken in stages.items()]
        facts += [f"{title} {', '.join(words)}"] if any(words) else []
    return facts


def _tables(folder: Path, rows: Sequence[Row]) -> dict[str, Table]:
    """The means over the runs of a group, also over the cultures of a method that was tried on several; and every run.

    The last cell of a run is its folder, with its report's address if any.
    """
    (titles, words), groups = told_apart(rows), grouped(rows)
    cultures = Counter(method for _, method in groups)
    several = {
        (f"{count} cultures", method): [row for row in rows if row.method == method]
        for method, count in cultures.items()
        if count > 1
    }
    checks = [name for name in CHECKS if any(row.checks[name] is not None for row in rows)]
    measured, kind = [*LOSSES, *(name.replace("_", " ") for name in checks)], f"words-{len(titles)}"
    means: Rows = [
        ("together" if (name, method) in several else "", [name, *words[method], *_mean_cells(members, checks)])
        for (name, method), members in (groups | several).items()
    ]
    runs: Rows = []
    for row in rows:
        has_report = (folder / row.folder / "report.html").is_file()
        where = (row.folder, f"{quote(row.folder)}/report.html") if has_report else row.folder
        checked = (CHECKS[name](row.checks[name]) for name in checks)
        cost = [f"×{number(row.run.metrics['cost']['perplexity_ratio'], 2)}", number(row.run.metrics["cost"]["kl"], 3)]
        cells = [row.name, *words[row.method], str(row.seed), *_marked(row), *checked, *cost, where]
        runs.append(("doubtful" if row.doubt else "", cells))
    gained = ["better than naive", "gain (range)", "mean gain, 95% interval"]
    return {
        "means": (["culture", *titles, "runs", *measured, *gained], means, kind),
        "runs": (["culture", *titles, "seed", *measured, "perplexity", "KL", "run"], runs, kind),
    }


def _mean_cells(members: Sequence[Row], checks: Sequence[str]) -> list[str]:
    """How many runs, the mean of every column, and how large and how certain the gain is."""
    columns = pd.DataFrame([{**row.losses, **row.checks} for row in members], dtype=float)
    mean = columns.apply(lambda column: fmean(known) if len(known := column.dropna()) else math.nan)
    losses, checked = [number(mean[arm]) for arm in LOSSES], [CHECKS[name](mean[name]) for name in checks]
    losses[-1] += "†" if any(row.doubt for row in members) else ""
    known = [(row, gain) for row in members if (gain := row.gains["held_out"]) is not None]
    gains, better = [gain for _, gain in known], sum(gain > 0 and row.doubt is None for row, gain in known)
    span = f"{number(min(gains))} to {number(max(gains))}" if gains else "–"
    certain = interval(mean_interval([naive - evolved for evolved, naive in pairs(members, "naive")])[1:])
    return [str(len(members)), *losses, *checked, f"{better} of {len(gains)}", span, certain]


def _marked(row: Row) -> list[str]:
    """The losses as text, a doubtful one of the evolved prompt with a mark."""
    *baselines, evolved = map(number, row.losses.values())
    return [*baselines, f"{evolved}†" if row.doubt else evolved]
