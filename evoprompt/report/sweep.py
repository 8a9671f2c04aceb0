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
from evoprompt.report.files import csv_bytes, read_metrics, write_bytes
from evoprompt.report.page import cautions_box, culture_name, page, table
from evoprompt.report.verdict import number

LOSSES = ("naive", "persona", "icl", "evolved")
METHOD = ("model", "optimizer", "space", "placement")
COLUMNS = ("run", "culture", "seed", *METHOD, *LOSSES, "perplexity_ratio", "kl")


@dataclass(frozen=True)
class Row:
    """One run of a sweep; `method` as named by `METHOD`, `losses` held-out, None for an arm that was not measured."""

    folder: str
    culture: str
    name: str
    seed: Any
    method: tuple[str, ...]
    losses: tuple[float | None, ...]
    perplexity_ratio: float | None
    kl: float | None

    @property
    def cells(self) -> tuple[Any, ...]:
        """In the order of `COLUMNS`."""
        return (self.folder, self.culture, self.seed, *self.method, *self.losses, self.perplexity_ratio, self.kl)


def find_runs(folder: Path) -> list[Path]:
    """Finished runs below a folder, in the order of their paths."""
    return sorted(path.parent for path in folder.rglob("metrics.json") if (path.parent / "config.yaml").is_file())


def read_sweep(folder: Path) -> tuple[list[Row], list[str]]:
    """Rows of all readable runs, and a line for each that cannot be read or is not finished.

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
    for config in sorted(folder.rglob("config.yaml")):
        if (config.parent / "run.json").is_file() and not (config.parent / "metrics.json").is_file():
            skipped.append(f"{config.parent} is not finished")
    if not rows:
        more = f" ({'; '.join(skipped)})" if skipped else ""
        raise UserError(f"{folder} is neither a run directory nor holds a finished run{more}")
    return sorted(rows, key=lambda row: (row.culture, row.method, str(row.seed).zfill(12))), skipped


def _row(run: Path, folder: Path) -> Row:
    metrics = read_metrics(run)
    arms, cost = metrics["arms"], metrics.get("cost") or {}
    return Row(
        folder=run.relative_to(folder).as_posix(),
        culture=str(metrics.get("culture")),
        name=culture_name(metrics),
        seed=metrics.get("seed"),
        method=tuple(str(metrics.get(name) or "–") for name in METHOD),
        losses=tuple(arms[arm]["held_out"]["loss"] if arm in arms else None for arm in LOSSES),
        perplexity_ratio=cost.get("perplexity_ratio"),
        kl=cost.get("kl"),
    )


def text_table(rows: Sequence[Row]) -> str:
    """The table for a terminal: held-out losses, a line per run."""
    head = ["culture", "seed", *METHOD, *LOSSES]
    lines = [head]
    for row in rows:
        lines.append([row.culture, str(row.seed), *row.method, *map(number, row.losses)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    words = (0, *range(2, 2 + len(METHOD)))
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


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
    if any(row.method[0] == "pocket" for row in rows):
        cautions.insert(0, "The pocket model is a simulator; its figures say nothing about people.")
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
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.name, *row.method), []).append(row)
    lines = []
    for key, members in groups.items():
        means = [_mean([row.losses[column] for row in members]) for column in range(len(LOSSES))]
        gains = [
            before - after
            for before, *_, after in (row.losses for row in members)
            if before is not None and after is not None
        ]
        span = f"{number(min(gains))} to {number(max(gains))}" if gains else "–"
        better = sum(gain > 0 for gain in gains)
        cells = [*map(escape, key), str(len(members)), *map(number, means), f"{better} of {len(gains)}", span]
        lines.append(("", cells))
    head = ["culture", *METHOD, "runs", *LOSSES, "better than naive", "gain (range)"]
    return table("", head, lines, kind="names")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _runs(folder: Path, rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        where = escape(row.folder)
        if (folder / row.folder / "report.html").is_file():
            where = f'<a href="{escape(quote(row.folder))}/report.html">{where}</a>'
        words = [escape(str(word)) for word in (row.name, *row.method, row.seed)]
        cost = [f"×{number(row.perplexity_ratio, 2)}", number(row.kl, 3)]
        lines.append(("", [*words, *map(number, row.losses), *cost, where]))
    return table("", ["culture", *METHOD, "seed", *LOSSES, "perplexity", "KL", "run"], lines, kind="names")
