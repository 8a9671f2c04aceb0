"""The progress of a search: a live line on a terminal, plain lines elsewhere, scalars for TensorBoard."""

from __future__ import annotations

import logging
import math
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from evoprompt.optim import Optimizer
from evoprompt.parallel import PoolStats
from evoprompt.study.run_info import optimizer_info, optimizer_words

logger = logging.getLogger(__name__)

PLAIN_EVERY = 10.0  # seconds between plain lines
DRAWN_EVERY = 0.1  # seconds between updates of anything


class SearchProgress:
    """Shows what searches, evaluations a second, how busy the workers are, best loss and time left.

    `options` are the optimizer's. Where TensorBoard is installed, the same goes into `folder`/tensorboard.
    """

    def __init__(self, console: Console, budget: int, folder: Path, options: Mapping[str, Any]) -> None:
        self.console, self.budget, self.options = console, budget, options
        self.first, self.began = 0, time.monotonic()
        self.printed, self.drawn = self.began, 0.0
        self.scalars = Scalars(folder / "tensorboard")
        self.live: Progress | None = None
        if console.is_terminal:
            self.live = Progress(
                TextColumn("search"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[said]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self.task = self.live.add_task("search", total=budget, said="")
            self.live.start()

    def close(self) -> None:
        """Leave the terminal as it is."""
        if self.live:
            self.live.stop()
        self.scalars.close()

    def begin(self, done: int) -> None:
        """The search begins, with so many evaluations done before."""
        self.first, self.began = done, time.monotonic()
        if self.live:
            self.live.update(self.task, completed=done)

    def update(self, done: int, optimizer: Optimizer, stats: PoolStats) -> None:
        """Show the state after some evaluations."""
        now = time.monotonic()
        if now - self.drawn < DRAWN_EVERY and done < self.budget:
            return
        self.drawn = now
        rate = (done - self.first) / max(now - self.began, 1e-9)
        best = optimizer.best
        values = {
            "loss/best": math.nan if best is None else best.loss,
            "evaluations/failed": optimizer.failed,
            "evaluations/per_second": rate,
            "workers/number": stats.workers,
            "workers/utilisation": stats.utilisation,
            "workers/queue": stats.queued,
            "workers/replaced": stats.replacements,
        }
        self.scalars.write(done, values)
        busy = f"{stats.workers} workers {stats.utilisation:.0%} busy, " if stats.workers > 1 else ""
        busy += f"{stats.queued} queued, " if stats.queued and stats.workers > 1 else ""
        shown = "-" if best is None else f"{best.loss:.2f}"
        shown += f" ({optimizer.failed} failed)" if optimizer.failed else ""
        shown += f" ({stats.replacements} workers replaced)" if stats.replacements else ""
        searching = optimizer_words(optimizer_info(optimizer, self.options))
        if self.live:
            said = f"{searching}, gen {optimizer.generation}  {rate:.0f}/s  {busy}best {shown}"
            self.live.update(self.task, completed=done, said=said)
        elif now - self.printed >= PLAIN_EVERY or done >= self.budget:
            self.printed = now
            left = (self.budget - done) / rate if rate else math.nan
            text = (
                f"generation {optimizer.generation}: {done}/{self.budget} evaluations by {searching}, {rate:.1f}/s, "
                f"{busy}best loss {shown}, {left:.0f} s left"
            )
            self.console.print(text, markup=False)


class Scalars:
    """A file of scalars that TensorBoard reads while it grows, where that is installed.

    A disk that refuses it ends the file, not the run.
    """

    def __init__(self, folder: Path) -> None:
        self._file: Any = None
        if find_spec("tensorboard") is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
            self._file = path.open("ab", buffering=0)
            self._records = RecordWriter(self._file)
            self._put(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add values at a step."""
        if self._file is not None:
            summary = self._summary(value=[self._summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])
            self._put(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, event: Any) -> None:
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            logger.warning("TensorBoard is told no more, its file cannot be written: %s", error.strerror or error)
            self.close()
