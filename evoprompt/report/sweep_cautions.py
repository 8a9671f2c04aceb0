"""What limits what the numbers of a sweep mean: the warnings of its runs, each once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evoprompt.report.sweep_rows import Row, grouped

DOUBTFUL = (
    "no success, however low the loss: few words on the labels, invalid answers, or free text does not confirm it"
)


@dataclass(frozen=True)
class SweepCaution:
    """A warning; which runs it holds of, or what it says of each, is folded under a summary."""

    title: str
    text: str
    summary: str = ""
    each: tuple[str, ...] = ()


ONE_SEED = SweepCaution(
    "One seed", "Every culture and method was run once; repeat with other seeds before claiming a gain."
)


def sweep_cautions(rows: Sequence[Row], skipped: Sequence[str]) -> list[SweepCaution]:
    """The warnings of all runs first, then those of some, then which runs are left out."""
    found = list(_warnings(rows))
    if all(len(members) == 1 for members in grouped(rows).values()):
        found.append(ONE_SEED)
    if any(row.doubt for row in rows):
        found.append(SweepCaution("", f"† {DOUBTFUL}."))
    return [*found, *(SweepCaution("", f"{line}.") for line in skipped)]


def _warnings(rows: Sequence[Row]) -> Iterator[SweepCaution]:
    """One for each title, the commonest first."""
    titles: dict[str, dict[str, list[str]]] = {}  # title -> text -> runs
    for row in rows:
        for caution in row.cautions:
            titles.setdefault(caution.title, {}).setdefault(caution.text, []).append(row.folder)
    counted = [(len({run for runs in texts.values() for run in runs}), title) for title, texts in titles.items()]
    for count, title in sorted(counted, key=lambda one: -one[0]):
        yield _merged(title, titles[title], count, len(rows))


def _merged(title: str, texts: Mapping[str, Sequence[str]], count: int, total: int) -> SweepCaution:
    first = next(iter(texts))
    if len(texts) == 1 and count == total:
        return SweepCaution(title, first)
    among = f"In all {total} runs." if count == total else f"In {count} of {total} runs."
    if len(texts) == 1:
        return SweepCaution(title, f"{among} {first}", "Which", (", ".join(texts[first]),))
    each = tuple(f"{', '.join(runs)}: {text}" for text, runs in texts.items())
    return SweepCaution(title, among, "What it says of each", each)
