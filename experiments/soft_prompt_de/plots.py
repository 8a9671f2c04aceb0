"""The study's plot: loss of every arm by region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from evoprompt.report.drawing import MARKERS, PALETTE, standalone_svg, style
from evoprompt.surveys import get_culture
from experiments.soft_prompt_de.tables import TITLES, names, rows_of


def draw_losses(losses: pd.DataFrame, path: Path) -> None:
    """Held-out losses with 95 % intervals, the searched ones as hollow marks; written as PNG and SVG."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    known = {(row["culture"], row["split"], row["arm"]): row for row in rows_of(losses)}
    cultures = names(known.values(), "culture")
    with style():
        figure = Figure(figsize=(7.6, 0.5 + 0.95 * len(cultures)), layout="constrained")
        axes = figure.subplots()
        for row, culture in enumerate(cultures):
            for lane, arm in enumerate(TITLES):
                y = row + 0.19 * (lane - 1.5)
                held_out, searched = (known[culture, split, arm] for split in ("held_out", "searched"))
                mark: dict[str, Any] = {"marker": MARKERS[arm], "color": PALETTE[arm], "ls": "none"}
                axes.plot([held_out["low"], held_out["high"]], [y, y], color=PALETTE[arm], lw=2, zorder=2)
                axes.plot([searched["loss"]], [y], **mark, ms=6, mfc=PALETTE["paper"], zorder=3)
                axes.plot([held_out["loss"]], [y], **mark, ms=6, zorder=4)
            if row:
                axes.axhline(row - 0.5, color=PALETTE["grid"], lw=0.8)
        axes.set_yticks(range(len(cultures)), [get_culture(one).name for one in cultures])
        axes.set_ylim(len(cultures) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.grid(axis="x")
        axes.set_xlabel("loss: mean distance to the target over the six dimensions, points")
        handles = [
            Line2D([], [], marker=MARKERS[arm], color=PALETTE[arm], ls="none", label=title)
            for arm, title in TITLES.items()
        ]
        hollow: dict[str, Any] = {"marker": "o", "color": PALETTE["muted"], "mfc": "none", "ls": "none"}
        handles.append(Line2D([], [], **hollow, label="hollow: searched"))
        figure.legend(handles=handles, loc="outside upper left", ncols=5, handletextpad=0.2, columnspacing=1.2)
        figure.savefig(path, dpi=160)
        path.with_suffix(".svg").write_bytes(standalone_svg(figure, "losses"))
