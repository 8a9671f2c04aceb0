"""The log of a search: journal, history and checkpoints on disk, and how it goes on from them."""

from __future__ import annotations

import logging
import shutil
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.errors import UserError
from evoprompt.files import PARTIAL, replacing
from evoprompt.optim import Evaluation, Optimizer, Trials, load_state, save_state
from evoprompt.parallel import Notes, PoolStats
from evoprompt.study.journal import ASK, ROW, TELL, Journal, as_history, ask_row, distance_sketches
from evoprompt.study.rundir import RunDirectory

__all__ = ["SearchLog", "load_checkpoint", "save_checkpoint"]

logger = logging.getLogger(__name__)

NUMBERED = "[0-9]" * 9  # the names of checkpoints
KEPT = 2  # checkpoints: one folder each, of which the newest good one wins
CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 1.0, 0.05  # no sooner than that, and no more than this share of the time


class SearchLog(Notes):
    """Keeps all that a search evaluates: in the journal at once, as history and checkpoints now and then.

    The journal begins where a checkpoint ends, so that nothing in it is evaluated again, whatever moment the
    process was killed at. A disk that is full stops nothing: what could not be written is written later.

    Where it is `ordered`, the history is sorted by trial number, as the results of a generational run are the same in
    whatever order they arrive. `saved(optimizer)` is called after each checkpoint, to note how far the run is, and
    `show(evaluations, optimizer, stats)` whenever the optimizer was told something. `known` has the row of every trial
    told so far, `pending` the points of those asked for and not told, by number; for a steady-state run.
    """

    def __init__(
        self,
        directory: RunDirectory,
        ordered: bool,
        saved: Callable[[Optimizer], None],
        show: Callable[[int, Optimizer, PoolStats], None],
    ) -> None:
        self.directory, self.ordered, self.saved, self.show = directory, ordered, saved, show
        self.journal = Journal(directory.journal)
        self.known: dict[int, Any] = {int(row["trial"]): row for row in self.journal.told()}
        self.pending: dict[int, NDArray[Any]] = {}
        self._elapsed = max((float(row["elapsed"]) for row in self.known.values()), default=0.0)
        self._began = self._written = time.monotonic()
        self._cost = 0.0
        self._warned = False

    def __len__(self) -> int:
        return len(self.known)

    def restore(self, optimizer: Optimizer) -> list[NDArray[Any]]:
        """Bring a new optimizer to the newest good checkpoint; the events behind that are returned.

        Raises
        ------
        UserError
            The checkpoint is of an earlier version, or of another algorithm or configuration; says what differs.
        """
        state = load_checkpoint(self.directory.checkpoint)
        if state is None:
            return self.journal.since(0)
        if "journal" not in state:
            raise UserError(f"{self.directory.path} was begun by an earlier version of evoprompt; begin it again")
        events = self.journal.since(state["journal"])
        try:
            optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise UserError(f"{self.directory.path} cannot be continued: {error}") from error
        self.pending = dict(zip(state["pending"]["ids"].tolist(), state["pending"]["x"], strict=True))
        return events

    def repeat(self, optimizer: Optimizer, events: list[NDArray[Any]]) -> None:
        """Ask and tell again what a steady-state run did behind its checkpoint."""
        for rows in events:
            if rows["event"][0] == ASK:
                self._note_pending(optimizer.ask(int(rows["trial"][0])))
            else:
                x = np.stack([self.pending.pop(int(number)) for number in rows["trial"]])
                trials = Trials(rows["trial"], x)
                if points(trials) != rows["point"].tolist():
                    raise UserError(
                        f"{self.directory.path} cannot be continued: the search does not come to the candidates that "
                        "its journal holds; use the versions that run.json names"
                    )
                optimizer.tell(trials, rows["loss"])

    def losses_of(self, trials: Trials) -> dict[int, float]:
        """Losses of the trials that were told before; one that was another point then is evaluated again."""
        found, others = {}, 0
        for number, point in zip(trials.ids.tolist(), points(trials), strict=True):
            row = self.known.get(number)
            if row is not None and row["point"] == point:
                found[number] = float(row["loss"])
            others += row is not None and row["point"] != point
        if others:
            logger.warning("%d candidates are others than before the interruption and are evaluated again", others)
        return found

    def asked(self, count: int, trials: Trials, optimizer: Optimizer) -> None:
        """Note trials that a steady-state run asked for."""
        self.journal.append(ask_row(count, optimizer.generation))
        self._note_pending(trials)

    def told(self, generation: int, trials: Trials, evaluation: Evaluation, stats: PoolStats) -> None:
        """Note a micro-batch that was evaluated."""
        rows = np.zeros(len(trials), ROW)
        metrics = evaluation.metrics
        rows["event"], rows["generation"], rows["trial"] = TELL, generation, trials.ids
        rows["loss"] = evaluation.loss
        rows["dimensions"] = metrics.get("dimensions", np.nan)
        rows["invalid"] = metrics.get("invalid", np.nan)
        rows["seconds"] = evaluation.seconds / len(trials)
        rows["elapsed"] = self._elapsed + time.monotonic() - self._began
        rows["workers"], rows["utilisation"], rows["queue"] = stats.workers, stats.utilisation, stats.queued
        rows["worker"], rows["point"], rows["sketch"] = evaluation.worker, points(trials), distance_sketches(trials.x)
        self.known |= {int(row["trial"]): row for row in rows}
        for number in trials.ids.tolist():
            self.pending.pop(number, None)
        self.journal.append(rows)

    def settled(self, optimizer: Optimizer, stats: PoolStats) -> None:
        """Save, if it is time to, and show how far it is."""
        self.checkpoint(optimizer)
        self.show(len(self), optimizer, stats)

    def outstanding(self) -> Trials | None:
        """Trials that were asked for and not told, if there are any."""
        if not self.pending:
            return None
        return Trials(np.array(list(self.pending), dtype=np.int64), np.stack(list(self.pending.values())))

    def checkpoint(self, optimizer: Optimizer, last: bool = False) -> None:
        """Save optimizer and history, if it is time to.

        Raises
        ------
        UserError
            It is the last one, and the disk does not take it.
        """
        now = time.monotonic()
        if not last and now - self._written < max(CHECKPOINT_SECONDS, self._cost / CHECKPOINT_SHARE):
            return
        try:
            self._save(optimizer)
        except OSError as error:
            message = f"cannot write to {self.directory.path}: {error.strerror or error}"
            if last:
                raise UserError(
                    f"{message}; free some space and continue with resume={self.directory.path}: "
                    "all that could be written is kept"
                ) from None
            if not self._warned:
                logger.warning("%s; the search goes on, and writes again as soon as that is possible", message)
            self._warned = True
        else:
            self._warned = False
        self._written = time.monotonic()
        self._cost = self._written - now

    def _save(self, optimizer: Optimizer) -> None:
        self.journal.write()
        if self.journal.trouble is not None:
            raise self.journal.trouble
        if len(self):
            self.journal.sync()
        rows = self.journal.told()
        if self.ordered:
            rows = rows[np.argsort(rows["trial"], kind="stable")]
        with replacing(self.directory.history) as partial:
            as_history(rows).to_parquet(partial, index=False)
        left = self.outstanding() or Trials(np.empty(0, np.int64), np.empty((0, optimizer.d)))
        state = {
            "evaluations": len(self),
            "journal": self.journal.end,
            "optimizer": optimizer.state_dict(),
            "pending": {"ids": left.ids, "x": left.x},
        }
        save_checkpoint(self.directory.checkpoint, len(self), state)
        self.saved(optimizer)

    def _note_pending(self, trials: Trials) -> None:
        self.pending |= dict(zip(trials.ids.tolist(), trials.x, strict=True))


def points(trials: Trials) -> list[int]:
    """A checksum of each candidate."""
    return [zlib.crc32(np.ascontiguousarray(row).tobytes()) for row in trials.x]


def save_checkpoint(folder: Path, evaluations: int, state: Mapping[str, Any]) -> None:
    """Write `state` as `folder/<evaluations>` atomically, and remove all but the newest two."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"*{PARTIAL}"):  # of a save that was killed
        shutil.rmtree(left, ignore_errors=True)
    final = folder / f"{evaluations:09d}"
    with replacing(final) as partial:
        save_state(partial, state)
        shutil.rmtree(final, ignore_errors=True)
    for old in sorted(folder.glob(NUMBERED))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None."""
    for candidate in sorted(folder.glob(NUMBERED), reverse=True):
        try:
            return load_state(candidate)
        except (OSError, ValueError, KeyError):
            continue
    return None
