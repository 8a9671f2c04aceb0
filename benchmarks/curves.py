"""Shares of targets reached over evaluations, drawn."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from benchmarks import table
from benchmarks.counting import TARGETS

__all__ = ["draw", "label", "look"]

_SHOWN = 12
_COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F"]
"""Okabe and Ito's colours, which the colour-blind can tell apart."""


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Share of targets reached over evaluations / d, of the best mean ranks among methods that ran on every problem."""
    ranks = table.ranks(table.problem_errors(rows)).dropna(axis=1)
    best = ranks.mean().sort_values().index[:_SHOWN]
    d, budget = int(rows["dim"].iloc[0]), int(rows["budget"].iloc[0])
    at = np.unique(np.geomspace(d, budget, 200).astype(int))
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    ends = []
    for place, method in enumerate(best):
        curve = _curve(rows.loc[rows["method"] == method, "hits"].astype(str), at)
        colour, style, width = look(place, str(method))
        axes.plot(at / d, curve, color=colour, linestyle=style, linewidth=width)
        ends.append((curve[-1], f"{method}", colour))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("evaluations / dimension")
    axes.set_ylabel("share of targets reached")
    axes.set_title(f"{rows['suite'].iloc[0]}, {d}-D: the {len(best)} best mean ranks", loc="left", fontsize=10)
    axes.set_ylim(0, 1.05 * max(y for y, _, _ in ends))
    label(axes, ends)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _curve(hits: pd.Series, at: np.ndarray) -> np.ndarray:
    """Share of (run, target) pairs reached at each number of evaluations."""
    texts = [text.split() for text in hits if text and text != "nan"]
    every = np.sort(np.array([int(number) for text in texts for number in text], dtype=np.int64))
    return np.searchsorted(every, at, side="right") / (len(hits) * len(TARGETS))


def look(place: int, method: str) -> tuple[str, str, float]:
    """Colour, line style and width of the method in this place; ours are thicker."""
    style = "-" if place < len(_COLOURS) else "--"
    return _COLOURS[place % len(_COLOURS)], style, 2.6 if method.startswith("evoprompt") else 1.4


def label(axes: plt.Axes, ends: list[tuple[float, str, str]]) -> None:
    """Names (y, name, colour) beside the curves' ends, in their order, apart where they would overlap."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.autoscale_view()
    ends = sorted(ends)
    x = float(np.asarray(axes.get_lines()[0].get_xdata())[-1])
    heights = [axes.transLimits.transform(axes.transScale.transform((x, y)))[1] for y, _, _ in ends]
    for height, (y, name, colour) in zip(_apart(heights, 0.042), ends, strict=True):
        line = {"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 1, "shrinkB": 2, "relpos": (0, 0.5)}
        axes.annotate(
            name, (x, y), (1.04, height), textcoords="axes fraction", color=colour, fontsize=8, va="center",
            arrowprops=line,
        )  # fmt: skip


def _apart(heights: list[float], gap: float) -> list[float]:
    """Rising heights moved apart to ``gap`` at the least, each crowd about its own mean."""
    crowds: list[list[float]] = []
    for height in heights:
        crowds.append([height])
        while len(crowds) > 1 and _bottom(crowds[-1], gap) < _bottom(crowds[-2], gap) + gap * len(crowds[-2]):
            crowds[-2:] = [crowds[-2] + crowds[-1]]
    return [_bottom(crowd, gap) + gap * place for crowd in crowds for place in range(len(crowd))]


def _bottom(crowd: list[float], gap: float) -> float:
    return float(np.mean(crowd)) - gap * (len(crowd) - 1) / 2
