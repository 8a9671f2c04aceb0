"""Mean ranks with their intervals, drawn for wide and for narrow screens in the page's colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evoprompt.report.drawing import PALETTE, inline_svg, new_figure, png, style
from experiments.optimizers.standing import DEFAULT, Standing, Verdict

__all__ = ["SHOWN", "overview", "ranking", "shown"]

SHOWN = 10
"""So many of the best are drawn, and the default wherever it is."""


def ranking(verdict: Verdict) -> tuple[str, str]:
    """One job's best methods: wide and narrow SVG."""
    best = verdict.best

    def draw(axes: Any, narrow: bool) -> None:
        chosen = shown(verdict)
        axes.axvspan(best.low, best.high, color=PALETTE["grid"], alpha=0.6, linewidth=0)
        for row, one in enumerate(chosen):
            _point(axes, one, row, one in verdict.as_good)
            axes.annotate(f"{one.rank:.2f}", (1.0, row), (6, 0), ("axes fraction", "data"), "offset points",
                          va="center", fontsize=8, color=PALETTE["muted"], annotation_clip=False)  # fmt: skip
        _rows(axes, [one.method for one in chosen], narrow)
        axes.set_xlim(left=min(1.0, *(one.low for one in chosen)) - 0.02 * max(one.high for one in chosen))
        axes.set_xlabel(f"mean rank of {len(verdict.standings)} methods, lower is better", loc="right")

    alt = f"{verdict.job.title}: best mean rank {best.rank:.2f} by {best.method}, {DEFAULT} {verdict.default.rank:.2f}"
    return _both(draw, f"r-{verdict.job.name}", alt, 0.75 + 0.24 * len(shown(verdict)))


def shown(verdict: Verdict) -> list[Standing]:
    """The best, and the default if it is not among them."""
    best = list(verdict.standings[:SHOWN])
    return best if verdict.default in best else [*best, verdict.default]


def overview(verdicts: Sequence[Verdict]) -> tuple[str, str, bytes]:
    """The default and the best of all others by job, as the share of the others that each is ahead of; also PNG."""

    def draw(axes: Any, narrow: bool) -> None:
        for row, verdict in enumerate(verdicts):
            for one, shift in ((verdict.default, -0.17), (verdict.rival, 0.17)):
                _point(axes, _beaten(one, len(verdict.standings)), row + shift, one in verdict.as_good)
            if not narrow:
                axes.annotate(verdict.rival.method, (1.0, row), (8, 0), ("axes fraction", "data"), "offset points",
                              va="center", fontsize=8, color=PALETTE["muted"], annotation_clip=False)  # fmt: skip
        _rows(axes, [_short(verdict.job.title) if narrow else verdict.job.title for verdict in verdicts], narrow)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("share of the others that it is ahead of, higher is better", loc="right")

    told = ", ".join(f"{verdict.job.title}: place {verdict.place}" for verdict in verdicts)
    height = 0.8 + 0.4 * len(verdicts)
    with style():
        picture = png(_with_key(_drawn(draw, False, height)))
    return *_both(draw, "overview", f"{DEFAULT} against the best other method. {told}", height), picture


def _with_key(figure: Any) -> Any:
    """What the marks are, for a picture that stands without the page's words."""
    from matplotlib.lines import Line2D

    told = (
        ("evolved", "D", True, f"{DEFAULT}, the default"),
        ("naive", "o", True, "best of all others, named at the right"),
        ("muted", "s", False, "hollow: interval apart from the best one's"),
    )
    marks = [
        Line2D(
            [], [], marker=marker, ls="none", color=PALETTE[role], mfc=PALETTE[role if filled else "paper"], label=text
        )
        for role, marker, filled, text in told
    ]
    figure.legend(handles=marks, loc="outside upper left", ncols=3, fontsize=8, handletextpad=0.2, columnspacing=1.2)
    return figure


def _beaten(one: Standing, methods: int) -> Standing:
    """A mean rank as the share of the other methods that are behind."""
    low, middle, high = ((methods - value) / (methods - 1) for value in (one.high, one.rank, one.low))
    return Standing(one.method, middle, low, high)


def _short(title: str) -> str:
    return title.replace(": ", ":\n").replace(", many", ",\nmany").replace(", on", ",\non").replace(" that", "\nthat")


def _point(axes: Any, one: Standing, row: float, good: bool) -> None:
    """Colour and shape tell whose it is; filled is as good as the best."""
    ours = one.method.startswith("evoprompt:")
    role, marker = ("evolved", "D") if one.method == DEFAULT else ("icl", "^") if ours else ("naive", "o")
    colour = PALETTE[role]
    axes.plot([one.low, one.high], [row, row], color=colour, linewidth=2.2 if role == "evolved" else 1.4, zorder=2)
    face = colour if good else PALETTE["paper"]
    axes.plot(one.rank, row, marker, markersize=6.5, color=face, markeredgecolor=colour, markeredgewidth=1.4, zorder=3)


def _rows(axes: Any, labels: Sequence[str], narrow: bool) -> None:
    axes.set_yticks(range(len(labels)), labels, fontsize=7.5 if narrow else 9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", labelcolor=PALETTE["ink"])
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def _both(draw: Callable[[Any, bool], None], prefix: str, alt: str, height: float) -> tuple[str, str]:
    found = []
    for narrow in (False, True):
        with style():
            found.append(inline_svg(_drawn(draw, narrow, height), f"{prefix}-{'n' if narrow else 'w'}", alt))
    return found[0], found[1]


def _drawn(draw: Callable[[Any, bool], None], narrow: bool, height: float) -> Any:
    figure, axes = new_figure(narrow, height)
    draw(axes, narrow)
    return figure
