"""The plots of a sweep: held-out losses of every run, and searched against held-out gains."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten, wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprompt.report.certainty import mean_interval
from evoprompt.report.drawing import PALETTE, Plot, arm_legend, diagonal, finished, marker, new_figure
from evoprompt.report.files import ARM_TITLES, csv_bytes
from evoprompt.report.method import METHOD
from evoprompt.report.numbers import number
from evoprompt.report.sweep_rows import LOSSES, Row, full_words, grouped, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN_GROUPS = 60
LANE = 0.17
WIDE_TITLE, NARROW_TITLE = 28, 50  # letters on a line


def sweep_plots(rows: Sequence[Row]) -> list[Plot]:
    """Draw everything, in the order of the page."""
    plots = [finished("losses", losses_alt(rows), losses_csv(rows), lambda narrow: draw_losses(rows, narrow))]
    if known_gains(rows):
        plots.append(finished("gains", gains_alt(rows), gains_csv(rows), lambda narrow: draw_gains(rows, narrow)))
    return plots


def draw_losses(rows: Sequence[Row], narrow: bool) -> Figure:
    """A band per culture and method, in it a lane per arm: a faint mark a run, a full one the mean."""
    groups = list(zip(grouped(rows).values(), group_titles(rows), strict=True))[:DRAWN_GROUPS]
    arms = [arm for arm in ARM_TITLES if any(row.loss(arm) is not None for row in rows)]
    figure, axes = new_figure(narrow, 1.2 + (1.05 if narrow else 0.85) * len(groups))
    for place, (members, title) in enumerate(groups):
        top = place - 0.14 if narrow else place - LANE * (len(arms) - 1) / 2
        if place % 2 == 0:
            axes.axhspan(place - 0.5, place + 0.5, color=PALETTE["muted"], alpha=0.07, lw=0)
        for lane, arm in enumerate(arms):
            losses = [loss for row in members if (loss := row.loss(arm)) is not None]
            if losses:
                _lane(axes, arm, losses, top + LANE * lane)
        if narrow:
            title = shorten(title, NARROW_TITLE, placeholder=" …")
            at: dict[str, Any] = {"transform": axes.get_yaxis_transform()}
            axes.text(0.015, place - 0.34, title, va="center", weight="bold", fontsize=8, **at)
    titles = [wrapped(title) for _, title in groups]
    axes.set_yticks(range(len(groups)), [] if narrow else titles, color=PALETTE["ink"])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("held-out loss")
    arm_legend(figure, arms, narrow, target=False)
    return figure


def _lane(axes: Axes, arm: str, losses: Sequence[float], y: float) -> None:
    mean, low, high = mean_interval(losses)
    style = marker(arm)
    if len(losses) > 1:
        axes.plot(losses, [y] * len(losses), **{**style, "ms": 3.6, "mew": 0, "mfc": PALETTE[arm], "alpha": 0.4})
        axes.plot([low, high], [y, y], color=PALETTE[arm], lw=1.8, zorder=3)
    axes.plot([mean], [y], **style, zorder=4)


def group_titles(rows: Sequence[Row]) -> list[str]:
    """Each group's culture, and those words of its method in which the groups differ."""
    words = {row.method: told for row, told in zip(rows, told_apart(rows)[1], strict=True)}
    return [" · ".join(filter(None, (name, *words[method]))) for name, method in grouped(rows)]


def wrapped(title: str) -> str:
    """A group's title on several lines, its culture on the first."""
    culture, *words = title.split(" · ", 1)
    return "\n".join([culture, *wrap(" · ".join(words), WIDE_TITLE, max_lines=4, placeholder=" …")])


def losses_alt(rows: Sequence[Row]) -> str:
    """The plot in words: the means."""
    said = []
    for members, title in zip(grouped(rows).values(), group_titles(rows), strict=True):
        means = []
        for arm in ARM_TITLES:
            losses = [loss for row in members if (loss := row.loss(arm)) is not None]
            if losses:
                means.append(f"{ARM_TITLES[arm]} {number(float(np.mean(losses)))}")
        said.append(f"{title}: {', '.join(means)}")
    return f"Mean held-out loss. {'; '.join(said)}."


def losses_csv(rows: Sequence[Row]) -> bytes:
    """A row per run and arm."""
    lines = []
    for row in rows:
        cells = (row.folder, row.culture, row.seed, *full_words(row))
        lines += [(*cells, arm, loss) for arm, loss in zip(LOSSES, row.losses, strict=True) if loss is not None]
    return csv_bytes(("run", "culture", "seed", *METHOD, "arm", "held_out_loss"), lines)


def known_gains(rows: Sequence[Row]) -> list[tuple[Row, float, float]]:
    """Runs with their gains on searched and on held-out wordings, of those where both were measured."""
    found = [(row, row.searched_gain, row.gain) for row in rows]
    return [(row, searched, gain) for row, searched, gain in found if searched is not None and gain is not None]


def draw_gains(rows: Sequence[Row], narrow: bool) -> Figure:
    """A dot a run, the diagonal, and the line below which less than half of a gain is left."""
    figure, axes = new_figure(narrow, 3.7 if narrow else 4.6)
    known = known_gains(rows)
    diagonal(axes, [one[1] for one in known], [one[2] for one in known], "alike", least=0.5)
    end = axes.get_xlim()[1]
    axes.plot([0, end], [0, end / 2], color=PALETTE["muted"], lw=1, ls=(0, (1, 2)), zorder=2)
    axes.text(end, end / 2, " half", va="center", fontsize=8, color=PALETTE["muted"])
    for row, searched, held_out in known:
        fill = {"mfc": PALETTE["paper"], "mec": PALETTE["evolved"], "mew": 1.4} if row.doubt else {}
        axes.plot([searched], [held_out], **{**marker("evolved"), **fill}, zorder=4)
    axes.set_xlabel("gain on searched wordings")
    axes.set_ylabel("gain on held-out wordings")
    return figure


def gains_alt(rows: Sequence[Row]) -> str:
    """The plot in words."""
    searched, held_out = (float(np.mean(column)) for column in list(zip(*known_gains(rows), strict=True))[1:])
    return (
        f"Gains of {len(known_gains(rows))} runs in points: on average {number(searched)} on searched wordings and "
        f"{number(held_out)} on held-out ones."
    )


def gains_csv(rows: Sequence[Row]) -> bytes:
    """A row per run with its two gains."""
    lines = ((row.folder, row.culture, row.seed, searched, held_out) for row, searched, held_out in known_gains(rows))
    return csv_bytes(("run", "culture", "seed", "searched_gain", "held_out_gain"), lines)
