"""What limits what the numbers of a sweep mean: the warnings of its runs, each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from evoprompt.report.elements import cautions_box
from evoprompt.report.sweep_rows import Row, grouped

DOUBTFUL = (
    "no success, however low the loss: few words on the labels, invalid answers, or free text does not confirm it"
)
ONE_SEED = (
    "<strong>One seed.</strong> Every culture and method was run once; repeat with other seeds before claiming a gain."
)


def sweep_cautions(rows: Sequence[Row], skipped: Sequence[str]) -> str:
    """The box of warnings: those of all runs first, then those of some, then which runs are left out."""
    found = list(_warnings(rows))
    if all(len(members) == 1 for members in grouped(rows).values()):
        found.append(ONE_SEED)
    if any(row.doubt for row in rows):
        found.append(f"† {escape(DOUBTFUL)}.")
    found += [f"{escape(line)}." for line in skipped]
    return cautions_box("".join(f"<li>{line}</li>" for line in found)) if found else ""


def _warnings(rows: Sequence[Row]) -> Iterator[str]:
    """A line for each title, the commonest first."""
    titles: dict[str, dict[str, list[str]]] = {}  # title -> text -> runs
    for row in rows:
        for caution in row.cautions:
            titles.setdefault(caution.title, {}).setdefault(caution.text, []).append(row.folder)
    counted = [(len({run for runs in texts.values() for run in runs}), title) for title, texts in titles.items()]
    for count, title in sorted(counted, key=lambda one: -one[0]):
        yield _line(title, titles[title], count, len(rows))


def _line(title: str, texts: Mapping[str, Sequence[str]], count: int, total: int) -> str:
    """A warning; of which runs it holds, and what it says of each, is folded."""
    said, first = f"<strong>{escape(title)}.</strong>", escape(next(iter(texts)))
    if len(texts) == 1 and count == total:
        return f"{said} {first}"
    said += f" In all {total} runs." if count == total else f" In {count} of {total} runs."
    if len(texts) == 1:
        return f"{said} {first}{_folded('Which', [', '.join(runs) for runs in texts.values()])}"
    return said + _folded("What it says of each", [f"{', '.join(runs)}: {text}" for text, runs in texts.items()])


def _folded(summary: str, lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<details><summary>{summary}</summary><ul>{items}</ul></details>"
