"""Palette, type and file formats shared by the plots: PNG and SVG files, and SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evoprompt.report.files import ARM_TITLES, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")

# Light colours by role; inlined SVG refers to the CSS variable of the same name and so follows a dark page.
# The four arms are grey, orange, bluish green and blue of the colour-blind safe palette of Okabe and Ito (2008),
# darkened until they can be read as text on white; they always differ in marker shape as well. The five answers are
# steps of cividis (Nunez, Anderton and Renslow, 2018), whose lightness falls evenly for every kind of colour vision.
PALETTE = {
    "ink": "#1d2430",
    "muted": "#626b79",
    "grid": "#e2e5ea",
    "paper": "#fefefe",
    "naive": "#6b7482",
    "persona": "#a96000",
    "icl": "#00805c",
    "evolved": "#0a62b4",
    "answer1": "#f9e03a",
    "answer2": "#bcae6c",
    "answer3": "#838179",
    "answer4": "#52596d",
    "answer5": "#002d68",
}
MARKERS = {"naive": "o", "persona": "s", "icl": "^", "evolved": "D"}
DASHES: dict[str, Any] = {"naive": (0, (1, 1.6)), "persona": (0, (5, 2)), "icl": (0, (5, 1.6, 1, 1.6))}
WIDE, NARROW = 8.0, 3.7  # inches
_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.edgecolor": PALETTE["grid"],
    "axes.labelcolor": PALETTE["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALETTE["grid"],
    "grid.linewidth": 0.7,
    "text.color": PALETTE["ink"],
    "text.parse_math": False,
    "xtick.color": PALETTE["grid"],
    "ytick.color": PALETTE["grid"],
    "xtick.labelcolor": PALETTE["muted"],
    "ytick.labelcolor": PALETTE["muted"],
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Plot:
    """A finished plot: files to store, by kind, and two inline variants, for wide and for narrow screens."""

    name: str
    files: Mapping[str, bytes]
    wide: str
    narrow: str


def finished(
    name: str, shown: T, alt: Callable[[T], str], csv: Callable[[T], bytes], draw: Callable[[T, bool], Figure]
) -> Plot:
    """A plot of what is shown in all its forms: drawn by `draw(shown, narrow)`, in words, and as numbers."""
    with style():
        wide, narrow, words = draw(shown, False), draw(shown, True), alt(shown)
        files = {"png": png(wide), "svg": standalone_svg(wide, name), "csv": csv(shown)}
        return Plot(name, files, inline_svg(wide, f"{name}-wide", words), inline_svg(narrow, f"{name}-narrow", words))


def write_page(folder: Path, plots: Sequence[Plot], page: str) -> Path:
    """Write the files of plots into `plots/` of a folder, then `report.html`, and return its path.

    Raises
    ------
    UserError
        The folder cannot be written.
    """
    for plot in plots:
        for kind, content in plot.files.items():
            write_bytes(folder / "plots" / f"{plot.name}.{kind}", content)
    report = folder / "report.html"
    write_bytes(report, page.encode())
    return report


def style() -> AbstractContextManager[None]:
    """The look of every plot, for the duration of a `with`; matplotlib's own settings are left as they were."""
    from matplotlib.style import context

    return context(_STYLE, after_reset=True)


def new_figure(narrow: bool, height: float) -> tuple[Figure, Axes]:
    """An empty figure of the given height in inches, independent of pyplot and of any display."""
    figure, (axes,) = new_panels(narrow, height, (1,))
    return figure, axes


def new_panels(narrow: bool, height: float, ratios: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Panels that share the upright axis: side by side with these widths, or below each other on a narrow screen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(NARROW if narrow else WIDE, height))
    grid: dict[str, Any] = {"nrows": len(ratios)} if narrow else {"ncols": len(ratios), "width_ratios": ratios}
    figure.set_layout_engine("constrained", wspace=0.06, hspace=0.06)  # between panels
    panels = figure.subplots(**grid, sharey=True, squeeze=False).ravel().tolist()
    for axes in panels:
        axes.tick_params(length=0)
    return figure, panels


def marker(arm: str) -> dict[str, Any]:
    """How a point of an arm is drawn, as keywords of `plot`."""
    colours, width = (PALETTE[arm], PALETTE["paper"]), 0.6
    if arm == "naive":  # hollow
        colours, width = (PALETTE["paper"], PALETTE[arm]), 1.5
    size = {"evolved": 6.5, "icl": 6.5}.get(arm, 5.5)
    return {"marker": MARKERS[arm], "ms": size, "mfc": colours[0], "mec": colours[1], "mew": width, "ls": "none"}


def arm_legend(figure: Figure, arms: Sequence[str], narrow: bool, target: bool = True) -> None:
    """A line above the figure that names the arms, and the target's bar."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=ARM_TITLES[arm], **marker(arm)) for arm in arms]
    if target:
        handles.insert(0, Line2D([], [], color=PALETTE["ink"], marker="|", ms=11, mew=3, ls="none", label="target"))
    columns = 2 if narrow else len(handles)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.3, columnspacing=1.3)


def bands(axes: Axes, titles: Sequence[str], narrow: bool, lanes: int, lane: float, **text: Any) -> Iterator[float]:
    """Frame a plot of one band below the other, every second shaded, and give the height of each one's first lane.

    Draw a band's lanes as its height comes: its title follows them, within the band on a narrow screen.
    """
    for place, title in enumerate(titles):
        if place % 2 == 0:
            axes.axhspan(place - 0.5, place + 0.5, color=PALETTE["muted"], alpha=0.07, lw=0)
        yield place - 0.16 if narrow else place - lane * (lanes - 1) / 2
        if narrow:
            at: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "weight": "bold"}
            axes.text(0.015, place - 0.33, title, **at, **text)
    axes.set_yticks(range(len(titles)), [] if narrow else titles, color=PALETTE["ink"])
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def diagonal(axes: Axes, x: Sequence[float], y: Sequence[float], label: str, least: float) -> None:
    """Frame a scatter plot as a square of equal scales around 0 and the points, with the line of equal values."""
    low, high = min(0.0, *x, *y), max(0.0, *x, *y)
    pad = max(0.08 * (high - low), least)
    low, high = low - pad, high + pad
    for line in (axes.axhline, axes.axvline):
        line(0, color=PALETTE["grid"], lw=1, zorder=1)
    axes.plot([low, high], [low, high], color=PALETTE["muted"], lw=1, ls=(0, (4, 3)), zorder=2)
    axes.text(high, high, label, ha="right", va="bottom", fontsize=8, color=PALETTE["muted"])
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.grid()


def png(figure: Figure) -> bytes:
    """PNG on paper white, 200 dots an inch."""
    return _saved(figure, format="png", dpi=200, facecolor=PALETTE["paper"])


def standalone_svg(figure: Figure, salt: str) -> bytes:
    """SVG on paper white with letters as paths: it looks the same wherever it is opened."""
    return _svg(figure, "path", salt, facecolor=PALETTE["paper"])


def inline_svg(figure: Figure, prefix: str, alt: str) -> str:
    """SVG to be put into a page: its colours and its typeface are the page's, its ids start with `prefix`."""
    text = _svg(figure, "none", prefix, transparent=True).decode()
    head, body = text[text.index("<svg") :].split(">", 1)
    box = "".join(re.findall(r'viewBox="[^"]+"', head))
    for found, instead in (
        (r"(?s)<style\b.*?</style>|<!--.*?-->", ""),
        ("xlink:href=", "href="),
        (r'\bid="', rf'id="{prefix}-'),
        (r'(href="|url\()#', rf"\1#{prefix}-"),
        (r"font: ([^;\"']*?px) [^;\"]*", r"font: \1 var(--sans)"),
        *((colour, f"var(--{role})") for role, colour in PALETTE.items()),
        (r">\s+<", "><"),
    ):
        body = re.sub(found, instead, body)
    return f'<svg {box} role="img" aria-label="{escape(alt)}">{body.strip()}'


def _svg(figure: Figure, fonttype: str, salt: str, **options: Any) -> bytes:
    import matplotlib

    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": fonttype, "svg.hashsalt": salt}):
        return _saved(figure, format="svg", dpi=150, metadata=nothing, **options)


def _saved(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
