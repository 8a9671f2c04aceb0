"""Palette, type and file formats shared by the plots: PNG and SVG files, and SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evoprompt.report.files import ARM_TITLES, write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
_STYLE = {
    "font.size": 9,
    "axes.edgecolor": PALETTE["grid"],
    "axes.labelcolor": PALETTE["muted"],
    "axes.labelsize": 9,
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
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Plot:
    """A finished plot: files to store and two inline variants, for wide and for narrow screens."""

    name: str
    alt: str
    png: bytes
    svg: bytes
    csv: bytes
    wide: str
    narrow: str


def finished(name: str, alt: str, csv: bytes, draw: Callable[[bool], Figure]) -> Plot:
    """A plot in all its forms; `draw(narrow)` draws it."""
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


def write_plots(folder: Path, plots: Sequence[Plot]) -> None:
    """Write the files of plots into `plots/` of a folder.

    Raises
    ------
    UserError
        The folder cannot be written.
    """
    for plot in plots:
        for kind, content in (("png", plot.png), ("svg", plot.svg), ("csv", plot.csv)):
            write_bytes(folder / "plots" / f"{plot.name}.{kind}", content)


@contextmanager
def style() -> Iterator[None]:
    """The look of every plot, for the duration of a `with`; matplotlib's own settings are left as they were."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update(_STYLE)
        yield


def new_figure(narrow: bool, height: float) -> tuple[Figure, Axes]:
    """An empty figure of the given height in inches, independent of pyplot and of any display."""
    figure, (axes,) = new_panels(narrow, height, (1,))
    return figure, axes


def new_panels(narrow: bool, height: float, ratios: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Panels that share the upright axis: side by side with these widths, or below each other on a narrow screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(NARROW if narrow else WIDE, height))
    FigureCanvasAgg(figure)
    grid: dict[str, Any] = {"nrows": len(ratios)} if narrow else {"ncols": len(ratios), "width_ratios": ratios}
    figure.set_layout_engine("constrained", wspace=0.06, hspace=0.06)  # between panels
    panels = figure.subplots(**grid, sharey=True, squeeze=False).ravel().tolist()
    for axes in panels:
        axes.tick_params(length=0)
    return figure, panels


def marker(arm: str) -> dict[str, Any]:
    """How a point of an arm is drawn, as keywords of `plot`."""
    size = {"evolved": 6.5, "icl": 6.5}.get(arm, 5.5)
    fill = PALETTE["paper"] if arm == "naive" else PALETTE[arm]
    edge = PALETTE[arm] if arm == "naive" else PALETTE["paper"]
    width = 1.5 if arm == "naive" else 0.6
    return {"marker": MARKERS[arm], "ms": size, "mfc": fill, "mec": edge, "mew": width, "ls": "none"}


def arm_legend(figure: Figure, arms: Sequence[str], narrow: bool, target: bool = True) -> None:
    """A line above the figure that names the arms, and the target's bar."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=ARM_TITLES[arm], **marker(arm)) for arm in arms]
    if target:
        handles.insert(0, Line2D([], [], color=PALETTE["ink"], marker="|", ms=11, mew=3, ls="none", label="target"))
    columns = 2 if narrow else len(handles)
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, handletextpad=0.3, columnspacing=1.3)


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
    return _saved(figure, "png", dpi=200, facecolor=PALETTE["paper"])


def standalone_svg(figure: Figure, salt: str) -> bytes:
    """SVG on paper white with letters as paths: it looks the same wherever it is opened."""
    text = _svg(figure, "path", salt, facecolor=PALETTE["paper"])
    return re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL).encode()


def inline_svg(figure: Figure, prefix: str, alt: str) -> str:
    """SVG to be put into a page: its colours and its typeface are the page's, its ids start with `prefix`."""
    from html import escape

    text = _svg(figure, "none", prefix, transparent=True)
    body = text[text.index("<svg") :]
    box = re.search(r'viewBox="([^"]+)"', body)
    body = body[body.index(">") + 1 :]
    for part in (r"<metadata>.*?</metadata>", r"<style\b.*?</style>", r"<!--.*?-->"):
        body = re.sub(part, "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r'href="#', f'href="#{prefix}-', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    body = re.sub(r"font: ([^;\"']*?px) [^;\"]*", r"font: \1 var(--sans)", body)
    for role, colour in PALETTE.items():
        body = body.replace(colour, f"var(--{role})")
    body = re.sub(r">\s+<", "><", body).strip()
    view = box.group(1) if box else "0 0 1 1"
    return f'<svg viewBox="{view}" role="img" aria-label="{escape(alt)}">{body}'


def _svg(figure: Figure, fonttype: str, salt: str, **options: Any) -> str:
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": fonttype, "svg.hashsalt": salt}):
        return _saved(figure, "svg", dpi=150, metadata={"Date": None, "Creator": None}, **options).decode()


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=kind, **options)
    return file.getvalue()
