"""The plots of the search: convergence with evaluations and seconds, and how far its candidates lie apart.

How far is estimated from the sketches that a run's history holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprompt.report.drawing import DASHES, PALETTE, Plot, finished, new_figure, new_panels
from evoprompt.report.files import ARM_TITLES, Run, csv_bytes
from evoprompt.report.numbers import number
from evoprompt.study.journal import SKETCH
from evoprompt.typing import Doubles, Indices

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT_TITLES = {"naive": "no prompt", "persona": "persona", "icl": "in-context"}  # for narrow screens
RASTER_FROM = 3000  # evaluations from which the dots are drawn as an image
WINDOW_SHARE = 10  # a window of a search without generations is this part of its evaluations
STEPS = 4  # so many windows begin within one window's length


def search_plots(run: Run) -> list[Plot]:
    """Draw everything that the history tells; that of an older release holds no sketches."""
    plots = [finished("convergence", run, convergence_alt, convergence_csv, draw_convergence)]
    if (found := diversity(run)) is not None:
        plots.append(finished("diversity", found, diversity_alt, diversity_csv, draw_diversity))
    return plots


def draw_convergence(run: Run, narrow: bool) -> Figure:
    """Loss against evaluations, and the best so far against seconds where these are known.

    Every evaluation is a faint dot, the best so far a line, the baselines' searched loss level lines.
    """
    count, loss, seconds = _course(run)
    known, levels = np.isfinite(loss), _levels(run)
    frame = _frame(loss[known], list(levels.values()))
    timed = bool(np.isfinite(seconds).any())
    figure, panels = new_panels(narrow, (5.4 if timed else 3.1) if narrow else 3.7, (1.6, 1) if timed else (1,))
    _evaluations(panels[0], count, loss, frame)
    if timed:
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


def _levels(run: Run) -> dict[str, float]:
    """The baselines' loss on searched wordings, of those where it could be measured."""
    found = {arm: float(run.measured(arm, "searched")["loss"]) for arm in run.arms if arm != "evolved"}
    return {arm: loss for arm, loss in found.items() if np.isfinite(loss)}


def _course(run: Run) -> tuple[Doubles, Doubles, Doubles]:
    """Evaluations done, loss of each (NaN if it failed), seconds of searching (NaN in an older release's history)."""
    found = run.history.reindex(columns=["loss", "elapsed"]).to_numpy(dtype=np.float64, na_value=np.nan)
    failed = run.history["failed"].to_numpy(dtype=bool) | ~np.isfinite(found[:, 0])
    return np.arange(1, len(found) + 1, dtype=np.float64), np.where(failed, np.nan, found[:, 0]), found[:, 1]


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
    steps = gap * np.arange(len(wanted))
    pushed_up = np.maximum.accumulate(np.array([height for height, _, _ in wanted]) - steps)
    heights = np.minimum(pushed_up, 1 - gap * (len(wanted) - 1)) + steps
    for height, (_, text, colour) in zip(heights.tolist(), wanted, strict=True):
        axes.text(1.015, height, text, color=colour, transform=axes.transAxes, va="center", fontsize=8.5)


def convergence_alt(run: Run) -> str:
    """The plot in words."""
    _, loss, _ = _course(run)
    finite = loss[np.isfinite(loss)]
    baselines = [arm for arm in run.arms if arm != "evolved"]
    levels = ", ".join(f"{ARM_TITLES[arm]} {number(run.measured(arm, 'searched')['loss'])}" for arm in baselines)
    if not len(finite):
        return f"None of {len(loss)} evaluations gave a finite loss. Baselines: {levels}."
    return (
        f"Loss over {len(loss)} evaluations. The first is {number(finite[0])}, the best {number(finite.min())}. "
        f"Baselines on searched wordings: {levels}."
    )


def convergence_csv(run: Run) -> bytes:
    """A row per evaluation: loss (empty where failed), the best so far, and seconds of searching where known."""
    count, loss, seconds = _course(run)
    rows = zip(count.astype(int), loss, np.fmin.accumulate(loss), seconds, strict=True)
    return csv_bytes(("evaluations", "loss", "best", "seconds"), rows)


@dataclass(frozen=True)
class Diversity:
    """Root mean square distance between candidates, by generation or by window of evaluations; all of shape (k,)."""

    generation: Indices | None
    evaluations: Indices  # done at the end of each
    candidates: Indices
    distance: Doubles

    @property
    def relative(self) -> Doubles:
        """Diversity relative to that of the first generation."""
        return self.distance / self.distance[0]


def diversity(run: Run) -> Diversity | None:
    """The distances; None where the history holds no sketches, or too few candidates to compare.

    Of a search without generations a window of candidates is taken every quarter of its length.
    """
    frame = run.history
    if not {*SKETCH, "generation"} <= set(frame.columns):
        return None
    sketches = frame[list(SKETCH)].to_numpy(dtype=np.float64)
    generations = frame["generation"].to_numpy(dtype=np.int64)
    every, sizes = np.unique(generations, return_counts=True)
    names: Indices | None = every[sizes >= 2]
    if run.settings.get("loop") == "steady" or sum(sizes >= 2) < 2:
        window = max(int(sizes[0]) if len(sizes) > 1 else len(sketches) // WINDOW_SHARE, 2)
        names, ends = None, np.arange(window, len(sketches) + 1, max(window // STEPS, 1))
        groups = [np.arange(end - window, end) for end in ends]
    else:
        groups = [np.flatnonzero(generations == name) for name in every[sizes >= 2]]
        ends = np.array([group[-1] + 1 for group in groups])
    distance = np.array([spread(sketches[group]) for group in groups])
    found = Diversity(names, ends, np.array([len(group) for group in groups]), distance)
    return found if len(distance) >= 2 and distance[0] > 0 else None


def spread(points: Doubles) -> float:
    """Root mean square distance between the pairs of points (n, k).

    >>> round(spread(np.array([[0.0, 0.0], [3.0, 4.0]])), 9)
    5.0
    """
    return float(np.sqrt(2 * points.var(axis=0, ddof=1).sum()))


def draw_diversity(found: Diversity, narrow: bool) -> Figure:
    """The root mean square distance between candidates, relative to that at the start."""
    figure, axes = new_figure(narrow, 2.4)
    dots: dict[str, Any] = {"marker": "o", "ms": 4.5} if len(found.relative) <= 60 else {}
    axes.axhline(1, color=PALETTE["naive"], lw=1.4, ls=DASHES["naive"])
    axes.plot(found.evaluations, found.relative, color=PALETTE["evolved"], lw=2, clip_on=False, zorder=3, **dots)
    axes.set_xlim(0, int(found.evaluations[-1]))
    axes.set_ylim(0, max(1.1, 1.08 * float(found.relative.max())))
    axes.grid(axis="y")
    axes.set_xlabel("evaluations")
    axes.set_ylabel("distance, start = 1")
    return figure


def diversity_alt(found: Diversity) -> str:
    """The plot in words."""
    last, least, most = (number(value, 2) for value in (found.relative[-1], found.relative.min(), found.relative.max()))
    return (
        f"Root mean square distance between candidates, relative to the start: {last} at the end, smallest {least}, "
        f"largest {most}."
    )


def diversity_csv(found: Diversity) -> bytes:
    """A row per generation, or per window of evaluations where generations do not count."""
    names = [None] * len(found.distance) if found.generation is None else found.generation
    rows = zip(names, found.evaluations, found.candidates, found.distance, found.relative, strict=True)
    return csv_bytes(("generation", "evaluations", "candidates", "rms_distance", "relative"), rows)
