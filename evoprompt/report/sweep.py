"""Many runs at once: one table of all runs below a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from evoprompt.errors import UserError
from evoprompt.report.cautions import doubt
from evoprompt.report.files import csv_bytes, parsed_config, read_metrics, read_text, write_bytes
from evoprompt.report.method import respondent_words, space_words
from evoprompt.report.numbers import finite, number, share
from evoprompt.report.page import cautions_box, culture_name, page, table
from evoprompt.study.sweepdir import SweepDirectory

LOSSES = ("naive", "persona", "icl", "evolved")
METHOD = ("model", "optimizer", "space", "placement", "respondent")
CHECKS = ("label_mass", "invalid_rate", "confirmed_loss")  # of the evolved prompt, on held-out wordings
COLUMNS = ("run", "culture", "seed", *METHOD, *LOSSES, *CHECKS, "perplexity_ratio", "kl")
DOUBTFUL = (
    "no success, however low the loss: few words on the labels, invalid answers, or free text does not confirm it"
)


@dataclass(frozen=True)
class Row:
    """One run of a sweep.

    `method` has the words of each of `METHOD`: a name, then the options that it was used with. `losses` are held-out,
    None for an arm that was not or could not be measured; `checks` as named by `CHECKS`. `doubtful` runs have one that
    takes the loss back.
    """

    folder: str
    culture: str
    name: str
    seed: Any
    method: tuple[tuple[str, ...], ...]
    losses: tuple[float | None, ...]
    checks: tuple[float | None, ...]
    doubtful: bool
    perplexity_ratio: float | None
    kl: float | None

    @property
    def cells(self) -> tuple[Any, ...]:
        """In the order of `COLUMNS`."""
        method = (", ".join(words) for words in self.method)
        cost = (self.perplexity_ratio, self.kl)
        return (self.folder, self.culture, self.seed, *method, *self.losses, *self.checks, *cost)


def find_runs(folder: Path) -> list[Path]:
    """Finished runs below a folder, in the order of their paths."""
    return sorted(path.parent for path in folder.rglob("metrics.json") if (path.parent / "config.yaml").is_file())


def read_sweep(folder: Path) -> tuple[list[Row], list[str]]:
    """Rows of all readable runs, and a line for each that cannot be read or has no result, with the reason.

    Raises
    ------
    UserError
        There is no finished run below the folder.
    """
    rows, skipped = [], []
    for found in find_runs(folder):
        try:
            rows.append(_row(found, folder))
        except UserError as error:
            skipped.append(str(error))
    jobs = [job for multirun in sorted(folder.rglob("multirun.yaml")) for job in SweepDirectory(multirun.parent).jobs()]
    skipped += [f"{job.name}: {job.reason}" for job in jobs if not job.finished]
    for config in sorted(folder.rglob("config.yaml")):
        run = config.parent
        unfinished = (run / "run.json").is_file() and not (run / "metrics.json").is_file()
        if unfinished and run not in [job.folder for job in jobs]:
            skipped.append(f"{run} is not finished")
    if not rows:
        more = f" ({'; '.join(skipped)})" if skipped else ""
        raise UserError(f"{folder} is neither a run directory nor holds a finished run{more}")
    return sorted(rows, key=lambda row: (row.culture, row.method, str(row.seed).zfill(12))), skipped


def _row(run: Path, folder: Path) -> Row:
    metrics, config = read_metrics(run), parsed_config(read_text(run / "config.yaml"))
    arms, cost = metrics["arms"], metrics.get("cost") or {}
    words = {"space": space_words(metrics, config), "respondent": respondent_words(metrics, config)}
    evolved, confirmed = arms["evolved"]["held_out"], (metrics.get("confirmation") or {}).get("evolved") or {}
    return Row(
        folder=run.relative_to(folder).as_posix(),
        culture=str(metrics.get("culture")),
        name=culture_name(metrics),
        seed=metrics.get("seed"),
        method=tuple(words.get(name) or (str(metrics.get(name) or "–"),) for name in METHOD),
        losses=tuple(finite(arms[arm]["held_out"]["loss"]) if arm in arms else None for arm in LOSSES),
        checks=(*(finite(evolved.get(key)) for key in CHECKS[:2]), finite(confirmed.get("loss"))),
        doubtful=doubt(metrics) is not None,
        perplexity_ratio=cost.get("perplexity_ratio"),
        kl=cost.get("kl"),
    )


def shown_methods(rows: Sequence[Row]) -> list[list[str]]:
    """Each row's method in few words: the options that all runs of a name share are left out."""
    shown = [list[str]() for _ in rows]
    for column in range(len(METHOD)):
        for line, row in zip(shown, rows, strict=True):
            name, *options = row.method[column]
            alike = [other.method[column] for other in rows if other.method[column][0] == name]
            told = (option for option in options if not all(option in words for words in alike))
            line.append(", ".join((name, *told)))
    return shown


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
    """Write `sweep.csv` and `report.html` into a folder of runs, print the table, and return the page's path.

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
    report = folder / "report.html"
    write_bytes(report, sweep_page(folder, rows, skipped).encode())
    return report


def sweep_page(folder: Path, rows: Sequence[Row], skipped: Sequence[str]) -> str:
    """The page: means over runs, then every run with a link to its own report."""
    cautions = [f"{escape(line)}." for line in skipped]
    if any(row.method[0] == ("pocket",) for row in rows):
        cautions.insert(0, "The pocket model is a simulator; its figures say nothing about people.")
    if any(row.doubtful for row in rows):
        cautions.append(f"† {escape(DOUBTFUL)}.")
    box = "".join(f"<li>{line}</li>" for line in cautions)
    aside = cautions_box(box) if box else ""
    body = (
        f"<header><h1>{len(rows)} runs</h1>"
        '<p class="facts">Held-out loss: mean absolute distance to the target, in points; lower is better.</p></header>'
        f"<main>{aside}"
        f'<section><h2>Means over runs</h2><div class="card">{_means(rows)}</div></section>'
        f'<section><h2>Every run</h2><div class="card">{_runs(folder, rows)}</div></section></main>'
        "<footer><p>The same numbers are in <code>sweep.csv</code>.</p></footer>"
    )
    return page(f"{len(rows)} runs", body, kind="sweep")


def _means(rows: Sequence[Row]) -> str:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.name, row.method), []).append(row)
    words = {row.method: shown for row, shown in zip(rows, shown_methods(rows), strict=True)}
    checks = _known_checks(rows)
    lines = []
    for (name, method), members in groups.items():
        means = [number(_mean([row.losses[column] for row in members])) for column in range(len(LOSSES))]
        means[-1] += "†" if any(row.doubtful for row in members) else ""
        means += [_check(CHECKS[column], _mean([row.checks[column] for row in members])) for column in checks]
        fallen = [
            (row.losses[0] - row.losses[-1], row.doubtful)
            for row in members
            if row.losses[0] is not None and row.losses[-1] is not None
        ]
        gains = [gain for gain, _ in fallen]
        span = f"{number(min(gains))} to {number(max(gains))}" if gains else "–"
        better = sum(gain > 0 and not doubtful for gain, doubtful in fallen)
        cells = [*map(escape, (name, *words[method])), str(len(members)), *means, f"{better} of {len(gains)}", span]
        lines.append(("", cells))
    head = ["culture", *METHOD, "runs", *LOSSES, *_titles(checks), "better than naive", "gain (range)"]
    return table("", head, lines, kind="names")


def _titles(checks: Sequence[int]) -> list[str]:
    return [CHECKS[column].replace("_", " ") for column in checks]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _runs(folder: Path, rows: Sequence[Row]) -> str:
    checks = _known_checks(rows)
    lines = []
    for row, method in zip(rows, shown_methods(rows), strict=True):
        where = escape(row.folder)
        if (folder / row.folder / "report.html").is_file():
            where = f'<a href="{escape(quote(row.folder))}/report.html">{where}</a>'
        words = [escape(str(word)) for word in (row.name, *method, row.seed)]
        checked = (_check(CHECKS[column], row.checks[column]) for column in checks)
        cost = [f"×{number(row.perplexity_ratio, 2)}", number(row.kl, 3)]
        lines.append(("doubtful" if row.doubtful else "", [*words, *_marked(row), *checked, *cost, where]))
    head = ["culture", *METHOD, "seed", *LOSSES, *_titles(checks), "perplexity", "KL", "run"]
    return table("", head, lines, kind="names")
