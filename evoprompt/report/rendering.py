"""Pages made of the templates beside this file: one HTML file each, whose plain texts are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evoprompt.report.files import ARM_TITLES
from evoprompt.report.numbers import number, share

TEMPLATES = Path(__file__).parent / "templates"

Rows = list[tuple[str, Sequence[Any]]]  # of a table: the class of each row, and its cells


def render(template: str, folder: Path = TEMPLATES, **values: Any) -> str:
    """The page that a template makes of some values; it may extend and import those of the reports."""
    return _environment(folder).get_template(template).render(values)


@cache
def _environment(folder: Path) -> Environment:
    loader = FileSystemLoader([folder, TEMPLATES])
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= {"number": number, "share": share, "spaced": spaced}
    found.globals["ARM_TITLES"] = ARM_TITLES
    return found


def culture_name(metrics: Mapping[str, Any]) -> str:
    """The culture as a reader would call it."""
    return str(metrics.get("culture_name") or metrics.get("culture") or "unnamed culture")


def spaced(count: Any) -> str:
    """A count with spaces between thousands.

    >>> spaced(12000), spaced(None)
    ('12 000', '0')
    """
    return f"{int(count or 0):,}".replace(",", " ")


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
