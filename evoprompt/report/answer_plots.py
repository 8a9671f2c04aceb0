"""The plots of the answers: their means and their distributions, before and after, and what carried over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprompt.report.answers import COMPARED, answer_shares, carried, carried_words, mean_answers, shifts
from evoprompt.report.drawing import PALETTE, arm_legend, diagonal, marker, new_figure
from evoprompt.report.files import Run, csv_bytes
from evoprompt.report.items import ITEM_LABELS
from evoprompt.report.numbers import number
from evoprompt.surveys import vsm13
from evoprompt.surveys.instrument import SPLITS
from evoprompt.typing import Doubles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANSWERS = range(1, 6)
NAMED = 4  # items of a scatter plot that are named, the largest shifts
NAMES_APART = 0.06  # of the plot's height


def draw_answers(run: Run, narrow: bool) -> Figure:
    """A dumbbell per item, from the mean answer without a prompt to that under the evolved one, grouped by scale."""
    figure, axes = new_figure(narrow, 7.6 if narrow else 7.0)
    before, after = mean_answers(run, "naive"), mean_answers(run, "evolved")
    y, ticks, names = 0.0, [], []
    for index, words in grouped():
        if words is not None:
            y += 0.35 if y else 0.0
            first, last = words
            for at, word in ((5.0, f"{first} … {last}"),) if narrow else ((1.0, first), (5.0, last)):
                side = "left" if at == 1.0 else "right"
                axes.text(at, y, word, ha=side, va="center", fontsize=7.5, color=PALETTE["muted"], style="italic")
            y += 1
        axes.plot([1, 5], [y, y], color=PALETTE["grid"], lw=0.7, zorder=1)
        axes.plot([before[index], after[index]], [y, y], color=PALETTE["evolved"], lw=2, alpha=0.55, zorder=2)
        for arm, mean in (("naive", before), ("evolved", after)):
            axes.plot([mean[index]], [y], **{**marker(arm), "ms": 5}, zorder=3)
        change = after[index] - before[index]
        text = "0.00" if abs(change) < 0.005 else f"{'+' if change > 0 else ''}{number(float(change), 2)}"
        axes.text(5.12, y, text, va="center", fontsize=8, color=PALETTE["muted"])
        ticks.append(y)
        names.append(f"{ITEM_LABELS[index]}  {index + 1}")
        y += 1
    axes.set_yticks(ticks, names, color=PALETTE["ink"], fontsize=7.5 if narrow else 9)
    axes.set_ylim(y - 0.3, -0.7)
    axes.set_xlim(0.9, 5.1)
    axes.set_xticks(range(1, 6))
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlabel("mean answer on held-out wordings")
    arm_legend(figure, ["naive", "evolved"], narrow, target=False)
    return figure


def answers_alt(run: Run) -> str:
    """The plot in words: the largest shifts."""
    shift = shifts(run, "held_out")
    largest = np.argsort(-np.abs(shift), kind="stable")[: min(3, np.isfinite(shift).sum())]
    moved = "; ".join(f"item {i + 1}, {ITEM_LABELS[i]}: {number(float(shift[i]), 2)}" for i in largest)
    return (
        f"Mean answers to the 24 items, without and with the evolved prompt. Mean absolute shift "
        f"{number(mean_size(shift), 2)} steps. Largest shifts: {moved}."
    )


def mean_size(shift: Doubles) -> float | None:
    """Mean absolute shift of the items that were answered under both arms."""
    known = shift[np.isfinite(shift)]
    return float(np.abs(known).mean()) if len(known) else None


def answers_csv(run: Run) -> bytes:
    """A row per split, arm and item: the mean answer and the share of each of the five answers."""
    rows = []
    for split in SPLITS:
        for arm in run.arms:
            stored = run.measured(arm, split).get("answers")
            if not stored or len(stored) != len(ITEM_LABELS):
                continue
            means = mean_answers(run, arm, split)
            for index, shares in enumerate(stored):
                rows.append((split, arm, index + 1, ITEM_LABELS[index], float(means[index]), *shares))
    shares_of = (f"share_{answer}" for answer in range(1, 6))
    return csv_bytes(("split", "arm", "item", "label", "mean", *shares_of), rows)


def grouped() -> Iterator[tuple[int, tuple[str, str] | None]]:
    """The 0-based items in order, the first of each scale with the words of its two ends."""
    instrument, scale = vsm13(), ""
    for index, item in enumerate(instrument.items):
        options = instrument.scales[item.scale]
        yield index, (f"1 {options[0]}", f"5 {options[-1]}") if item.scale != scale else None
        scale = item.scale


def draw_distributions(run: Run, narrow: bool) -> Figure:
    """Two bars an item, before above after: the shares of the five answers, in steps of light to dark."""
    from matplotlib.patches import Patch

    figure, axes = new_figure(narrow, 12.5 if narrow else 9.0)
    shares = [answer_shares(run, arm) for arm in COMPARED]
    step, y, ticks, names = 1.6 if narrow else 1.0, 0.0, [], []
    for index, words in grouped():
        if words is not None:
            y += 0.35 if y else 0.0
            text = " … ".join(words)
            axes.text(1, y, text, ha="right", va="center", fontsize=7.5, color=PALETTE["muted"], style="italic")
            y += step if narrow else 0.85
        for place, arm in enumerate(COMPARED):
            _shares_bar(axes, arm, shares[place][index], y - 0.19 + 0.38 * place, -0.03 if narrow else -0.012)
        ticks.append(y)
        names.append(f"{ITEM_LABELS[index]}  {index + 1}")
        if narrow:
            axes.text(0, y - 0.65, f"{index + 1}  {ITEM_LABELS[index]}", va="center", fontsize=8)
        y += step
    axes.set_yticks(ticks, [] if narrow else names, color=PALETTE["ink"])
    axes.tick_params(axis="y", pad=9)
    axes.set_ylim(y - step + 0.7, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0%", "25%", "50%", "75%", "100%"])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlabel("share of the answers on held-out wordings")
    arm_legend(figure, COMPARED, narrow, target=False)
    steps = [Patch(color=PALETTE[f"answer{answer}"], label=f"{answer}") for answer in ANSWERS]
    steps[0].set_label("answer 1")
    style: dict[str, Any] = {"ncols": 5, "handlelength": 1.1, "handletextpad": 0.35, "columnspacing": 0.9}
    figure.legend(handles=steps, loc="outside lower left" if narrow else "outside upper right", **style)
    return figure


def _shares_bar(axes: Axes, arm: str, shares: Doubles, y: float, mark: float) -> None:
    """The five answers' shares (5,) at a height, with the arm's mark left of them; nothing where they are NaN."""
    known = np.nan_to_num(shares)
    left = np.concatenate([[0.0], np.cumsum(known)[:-1]])
    colours = [PALETTE[f"answer{answer}"] for answer in ANSWERS]
    axes.barh([y] * len(known), known, 0.34, left=left, color=colours, edgecolor=PALETTE["paper"], linewidth=0.6)
    axes.plot([mark], [y], **{**marker(arm), "ms": 3.6}, clip_on=False)


def distributions_alt(run: Run) -> str:
    """The plot in words: where most of the answers changed."""
    before, after = (answer_shares(run, arm) for arm in COMPARED)
    moved = np.abs(after - before).sum(axis=1) / 2
    largest = np.argsort(-moved, kind="stable")[: min(3, int(np.isfinite(moved).sum()))]
    items = "; ".join(f"item {i + 1}, {ITEM_LABELS[i]}: {moved[i]:.0%}" for i in largest)
    return f"Shares of the five answers to the 24 items, before and after. Share of the answers that moved: {items}."


def distributions_csv(run: Run) -> bytes:
    """A row per split, item and answer: its share before and after, and the change."""
    rows = []
    for split in SPLITS:
        before, after = (answer_shares(run, arm, split) for arm in COMPARED)
        for index, label in enumerate(ITEM_LABELS):
            for answer in ANSWERS:
                old, new = float(before[index, answer - 1]), float(after[index, answer - 1])
                rows.append((split, index + 1, label, answer, old, new, new - old))
    return csv_bytes(("split", "item", "label", "answer", "before", "after", "change"), rows)


def draw_carry(run: Run, narrow: bool) -> Figure:
    """A dot an item: the shift on searched wordings and on held-out ones, with the diagonal and the fitted line."""
    figure, axes = new_figure(narrow, 3.7 if narrow else 4.6)
    searched, held_out = (shifts(run, split) for split in ("searched", "held_out"))
    known = np.flatnonzero(np.isfinite(searched) & np.isfinite(held_out))
    diagonal(axes, searched[known].tolist(), held_out[known].tolist(), "alike", least=0.05)
    line = carried(run)
    if line is not None:
        ends = np.array([searched[known].min(), searched[known].max()])
        axes.plot(ends, line.intercept + line.slope * ends, color=PALETTE["evolved"], lw=1.6, alpha=0.6, zorder=3)
    axes.plot(searched[known], held_out[known], **marker("evolved"), zorder=4)
    apart = NAMES_APART * float(np.ptp(axes.get_ylim()))
    named: list[int] = []
    for index in known[np.argsort(-np.abs(searched[known]), kind="stable")].tolist():
        if len(named) < NAMED and all(abs(held_out[index] - held_out[other]) > apart for other in named):
            named.append(index)
    for index in named:
        right = searched[index] < np.mean(axes.get_xlim())
        axes.annotate(
            str(index + 1) if narrow else f"{index + 1} {ITEM_LABELS[index]}",
            (searched[index], held_out[index]),
            (9 if right else -9, 0),
            textcoords="offset points",
            ha="left" if right else "right",
            va="center",
            fontsize=8,
            color=PALETTE["ink"],
        )
    axes.set_xlabel("shift on searched wordings")
    axes.set_ylabel("shift on held-out wordings")
    return figure


def carry_alt(run: Run) -> str:
    """The plot of what carried over in words, for those who do not see it."""
    return f"Shift of each item's mean answer on searched and on held-out wordings. {carried_words(carried(run))}"


def carry_csv(run: Run) -> bytes:
    """A row per item: the shift of its mean answer on searched and on held-out wordings."""
    both = (shifts(run, split).tolist() for split in ("searched", "held_out"))
    rows = ((index + 1, label, *pair) for index, (label, *pair) in enumerate(zip(ITEM_LABELS, *both, strict=True)))
    return csv_bytes(("item", "label", "searched", "held_out"), rows)
