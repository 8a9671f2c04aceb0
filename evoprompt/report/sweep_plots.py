"""The plots of a sweep: held-out losses of every run, and searched against held-out gains."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten, wrap
from typing import TYPE_CHECKING

import numpy as np

from evoprompt.report.drawing import PALETTE, Plot, arm_legend, bands, diagonal, finished, marker, new_figure
from evoprompt.report.files import ARM_TITLES, csv_bytes
from evoprompt.report.numbers import mean_interval, number
from evoprompt.report.sweep_rows import LABELS, LOSSES, Row, grouped, labels, told_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN_GROUPS = 60
LANE = 0.17
WIDE_TITLE, NARROW_TITLE = 28, 50  # letters on a line

Gains = list[tuple[Row, float, float]]


def sweep_plots(rows: Sequence[Row]) -> list[Plot]:
    """Draw everything, in the order of the page."""
    plots = [finished("losses", rows, losses_alt, losses_csv, draw_losses)]
    if known := known_gains(rows):
        plots.append(finished("gains", known, gains_alt, gains_csv, draw_gains))
    return plots


def draw_losses(rows: Sequence[Row], narrow: bool) -> Figure:
    """A band per culture and method, in it a lane per arm: a faint mark a run, a full one the mean."""
    groups = group_titles(rows)[:DRAWN_GROUPS]
    arms = [arm for arm in LOSSES if _known(rows, arm)]
    titles = [shorten(one, NARROW_TITLE, placeholder=" …") if narrow else wrapped(one) for one, _ in groups]
    figure, axes = new_figure(narrow, 1.2 + (1.05 if narrow else 0.85) * len(groups))
    for top, (_, members) in zip(bands(axes, titles, narrow, len(arms), LANE, fontsize=8), groups, strict=True):
        for lane, arm in enumerate(arms):
            if losses := _known(members, arm):
                _lane(axes, arm, losses, top + LANE * lane)
    axes.set_xlim(left=0)
    axes.set_xlabel("held-out loss")
    arm_legend(figure, arms, narrow, target=False)
    return figure


def _known(rows: Sequence[Row], arm: str) -> list[float]:
    """The held-out losses of an arm, where they could be measured."""
    return [loss for row in rows if (loss := row.losses[arm]) is not None]


def _lane(axes: Axes, arm: str, losses: Sequence[float], y: float) -> None:
    mean, low, high = mean_interval(losses)
    style = marker(arm)
    if len(losses) > 1:
        axes.plot(losses, [y] * len(losses), **{**style, "ms": 3.6, "mew": 0, "mfc": PALETTE[arm], "alpha": 0.4})
        axes.plot([low, high], [y, y], color=PALETTE[arm], lw=1.8, zorder=3)
    axes.plot([mean], [y], **style, zorder=4)


def group_titles(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Each group's culture, and those words of its method in which the groups differ; and its runs."""
    words, groups = told_apart(rows)[1], grouped(rows).items()
    return [(" · ".join(filter(None, (name, *words[method]))), members) for (name, method), members in groups]


def wrapped(title: str) -> str:
    """A group's title on several lines, its culture on the first."""
    culture, *words = title.split(" · ", 1)
    return "\n".join([culture, *wrap(" · ".join(words), WIDE_TITLE, max_lines=4, placeholder=" …")])


def losses_alt(rows: Sequence[Row]) -> str:
    """The plot in words: the means."""
    said = []
    for title, members in group_titles(rows):
        losses = {arm: _known(members, arm) for arm in LOSSES}
        means = [f"{ARM_TITLES[arm]} {number(np.mean(found))}" for arm, found in losses.items() if found]
        said.append(f"{title}: {', '.join(means)}")
    return f"Mean held-out loss. {'; '.join(said)}."


def losses_csv(rows: Sequence[Row]) -> bytes:
    """A row per run and arm."""
    lines = [(*labels(row), arm, loss) for row in rows for arm, loss in row.losses.items() if loss is not None]
    return csv_bytes((*LABELS, "arm", "held_out_loss"), lines)


def known_gains(rows: Sequence[Row]) -> Gains:
    """Runs with their gains on searched and on held-out wordings, of those where both were measured."""
    found = [(row, row.gains["searched"], row.gains["held_out"]) for row in rows]
    return [(row, searched, gain) for row, searched, gain in found if searched is not None and gain is not None]


def draw_gains(known: Gains, narrow: bool) -> Figure:
    """A dot a run, the diagonal, and the line below which less than half of a gain is left."""
    figure, axes = new_figure(narrow, 3.7 if narrow else 4.6)
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


def gains_alt(known: Gains) -> str:
    """The plot in words."""
    searched, held_out = (number(np.mean([one[column] for one in known])) for column in (1, 2))
    return (
        f"Gains of {len(known)} runs in points: on average {searched} on searched wordings and {held_out} on held-out "
        "ones."
    )


def gains_csv(known: Gains) -> bytes:
    """A row per run with its two gains."""
    lines = [(row.folder, row.culture, row.seed, searched, held_out) for row, searched, held_out in known]
    return csv_bytes(("run", "culture", "seed", "searched_gain", "held_out_gain"), lines)
