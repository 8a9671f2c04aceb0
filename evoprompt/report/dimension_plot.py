"""The plot of the six dimensions: target, arms and their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evoprompt.report.drawing import PALETTE, arm_legend, marker, new_figure
from evoprompt.report.files import Run, csv_bytes
from evoprompt.report.numbers import finite, number
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS
from evoprompt.surveys.instrument import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_dimensions(run: Run, narrow: bool) -> Figure:
    """A band per dimension: the target as an upright bar, under it a lane per arm with its 95 % interval."""
    figure, axes = new_figure(narrow, 6.3 if narrow else 5.4)
    arms, lane = run.arms, 0.15
    for row, name in enumerate(DIMENSIONS):
        top = row - 0.16 if narrow else row - lane * (len(arms) - 1) / 2
        if row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color=PALETTE["muted"], alpha=0.07, lw=0)
        for place, arm in enumerate(arms):
            _dimension_point(axes, run, arm, name, top + lane * place)
        wanted = run.target[name]
        if wanted is not None:
            low, high = top - 0.09, top + lane * (len(arms) - 1) + 0.09
            axes.plot([wanted, wanted], [low, high], color=PALETTE["ink"], lw=3, solid_capstyle="butt", zorder=2)
        if narrow:
            label = DIMENSION_NAMES[name] + ("" if wanted is not None else " (no target)")
            axes.text(0.015, row - 0.33, label, transform=axes.get_yaxis_transform(), va="center", weight="bold")
    titles = [DIMENSION_NAMES[name] + ("" if run.target[name] is not None else "\n(no target)") for name in DIMENSIONS]
    axes.set_yticks(range(len(DIMENSIONS)), [] if narrow else titles, color=PALETTE["ink"])
    axes.set_ylim(len(DIMENSIONS) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("score on held-out wordings")
    arm_legend(figure, arms, narrow)
    return figure


def _dimension_point(axes: Axes, run: Run, arm: str, name: str, y: float) -> None:
    measured = run.measured(arm, "held_out")
    score = measured["dimensions"].get(name)
    if finite(score) is None:
        return
    colour = PALETTE[arm]
    bounds = (measured.get("dimension_intervals") or {}).get(name)
    if bounds and None not in bounds:
        axes.plot(bounds, [y, y], color=colour, lw=1.8, solid_capstyle="round", zorder=3)
    axes.plot([score], [y], **marker(arm), zorder=4)


def dimensions_alt(run: Run) -> str:
    """The plot of the dimensions in words, for those who do not see it."""
    rows = []
    for name in DIMENSIONS:
        before, after = (run.measured(arm, "held_out")["dimensions"].get(name) for arm in ("naive", "evolved"))
        wanted = run.target[name]
        aim = "no target" if wanted is None else f"target {number(wanted, 0)}"
        rows.append(f"{DIMENSION_NAMES[name]}: {aim}, no prompt {number(before, 0)}, evolved {number(after, 0)}")
    return "Scores on held-out wordings. " + "; ".join(rows) + "."


def dimensions_csv(run: Run) -> bytes:
    """A row per split, arm and dimension."""
    rows = []
    for split in SPLITS:
        for arm in run.arms:
            measured = run.measured(arm, split)
            for name in DIMENSIONS:
                low, high = (measured.get("dimension_intervals") or {}).get(name) or (None, None)
                rows.append((split, arm, name, measured["dimensions"].get(name), low, high, run.target[name]))
    return csv_bytes(("split", "arm", "dimension", "score", "low", "high", "target"), rows)
