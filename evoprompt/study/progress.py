"""What a run shows while it works: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_EVERY = 10.0  # seconds between plain lines


class SearchProgress:
    """Generation, evaluations a second, best loss and time left."""

    def __init__(self, console: Console, budget: int, done: int) -> None:
        self.console, self.budget = console, budget
        self.first, self.began = done, time.monotonic()
        self.printed = self.began
        self.live: Progress | None = None
        if console.is_terminal:
            self.live = Progress(
                TextColumn("search"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("gen {task.fields[generation]}  {task.fields[rate]:.0f}/s  best {task.fields[best]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self.task = self.live.add_task("search", total=budget, completed=done, generation=0, rate=0.0, best="-")

    def __enter__(self) -> SearchProgress:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.live.stop()

    def update(self, done: int, generation: int, best: float | None, failed: int) -> None:
        """Show the state after some evaluations."""
        now = time.monotonic()
        rate = (done - self.first) / max(now - self.began, 1e-9)
        shown = "-" if best is None else f"{best:.2f}"
        shown += f" ({failed} failed)" if failed else ""
        if self.live:
            self.live.update(self.task, completed=done, generation=generation, rate=rate, best=shown)
        elif now - self.printed >= PLAIN_EVERY or done >= self.budget:
            self.printed = now
            left = (self.budget - done) / rate if rate else float("nan")
            self.console.print(
                f"generation {generation}: {done}/{self.budget} evaluations, {rate:.1f}/s, best loss {shown}, "
                f"{left:.0f} s left"
            )
