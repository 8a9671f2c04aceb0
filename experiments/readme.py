"""Putting a generated table into an experiment's README, between its markers."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- table -->", "<!-- /table -->"


def with_table(text: str, table: str) -> str:
    """The text with what stood between the markers replaced.

    >>> with_table("a <!-- table -->old<!-- /table --> b", "new").split()
    ['a', '<!--', 'table', '-->', 'new', '<!--', '/table', '-->', 'b']
    """
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"the README has no place for its table: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{table.strip()}\n{END}{after}"


def fill(readme: Path, table: str) -> None:
    """Put a table into a README that is there."""
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), table), encoding="utf-8")


def write_table(folder: Path, table: str) -> None:
    """Write `table.md`, and the same into the README beside it where there is one."""
    (folder / "table.md").write_text(table.strip() + "\n", encoding="utf-8")
    if (folder / "README.md").exists():
        fill(folder / "README.md", table)
