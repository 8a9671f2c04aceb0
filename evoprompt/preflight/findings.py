"""What was found, printed as it is found; problems are kept for the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from evoprompt.errors import UserError

__all__ = ["Findings", "counted", "size"]

WIDTH = 8  # of the labels


class Findings:
    """Prints sections of labelled lines, then the problems and one line that sums them up."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.problems: list[str] = []

    def section(self, title: str) -> None:
        """Begin a section."""
        self._print(title, "bold")

    def line(self, label: str, text: str) -> None:
        """Print a line of the section: something worth knowing."""
        self._print(f"  {label:{WIDTH}s} {text}")

    def note(self, text: str) -> None:
        """Something that does not stop a run, and that one would rather know before."""
        self._print(f"  {'note':{WIDTH}s} {text}", "yellow")

    def problem(self, problem: str | UserError) -> None:
        """Something that a run would stop at, and what to do."""
        text = " ".join(str(problem).split())
        if text not in self.problems:
            self.problems.append(text)

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Take a `UserError` for a problem."""
        try:
            yield
        except UserError as error:
            self.problem(error)

    def close(self, ready: str) -> int:
        """Print the problems and the last line. Returns the exit code: 0 without problems, else 1."""
        if not self.problems:
            self._print(f"ready: {ready}", "bold green")
            return 0
        self.section("problems")
        for number, problem in enumerate(self.problems, 1):
            self._print(f"  {number}. {problem}", "red")
        self._print(f"not ready: {counted(len(self.problems), 'problem')}", "bold red")
        return 1

    def _print(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def counted(count: int, name: str) -> str:
    """A count with its noun, in the plural where there are several.

    >>> counted(1, "node"), counted(2, "node")
    ('1 node', '2 nodes')
    """
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def size(count: float) -> str:
    """A number of bytes in the unit that people read.

    >>> size(16_060_522_496), size(3_000_000)
    ('15.0 GiB', '2.9 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"
