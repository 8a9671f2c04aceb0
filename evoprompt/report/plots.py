"""The three plots of a report: dimensions, convergence, answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.report.drawing import (
    DASHES,
    MARKERS,
    PALETTE,
    Plot,
    inline_svg,
    new_figure,
    png,
    standalone_svg,
    style,
)
from evoprompt.report.files import ARM_TITLES, Run, csv_bytes
from evoprompt.report.items import ITEM_LABELS
from evoprompt.report.numbers import finite, number
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS, vsm13
from evoprompt.surveys.instrument import SPLITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
SHORT_TITLES = {"naive": "no prompt", "persona": "persona", "icl": "in-context"}  # for narrow screens
RASTER_FROM = 3000  # evaluations from which the dots are drawn as an image


def all_plots(run: Run) -> list[Plot]:
    """Draw everything, in the order of the report; a run without answer distributions has no answers plot."""
    plots = [
        _plot("dimensions", dimensions_alt(run), dimensions_csv(run), lambda narrow: draw_dimensions(run, narrow)),
        _plot("convergence", convergence_alt(run), convergence_csv(run), lambda narrow: draw_convergence(run, narrow)),
    ]
    if has_answers(run):
        plots.append(_plot("answers", answers_alt(run), answers_csv(run), lambda narrow: draw_answers(run, narrow)))
    return plots


def _plot(name: str, alt: str, csv: bytes, draw: Callable[[bool], Figure]) -> Plot:
    with style():
        wide, narrow = draw(False), draw(True)
        return Plot(
            name=name,
            alt=alt,
            png=png(wide),
            svg=standalone_svg(wide, name),
            csv=csv,
            wide=inline_svg(wide, f"{name}-wide", alt),
            narrow=inline_svg(narrow, f"{name}-narrow", alt),
        )


# Dimensions


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
    _arm_legend(figure, arms, narrow)
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
    axes.plot([score], [y], **_marker(arm), zorder=4)


def _marker(arm: str) -> dict[str, Any]:
    size = {"evolved": 6.5, "icl": 6.5}.get(arm, 5.5)
    fill = PALETTE["paper"] if arm == "naive" else PALETTE[arm]
    edge = PALETTE[arm] if arm == "naive" else PALETTE["paper"]
    width = 1.5 if arm == "naive" else 0.6
    return {"marker": MARKERS[arm], "ms": size, "mfc": fill, "mec": edge, "mew": width, "ls": "none"}


def _arm_legend(figure: Figure, arms: list[str], narrow: bool, target: bool = True) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=ARM_TITLES[arm], **_marker(arm)) for arm in arms]
    if target:
        handles.insert(0, Line2D([], [], color=PALETTE["ink"], marker="|", ms=11, mew=3, ls="none", label="target"))
    columns = 2 if narrow else len(handles)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.3, columnspacing=1.3)


def dimensions_alt(run: Run) -> str:
    """The plot in words."""
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


# Convergence


def draw_convergence(run: Run, narrow: bool) -> Figure:
    """Every evaluation as a faint dot, the best so far as a line, the baselines' searched loss as level lines."""
    figure, axes = new_figure(narrow, 3.1 if narrow else 3.7)
    count, loss = _losses(run)
    finite = np.isfinite(loss)
    levels = _levels(run)
    titles = SHORT_TITLES if narrow else ARM_TITLES
    low, high = _frame(loss[finite], list(levels.values()))
    inside, blue = finite & (loss <= high), PALETTE["evolved"]
    dot: dict[str, Any] = {"ls": "none", "mew": 0, "color": blue, "rasterized": len(loss) > RASTER_FROM}
    axes.plot(count[inside], loss[inside], marker="o", ms=2.6, alpha=0.28, **dot)
    above = finite & ~inside
    if above.any():
        axes.plot(count[above], np.full(above.sum(), high), marker="^", ms=4, alpha=0.45, clip_on=False, **dot)
    if (~finite).any():
        bottom = np.full((~finite).sum(), low)
        axes.plot(count[~finite], bottom, marker="x", ms=4.5, color=PALETTE["ink"], mew=1, ls="none", clip_on=False)
    if finite.any():
        best = np.fmin.accumulate(np.where(finite, loss, np.inf))
        axes.step(count, np.where(np.isfinite(best), best, np.nan), where="post", color=blue, lw=2)
    labels = [(level, f"{titles[arm]} {number(level)}", PALETTE[arm]) for arm, level in levels.items()]
    for arm, level in levels.items():
        axes.axhline(level, color=PALETTE[arm], lw=1.4, ls=DASHES[arm])
    if finite.any():
        labels.append((float(best[-1]), f"{'best' if narrow else 'best found'} {number(float(best[-1]))}", blue))
    axes.set_ylim(low, high)
    axes.set_xlim(0, max(int(count[-1]), 2) if len(count) else 2)
    _side_labels(axes, labels, (low, high), gap=0.075 if narrow else 0.062)
    axes.grid(axis="y")
    axes.tick_params(axis="x", pad=7)
    axes.set_xlabel("evaluations")
    axes.set_ylabel("loss on searched wordings")
    return figure


def _levels(run: Run) -> dict[str, float]:
    """The baselines' loss on searched wordings, of those where it could be measured."""
    found = {arm: float(run.measured(arm, "searched")["loss"]) for arm in run.arms if arm != "evolved"}
    return {arm: loss for arm, loss in found.items() if np.isfinite(loss)}


def _losses(run: Run) -> tuple[Array, Array]:
    """Number of evaluations done, from 1, and loss of each; NaN where it failed."""
    loss = run.history["loss"].to_numpy(dtype=np.float64, na_value=np.nan)
    loss = np.where(run.history["failed"].to_numpy(dtype=bool) | ~np.isfinite(loss), np.nan, loss)
    return np.arange(1, len(loss) + 1, dtype=np.float64), loss


def _frame(losses: Array, levels: list[float]) -> tuple[float, float]:
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
    """A row per evaluation: loss (empty where failed) and the best so far."""
    count, loss = _losses(run)
    best = np.fmin.accumulate(loss) if len(loss) else loss
    rows = (
        (int(n), *(float(value) if np.isfinite(value) else None for value in (a, b)))
        for n, a, b in zip(count, loss, best, strict=True)
    )
    return csv_bytes(("evaluations", "loss", "best"), rows)


# Answers


def has_answers(run: Run) -> bool:
    """Whether answer distributions of all items were stored for the two arms that the plot compares."""
    return all(
        len(run.measured(arm, "held_out").get("answers") or ()) == len(ITEM_LABELS) for arm in ("naive", "evolved")
    )


def mean_answers(run: Run, arm: str, split: str = "held_out") -> Array:
    """Mean answer of each item, 1..5, shape (24,)."""
    shares = np.array(run.measured(arm, split)["answers"], dtype=np.float64)
    return shares @ np.arange(1, shares.shape[1] + 1)


def draw_answers(run: Run, narrow: bool) -> Figure:
    """A dumbbell per item, from the mean answer without a prompt to that under the evolved one, grouped by scale."""
    figure, axes = new_figure(narrow, 7.6 if narrow else 7.0)
    before, after = mean_answers(run, "naive"), mean_answers(run, "evolved")
    instrument, y, ticks, names = vsm13(), 0.0, [], []
    scale = ""
    for index, item in enumerate(instrument.items):
        if item.scale != scale:
            scale = item.scale
            options = instrument.scales[scale]
            y += 0.35 if y else 0.0
            first, last = f"1 {options[0]}", f"5 {options[-1]}"
            for at, word in ((5.0, f"{first} … {last}"),) if narrow else ((1.0, first), (5.0, last)):
                side = "left" if at == 1.0 else "right"
                axes.text(at, y, word, ha=side, va="center", fontsize=7.5, color=PALETTE["muted"], style="italic")
            y += 1
        axes.plot([1, 5], [y, y], color=PALETTE["grid"], lw=0.7, zorder=1)
        axes.plot([before[index], after[index]], [y, y], color=PALETTE["evolved"], lw=2, alpha=0.55, zorder=2)
        for arm, mean in (("naive", before), ("evolved", after)):
            axes.plot([mean[index]], [y], **{**_marker(arm), "ms": 5}, zorder=3)
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
    _arm_legend(figure, ["naive", "evolved"], narrow, target=False)
    return figure


def answers_alt(run: Run) -> str:
    """The plot in words: the largest shifts."""
    shift = mean_answers(run, "evolved") - mean_answers(run, "naive")
    largest = np.argsort(-np.abs(shift), kind="stable")[: min(3, np.isfinite(shift).sum())]
    moved = "; ".join(f"item {i + 1}, {ITEM_LABELS[i]}: {number(float(shift[i]), 2)}" for i in largest)
    return (
        f"Mean answers to the 24 items, without and with the evolved prompt. Mean absolute shift "
        f"{number(_mean_size(shift), 2)} steps. Largest shifts: {moved}."
    )


def _mean_size(shift: Array) -> float | None:
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
