"""Alignment of every arm, by number of labelled cultures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from experiments.committee.arms import ARMS, COMPOSED
from experiments.committee.figures import by_arm

COMMITTEE, OTHER = "#0072B2", "#555555"


def plot(frame: pd.DataFrame, path: Path, remark: str) -> None:
    """Dots with 95 % intervals; the committee's arms are filled squares.

    A panel's votes are so far from any distribution that a scale with them would hide the others: they are written.
    """
    groups = list(frame.groupby("cultures"))
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    axes = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (count, part) in zip(axes, groups, strict=True):
        for place, (arm, found) in enumerate(by_arm(part, "alignment").items()):
            ours = arm in COMPOSED
            if arm == "panel":
                axis.text(
                    0.03, place, f"votes: {found}", transform=axis.get_yaxis_transform(), color=COMMITTEE, va="center"
                )
                continue
            error = [[found.mean - found.low], [found.high - found.mean]]
            axis.errorbar(
                found.mean,
                place,
                xerr=error,
                fmt="s" if ours else "o",
                color=COMMITTEE if ours else OTHER,
                markerfacecolor=COMMITTEE if ours else "white",
                capsize=3,
            )
        queries = part["query"].nunique()
        axis.set_title(f"{count} labelled culture{'s' if count != 1 else ''}, {queries} queries", fontsize=10)
        axis.grid(axis="x", color="#dddddd")
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(ARMS)), ARMS)
    axes[0].invert_yaxis()
    figure.supxlabel(f"alignment: 1 - Jensen-Shannon distance to the labelled cultures' target\n{remark}", fontsize=9)
    figure.savefig(path, dpi=150, metadata={"Software": None})
