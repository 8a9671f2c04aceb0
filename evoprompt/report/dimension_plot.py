"""The plot of the six dimensions: target, arms and their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evoprompt.report.drawing import PALETTE, Plot, arm_legend, bands, finished, marker, new_figure
from evoprompt.report.files import Run, csv_bytes
from evoprompt.report.numbers import finite, number
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANE = 0.15


def dimensions_plot(run: Run) -> Plot:
    """Draw them, on held-out wordings."""
    return finished("dimensions", run, dimensions_alt, dimensions_csv, draw_dimensions)


def draw_dimensions(run: Run, narrow: bool) -> Figure:
    """A band per dimension: the target as an upright bar, under it a lane per arm with its 95 % interval."""
    figure, axes = new_figure(narrow, 6.3 if narrow else 5.4)
    arms, targets = run.arms, run.metrics["target"]
    lacking = " (no target)" if narrow else "\n(no target)"
    titles = [DIMENSION_NAMES[name] + (lacking if targets[name] is None else "") for name in DIMENSIONS]
    for top, name in zip(bands(axes, titles, narrow, len(arms), LANE), DIMENSIONS, strict=True):
        for place, arm in enumerate(arms):
            score, *bounds = _scores(run.measured(arm, "held_out"), name)
            if finite(score) is None:
                continue
            y = top + LANE * place
            if None not in bounds:
                axes.plot(bounds, [y, y], color=PALETTE[arm], lw=1.8, solid_capstyle="round", zorder=3)
            axes.plot([score], [y], **marker(arm), zorder=4)
        if targets[name] is not None:
            wanted, heights = [targets[name]] * 2, [top - 0.09, top + LANE * (len(arms) - 1) + 0.09]
            axes.plot(wanted, heights, color=PALETTE["ink"], lw=3, solid_capstyle="butt", zorder=2)
    axes.set_xlabel("score on held-out wordings")
    arm_legend(figure, arms, narrow)
    return figure


def _scores(measured: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    """Score of a dimension and its two bounds, None where they are not known."""
    bounds = (measured.get("dimension_intervals") or {}).get(name) or (None, None)
    return measured["dimensions"].get(name), *bounds


def dimensions_alt(run: Run) -> str:
    """The plot of the dimensions in words, for those who do not see it."""
    rows = []
    for name in DIMENSIONS:
        before, after = (run.measured(arm, "held_out")["dimensions"].get(name) for arm in ("naive", "evolved"))
        wanted = run.metrics["target"][name]
        aim = "no target" if wanted is None else f"target {number(wanted, 0)}"
        rows.append(f"{DIMENSION_NAMES[name]}: {aim}, no prompt {number(before, 0)}, evolved {number(after, 0)}")
    return "Scores on held-out wordings. " + "; ".join(rows) + "."


def dimensions_csv(run: Run) -> bytes:
    """A row per split, arm and dimension."""
    targets = run.metrics["target"]
    rows = [
        (split, arm, name, *_scores(measured, name), targets[name])
        for split, arm, measured in run.measurements
        for name in DIMENSIONS
    ]
    return csv_bytes(("split", "arm", "dimension", "score", "low", "high", "target"), rows)
