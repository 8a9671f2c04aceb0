"""Tables on the terminal, or as wide as a reader of a file may like."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

__all__ = ["print_table"]


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], right: Container[int] = ()) -> None:
    """Print rows under titles, no text of which is markup; the columns of the numbers `right` are flush right."""
    columns = (Column(Text(one), justify="right" if i in right else "left") for i, one in enumerate(titles))
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
