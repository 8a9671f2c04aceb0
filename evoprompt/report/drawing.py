"""Palette, type and file formats shared by the plots: PNG and SVG files, and SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Light colours by role; inlined SVG refers to the CSS variable of the same name and so follows a dark page.
# The four arms differ in hue and lightness (after Okabe and Ito) and always in marker shape as well.
PALETTE = {
    "ink": "#1d2430",
    "muted": "#626b79",
    "grid": "#e2e5ea",
    "paper": "#fefefe",
    "naive": "#767f8d",
    "persona": "#b96a00",
    "icl": "#00805c",
    "evolved": "#0a62b4",
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(NARROW if narrow else WIDE, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.tick_params(length=0)
    return figure, axes


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
