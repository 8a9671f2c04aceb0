"""The answers under each arm, item by item, how much of a change carried over to new wordings, and their plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprompt.report.drawing import PALETTE, Plot, arm_legend, diagonal, finished, marker, new_figure
from evoprompt.report.files import Run, csv_bytes
from evoprompt.report.numbers import number
from evoprompt.surveys import DIMENSIONS, vsm13
from evoprompt.surveys.instrument import SPLITS
from evoprompt.surveys.vsm13 import WEIGHTS
from evoprompt.typing import Doubles, Indices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMPARED = ("naive", "evolved")
STILL = 0.02  # steps of the scale: root mean square shift below which there is nothing to carry over
ITEM_LABELS = (
    "time for private life",
    "a boss to respect",
    "recognition for good work",
    "job security",
    "pleasant colleagues",
    "interesting work",
    "being consulted by the boss",
    "a desirable place to live",
    "a job family and friends respect",
    "chances of promotion",
    "time free for fun",
    "moderation, few desires",
    "doing a friend a service",
    "thrift",
    "feeling nervous or tense",
    "being a happy person",
    "held back by others",
    "own state of health",
    "pride in one's country",
    "staff afraid to contradict",
    "manager need not know all",
    "effort is the way to results",
    "avoid having two bosses",
    "never break the rules",
)
"""What the items are about, where a whole wording has no room."""
ANSWERS = range(1, 6)
NAMES = [f"{label}  {item}" for item, label in enumerate(ITEM_LABELS, 1)]
SCALE: Any = {"va": "center", "fontsize": 7.5, "color": PALETTE["muted"], "style": "italic"}  # how its words look
NAMED = 4  # items of a scatter plot that are named, the largest shifts
NAMES_APART = 0.06  # of the plot's height


def feeds(item: int) -> str:
    """The dimension that a 0-based item counts for, and the sign of a higher answer.

    >>> feeds(6)
    '+PDI'
    """
    (dimension,) = np.flatnonzero(WEIGHTS[:, item])
    return f"{'+' if WEIGHTS[dimension, item] > 0 else '−'}{DIMENSIONS[dimension].upper()}"


def has_answers(run: Run) -> bool:
    """Whether answer distributions of all items were stored for the two arms that the plots compare."""
    return all(answered(found) for _, arm, found in run.measurements if arm in COMPARED)


def answered(measured: Mapping[str, Any]) -> bool:
    """Whether the answers of an arm on a split were stored, to all items."""
    return len(measured.get("answers") or ()) == len(ITEM_LABELS)


def answer_shares(run: Run, arm: str, split: str = "held_out") -> Doubles:
    """Share of each of the five answers to each item, shape (24, 5); NaN where an item got no valid answer."""
    return np.array(run.measured(arm, split)["answers"], dtype=np.float64)


def mean_answers(run: Run, arm: str, split: str = "held_out") -> Doubles:
    """Mean answer of each item, 1..5, shape (24,)."""
    shares = answer_shares(run, arm, split)
    return shares @ np.arange(1, shares.shape[1] + 1)


def shifts(run: Run, split: str) -> Doubles:
    """By how much the evolved prompt moved each item's mean answer, in steps of the scale, shape (24,)."""
    return mean_answers(run, "evolved", split) - mean_answers(run, "naive", split)


@dataclass(frozen=True)
class Carried:
    """The least-squares line of held-out shifts over searched ones: its slope, and the correlation of the two."""

    slope: float
    intercept: float
    correlation: float


def carried(run: Run) -> Carried | None:
    """How held-out shifts follow the searched ones; None where too few items moved to say."""
    from scipy.stats import linregress

    searched, held_out = (shifts(run, split) for split in SPLITS)
    known = np.isfinite(searched) & np.isfinite(held_out)
    x, y = searched[known], held_out[known]
    if len(x) < 3 or np.sqrt(np.mean(x**2)) < STILL or np.ptp(x) < STILL or np.ptp(y) < 1e-9:
        return None
    found = linregress(x, y)
    return Carried(float(found.slope), float(found.intercept), float(found.rvalue))


def carried_words(found: Carried | None) -> str:
    """What carried over, as a sentence."""
    if found is None:
        return "Too few answers moved on the searched wordings to say how much carries over."
    figures = f"(slope {number(found.slope, 2)}, correlation {number(found.correlation, 2)} over the items)"
    if found.slope < 0.1 or found.correlation < 0.3:
        return f"The shifts did not carry over to new wordings {figures}."
    size = f"Shifts on held-out wordings were {found.slope:.0%} as large as on the searched ones"
    return f"{size}, {'in the same items' if found.correlation >= 0.8 else 'but not item by item'} {figures}."


def answer_plots(run: Run) -> list[Plot]:
    """Draw all of a run that has the answers to all items."""
    return [
        finished("answers", run, answers_alt, answers_csv, draw_answers),
        finished("distributions", run, distributions_alt, distributions_csv, draw_distributions),
        finished("carry", run, carry_alt, carry_csv, draw_carry),
    ]


def draw_answers(run: Run, narrow: bool) -> Figure:
    """A dumbbell per item, from the mean answer without a prompt to that under the evolved one, grouped by scale."""
    figure, axes = new_figure(narrow, 7.6 if narrow else 7.0)
    means, heights = [mean_answers(run, arm) for arm in COMPARED], []
    for index, y, ends in placed(step=1.0, room=1.0):
        if ends and narrow:
            axes.text(5, y - 1, " … ".join(ends), ha="right", **SCALE)
        elif ends:
            axes.text(1, y - 1, ends[0], ha="left", **SCALE)
            axes.text(5, y - 1, ends[1], ha="right", **SCALE)
        before, after = (float(mean[index]) for mean in means)
        axes.plot([1, 5], [y, y], color=PALETTE["grid"], lw=0.7, zorder=1)
        axes.plot([before, after], [y, y], color=PALETTE["evolved"], lw=2, alpha=0.55, zorder=2)
        for arm, mean in zip(COMPARED, (before, after), strict=True):
            axes.plot([mean], [y], **{**marker(arm), "ms": 5}, zorder=3)
        change = after - before
        text = "0.00" if abs(change) < 0.005 else f"{'+' if change > 0 else ''}{number(change, 2)}"
        axes.text(5.12, y, text, va="center", fontsize=8, color=PALETTE["muted"])
        heights.append(y)
    axes.set_yticks(heights, NAMES, color=PALETTE["ink"], fontsize=7.5 if narrow else 9)
    axes.set_ylim(heights[-1] + 0.7, -0.7)
    axes.set_xlim(0.9, 5.1)
    axes.set_xticks(ANSWERS)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlabel("mean answer on held-out wordings")
    arm_legend(figure, COMPARED, narrow, target=False)
    return figure


def answers_alt(run: Run) -> str:
    """The plot in words: the largest shifts."""
    shift = shifts(run, "held_out")
    ranked = _ranked(shift)
    moved = "; ".join(f"item {i + 1}, {ITEM_LABELS[i]}: {number(shift[i], 2)}" for i in ranked[:3])
    mean = np.abs(shift[ranked]).mean() if len(ranked) else None
    return (
        f"Mean answers to the 24 items, without and with the evolved prompt. Mean absolute shift {number(mean, 2)} "
        f"steps. Largest shifts: {moved}."
    )


def _ranked(change: Doubles) -> Indices:
    """The items whose change is known, the largest first."""
    order = np.argsort(-np.abs(change), kind="stable")
    return order[np.isfinite(change[order])]


def answers_csv(run: Run) -> bytes:
    """A row per split, arm and item: the mean answer and the share of each of the five answers."""
    rows: list[tuple[Any, ...]] = []
    for split, arm, measured in run.measurements:
        if answered(measured):
            columns = (ITEM_LABELS, mean_answers(run, arm, split), measured["answers"])
            items = enumerate(zip(*columns, strict=True), 1)
            rows += [(split, arm, item, label, mean, *shares) for item, (label, mean, shares) in items]
    return csv_bytes(("split", "arm", "item", "label", "mean", *(f"share_{answer}" for answer in ANSWERS)), rows)


def placed(step: float, room: float) -> Iterator[tuple[int, float, tuple[str, ...]]]:
    """The 0-based items, their heights, and before each scale's first, which has more room, the words of its ends."""
    instrument, scale, y = vsm13(), "", 0.0
    for index, item in enumerate(instrument.items):
        ends: tuple[str, ...] = ()
        if item.scale != scale:
            scale, options = item.scale, instrument.scales[item.scale]
            ends = (f"1 {options[0]}", f"5 {options[-1]}")
            y += room + (0.35 if y else 0.0)
        yield index, y, ends
        y += step


def draw_distributions(run: Run, narrow: bool) -> Figure:
    """Two bars an item, before above after: the shares of the five answers, in steps of light to dark."""
    from matplotlib.patches import Patch

    figure, axes = new_figure(narrow, 12.5 if narrow else 9.0)
    shares, heights = [answer_shares(run, arm) for arm in COMPARED], []
    step, room = (1.6, 1.6) if narrow else (1.0, 0.85)
    for index, y, ends in placed(step, room):
        if ends:
            axes.text(1, y - room, " … ".join(ends), ha="right", **SCALE)
        for place, arm in enumerate(COMPARED):
            _shares_bar(axes, arm, shares[place][index], y - 0.19 + 0.38 * place, -0.03 if narrow else -0.012)
        if narrow:
            axes.text(0, y - 0.65, f"{index + 1}  {ITEM_LABELS[index]}", va="center", fontsize=8)
        heights.append(y)
    axes.set_yticks(heights, [] if narrow else NAMES, color=PALETTE["ink"])
    axes.tick_params(axis="y", pad=9)
    axes.set_ylim(heights[-1] + 0.7, -0.6)
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
    colours = [PALETTE[f"answer{answer}"] for answer in ANSWERS]
    bar: dict[str, Any] = {"color": colours, "edgecolor": PALETTE["paper"], "linewidth": 0.6}
    axes.barh([y] * len(known), known, 0.34, left=np.cumsum(known) - known, **bar)
    axes.plot([mark], [y], **{**marker(arm), "ms": 3.6}, clip_on=False)


def distributions_alt(run: Run) -> str:
    """The plot in words: where most of the answers changed."""
    before, after = (answer_shares(run, arm) for arm in COMPARED)
    moved = np.abs(after - before).sum(axis=1) / 2
    items = "; ".join(f"item {i + 1}, {ITEM_LABELS[i]}: {moved[i]:.0%}" for i in _ranked(moved)[:3])
    return f"Shares of the five answers to the 24 items, before and after. Share of the answers that moved: {items}."


def distributions_csv(run: Run) -> bytes:
    """A row per split, item and answer: its share before and after, and the change."""
    rows = []
    for split in SPLITS:
        before, after = (answer_shares(run, arm, split) for arm in COMPARED)
        for at in np.ndindex(before.shape):
            item, answer = at
            rows.append((split, item + 1, ITEM_LABELS[item], answer + 1, before[at], after[at], after[at] - before[at]))
    return csv_bytes(("split", "item", "label", "answer", "before", "after", "change"), rows)


def draw_carry(run: Run, narrow: bool) -> Figure:
    """A dot an item: the shift on searched wordings and on held-out ones, with the diagonal and the fitted line."""
    figure, axes = new_figure(narrow, 3.7 if narrow else 4.6)
    searched, held_out = (shifts(run, split) for split in SPLITS)
    known = [item for item in _ranked(searched).tolist() if np.isfinite(held_out[item])]
    x, y = searched[sorted(known)], held_out[sorted(known)]
    diagonal(axes, x.tolist(), y.tolist(), "alike", least=0.05)
    line = carried(run)
    if line is not None:
        ends = np.array([x.min(), x.max()])
        axes.plot(ends, line.intercept + line.slope * ends, color=PALETTE["evolved"], lw=1.6, alpha=0.6, zorder=3)
    axes.plot(x, y, **marker("evolved"), zorder=4)
    apart = NAMES_APART * float(np.ptp(axes.get_ylim()))
    named: list[int] = []
    for index in known:
        if len(named) < NAMED and all(abs(held_out[index] - held_out[other]) > apart for other in named):
            named.append(index)
    for index in named:
        left = searched[index] >= np.mean(axes.get_xlim())
        name = f"{index + 1}" if narrow else f"{index + 1} {ITEM_LABELS[index]}"
        where: dict[str, Any] = {"xytext": (-9 if left else 9, 0), "textcoords": "offset points"}
        side: dict[str, Any] = {"ha": "right" if left else "left", "va": "center"}
        axes.annotate(name, (searched[index], held_out[index]), **where, **side, fontsize=8)
    axes.set_xlabel("shift on searched wordings")
    axes.set_ylabel("shift on held-out wordings")
    return figure


def carry_alt(run: Run) -> str:
    """The plot of what carried over in words, for those who do not see it."""
    return f"Shift of each item's mean answer on searched and on held-out wordings. {carried_words(carried(run))}"


def carry_csv(run: Run) -> bytes:
    """A row per item: the shift of its mean answer on searched and on held-out wordings."""
    both = (shifts(run, split) for split in SPLITS)
    rows = zip(range(1, 25), ITEM_LABELS, *both, strict=True)
    return csv_bytes(("item", "label", "searched", "held_out"), rows)
