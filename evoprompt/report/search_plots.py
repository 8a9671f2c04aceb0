"""The plots of the search: convergence with evaluations and seconds, and how far its candidates lie apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evoprompt.report.diversity import Diversity, diversity
from evoprompt.report.drawing import DASHES, PALETTE, new_figure, new_panels
from evoprompt.report.files import ARM_TITLES, Run, csv_bytes
from evoprompt.report.numbers import number
from evoprompt.typing import Doubles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT_TITLES = {"naive": "no prompt", "persona": "persona", "icl": "in-context"}  # for narrow screens
RASTER_FROM = 3000  # evaluations from which the dots are drawn as an image


def draw_convergence(run: Run, narrow: bool) -> Figure:
    """Loss against evaluations, and the best so far against seconds where these are known.

    Every evaluation is a faint dot, the best so far a line, the baselines' searched loss level lines.
    """
    count, loss = _losses(run)
    known, levels = np.isfinite(loss), _levels(run)
    frame = _frame(loss[known], list(levels.values()))
    seconds = _seconds(run)
    timed = seconds is not None and bool(np.isfinite(seconds).any())
    figure, panels = new_panels(narrow, (5.4 if timed else 3.1) if narrow else 3.7, (1.6, 1) if timed else (1,))
    _evaluations(panels[0], count, loss, frame)
    if seconds is not None and timed:
        order = np.argsort(seconds, kind="stable")
        _best(panels[1], seconds[order], loss[order])
        panels[1].set_xlim(0, float(np.nanmax(seconds)) or 1.0)
        panels[1].set_xlabel("seconds of searching")
    titles = SHORT_TITLES if narrow else ARM_TITLES
    labels = [(level, f"{titles[arm]} {number(level)}", PALETTE[arm]) for arm, level in levels.items()]
    if known.any():
        best = float(loss[known].min())
        labels.append((best, f"{'best' if narrow else 'best found'} {number(best)}", PALETTE["evolved"]))
    for axes in panels:
        for arm, level in levels.items():
            axes.axhline(level, color=PALETTE[arm], lw=1.4, ls=DASHES[arm])
        axes.set_ylim(*frame)
        axes.grid(axis="y")
        axes.tick_params(axis="x", pad=7)
        if narrow or axes is panels[-1]:
            _side_labels(axes, labels, frame, gap=0.09 if narrow else 0.062)
    name_axis = figure.supylabel if len(panels) > 1 and narrow else panels[0].set_ylabel
    name_axis("loss on searched wordings", color=PALETTE["muted"], fontsize=9)
    return figure


def _evaluations(axes: Axes, count: Doubles, loss: Doubles, frame: tuple[float, float]) -> None:
    """Every evaluation: a dot, a triangle above the frame, a cross where it failed; and the best so far."""
    (low, high), known = frame, np.isfinite(loss)
    inside = known & (loss <= high)
    dot: dict[str, Any] = {"ls": "none", "mew": 0, "color": PALETTE["evolved"], "rasterized": len(loss) > RASTER_FROM}
    axes.plot(count[inside], loss[inside], marker="o", ms=2.6, alpha=0.38, **dot)
    above = known & ~inside
    if above.any():
        axes.plot(count[above], np.full(above.sum(), high), marker="^", ms=4, alpha=0.45, clip_on=False, **dot)
    if (~known).any():
        bottom = np.full((~known).sum(), low)
        axes.plot(count[~known], bottom, marker="x", ms=4.5, color=PALETTE["ink"], mew=1, ls="none", clip_on=False)
    _best(axes, count, loss)
    axes.set_xlim(0, max(int(count[-1]), 2) if len(count) else 2)
    axes.set_xlabel("evaluations")


def _best(axes: Axes, x: Doubles, loss: Doubles) -> None:
    if np.isfinite(loss).any():
        axes.step(x, np.fmin.accumulate(loss), where="post", color=PALETTE["evolved"], lw=2)


def _seconds(run: Run) -> Doubles | None:
    """Seconds of searching when each result came; None in a history of an older release."""
    if "elapsed" not in run.history:
        return None
    return run.history["elapsed"].to_numpy(dtype=np.float64, na_value=np.nan)


def _levels(run: Run) -> dict[str, float]:
    """The baselines' loss on searched wordings, of those where it could be measured."""
    found = {arm: float(run.measured(arm, "searched")["loss"]) for arm in run.arms if arm != "evolved"}
    return {arm: loss for arm, loss in found.items() if np.isfinite(loss)}


def _losses(run: Run) -> tuple[Doubles, Doubles]:
    """Number of evaluations done, from 1, and loss of each; NaN where it failed."""
    loss = run.history["loss"].to_numpy(dtype=np.float64, na_value=np.nan)
    loss = np.where(run.history["failed"].to_numpy(dtype=bool) | ~np.isfinite(loss), np.nan, loss)
    return np.arange(1, len(loss) + 1, dtype=np.float64), loss


def _frame(losses: Doubles, levels: list[float]) -> tuple[float, float]:
    """Vertical limits that a few early, very bad candidates cannot stretch."""
    known = np.array([*levels, *(np.quantile(losses, [0.0, 0.98]) if len(losses) else [])])
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    pad = max(0.06 * (high - low), 0.01 * abs(high), 1e-6)
    return max(low - pad, 0.0) if low >= 0 else low - pad, high + pad


def _side_labels(axes: Axes, labels: list[tuple[float, str, str]], frame: tuple[float, float], gap: float) -> None:
    """Texts right of the frame at their heights, pushed apart by at least `gap` of the frame's height."""
    low, high = frame
    wanted = sorted(((value - low) / (high - low), text, colour) for value, text, colour in labels)
    heights: list[float] = []
    for height, _, _ in wanted:
        heights.append(max(height, heights[-1] + gap) if heights else height)
    for index in range(len(heights) - 1, -1, -1):
        ceiling = heights[index + 1] - gap if index + 1 < len(heights) else 1.0
        heights[index] = min(heights[index], ceiling)
    for height, (_, text, colour) in zip(heights, wanted, strict=True):
        axes.text(1.015, height, text, color=colour, transform=axes.transAxes, va="center", fontsize=8.5)


def convergence_alt(run: Run) -> str:
    """The plot in words."""
    _, loss = _losses(run)
    finite = loss[np.isfinite(loss)]
    levels = ", ".join(
        f"{ARM_TITLES[arm]} {number(run.measured(arm, 'searched')['loss'])}" for arm in run.arms if arm != "evolved"
    )
    if not len(finite):
        return f"None of {len(loss)} evaluations gave a finite loss. Baselines: {levels}."
    return (
        f"Loss over {len(loss)} evaluations. The first is {number(float(finite[0]))}, "
        f"the best {number(float(finite.min()))}. "
        f"Baselines on searched wordings: {levels}."
    )


def convergence_csv(run: Run) -> bytes:
    """A row per evaluation: loss (empty where failed), the best so far, and seconds of searching where known."""
    count, loss = _losses(run)
    best = np.fmin.accumulate(loss) if len(loss) else loss
    seconds = _seconds(run)
    times = np.full(len(loss), np.nan) if seconds is None else seconds
    rows = ((int(n), *map(float, values)) for n, *values in zip(count, loss, best, times, strict=True))
    return csv_bytes(("evaluations", "loss", "best", "seconds"), rows)


def draw_diversity(run: Run, narrow: bool) -> Figure:
    """The root mean square distance between candidates, relative to that at the start."""
    figure, axes = new_figure(narrow, 2.4)
    found = _found(run)
    dots: dict[str, Any] = {"marker": "o", "ms": 4.5} if len(found.relative) <= 60 else {}
    axes.axhline(1, color=PALETTE["naive"], lw=1.4, ls=DASHES["naive"])
    axes.plot(found.evaluations, found.relative, color=PALETTE["evolved"], lw=2, clip_on=False, zorder=3, **dots)
    axes.set_xlim(0, int(found.evaluations[-1]))
    axes.set_ylim(0, max(1.1, 1.08 * float(found.relative.max())))
    axes.grid(axis="y")
    axes.set_xlabel("evaluations")
    axes.set_ylabel("distance, start = 1")
    return figure


def diversity_alt(run: Run) -> str:
    """The plot in words."""
    relative = _found(run).relative
    return (
        f"Root mean square distance between candidates, relative to the start: {number(float(relative[-1]), 2)} at the "
        f"end, smallest {number(float(relative.min()), 2)}, largest {number(float(relative.max()), 2)}."
    )


def diversity_csv(run: Run) -> bytes:
    """A row per generation, or per window of evaluations where generations do not count."""
    found = _found(run)
    names = found.generation.tolist() if found.generation is not None else [None] * len(found.distance)
    columns = (found.evaluations, found.candidates, found.distance, found.relative)
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return csv_bytes(("generation", "evaluations", "candidates", "rms_distance", "relative"), rows)


def _found(run: Run) -> Diversity:
    found = diversity(run)
    if found is None:
        raise ValueError(f"the history of {run.folder} holds no sketches")
    return found
