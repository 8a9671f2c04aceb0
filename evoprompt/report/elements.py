"""What pages are made of: the document, tables, figures, sections, the box of warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

from evoprompt.report.drawing import Plot
from evoprompt.report.files import ARM_TITLES

SHELL = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="evoprompt">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
$css</style>
</head>
<body$kind>
$body
</body>
</html>
""")


def page(title: str, body: str, kind: str = "") -> str:
    """A whole document around `body`, which must be escaped already; `kind` is the body's class."""
    css = resources.files("evoprompt.report").joinpath("page.css").read_text(encoding="utf-8")
    return SHELL.substitute(title=escape(title), css=css, body=body, kind=f' class="{kind}"' if kind else "")


def culture_name(metrics: Mapping[str, Any]) -> str:
    """The culture as a reader would call it."""
    return str(metrics.get("culture_name") or metrics.get("culture") or "unnamed culture")


def table(caption: str, head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], kind: str = "") -> str:
    """A table of ready HTML cells; each row is a class name and its cells, the first of them the row's header."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = []
    for style, cells in rows:
        first, *others = cells
        row = f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f'<tr class="{style}">{row}</tr>' if style else f"<tr>{row}</tr>")
    # The title stays in place while the table scrolls sideways under it.
    title = f"<h3>{caption}</h3>" if caption else ""
    header = f"<thead><tr>{top}</tr></thead>" if head else ""
    classes = f' class="{kind}"' if kind else ""
    # A region that scrolls sideways must be reachable by keyboard.
    return (
        f'{title}<div class="scroll" tabindex="0" role="region" aria-label="{caption or "Table"}">'
        f"<table{classes}>{header}<tbody>{''.join(lines)}</tbody></table></div>"
    )


def duration(seconds: Any) -> str:
    """A readable duration.

    >>> duration(28.7), duration(1843), duration(9000)
    ('29 s', '31 min', '2.5 h')
    """
    if not isinstance(seconds, int | float):
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def cautions_box(items: str) -> str:
    """The box of warnings around ready `<li>` elements."""
    title = '<h2 id="cautions">Before you believe it</h2>'
    return f'<aside class="cautions" aria-labelledby="cautions">{title}<ul>{items}</ul></aside>'


def section(name: str, title: str, lead: str, content: str) -> str:
    """A part of the page with a heading; all but `name` is ready HTML."""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2><p>{lead}</p>{content}</section>'


def figure(plot: Plot, caption: str) -> str:
    """A plot for wide and for narrow screens, what to see in it, and its files; `caption` is ready HTML."""
    return (
        f'<figure class="card {plot.name}"><div class="wide">{plot.wide}</div><div class="narrow">{plot.narrow}</div>'
        f"<figcaption>{caption}</figcaption>{saved(plot.name, ('png', 'svg', 'csv'))}</figure>"
    )


def saved(name: str, kinds: Sequence[str]) -> str:
    """Links to the files of one name in `plots/`, beside the page."""
    links = " · ".join(f'<a href="plots/{name}.{kind}">{kind.upper()}</a>' for kind in kinds)
    return f'<p class="files">Files: {links}</p>'


def arm_name(arm: str) -> str:
    """The title of an arm after a dot of its colour."""
    return f'<span class="dot" style="--arm: var(--{arm})"></span>{escape(ARM_TITLES[arm])}'
