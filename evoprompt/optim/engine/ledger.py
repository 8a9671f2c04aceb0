"""The accounts every optimizer keeps: what was handed out, what came back, what is best, when to stop.

Trials are kept in blocks, one for each ask, so that a whole generation costs a few array operations whatever
its size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evoprompt.checks import whole_number
from evoprompt.optim.engine.algorithm import Made, Results
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.engine.stopwatch import Stopwatch
from evoprompt.optim.protocol import Best, Evaluation, Losses, Trials
from evoprompt.typing import Bools, Doubles, Floats, Indices

__all__ = ["FOREIGN", "Block", "Ledger", "Received", "Told", "cleaned"]

FOREIGN = -1
"""The id of a point that was told without having been asked."""


@dataclass(eq=False, slots=True)
class Block:
    """Trials handed out together: n successive ids."""

    ids: Indices
    x: Floats
    """(n, d) as handed out, shared with the caller and read-only."""
    rounded_from: Floats | None
    """(n, d) as the algorithm made them, where coordinates were rounded."""
    slots: Indices
    tags: Doubles
    """(n, k)."""
    stage: Indices
    """Which of the algorithm's stages made each."""
    awaited: bool
    """Whether a generation waits for them."""
    pending: Bools
    """Which have not been told yet; ``left`` counts them."""
    loss: Doubles
    violation: Doubles
    """What was told: inf and 0 where failed, NaN where pending."""
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = int(np.count_nonzero(self.pending))
        self.ids.flags.writeable = self.x.flags.writeable = False

    def results(self, offsets: Any) -> Results:
        """What came of some trials, as the algorithm made them; offsets are a slice or indices."""
        made = self.x if self.rounded_from is None else self.rounded_from
        columns = self.ids, self.slots, made, self.loss, self.violation, self.tags
        return Results(*(column[offsets] for column in columns))

    def fill(self, offsets: Any, loss: Doubles, violation: Doubles) -> None:
        """Note what was told for some trials; offsets are a slice or indices."""
        self.loss[offsets], self.violation[offsets] = loss, violation
        self.pending[offsets] = False
        self.left -= len(loss)


class Told(NamedTuple):
    """One evaluation that came back."""

    id: int
    x: Floats
    loss: float


class Received(NamedTuple):
    """Evaluations that came back together, n of them in the order told."""

    ids: Indices
    """(n,), FOREIGN for guests."""
    loss: Doubles
    """(n,), inf where failed."""
    violation: Doubles
    """(n,), 0 where failed or nothing is violated."""
    pieces: list[tuple[Block, Any, Any]]
    """For each block concerned: the block, which of the n (n_b,), and where in the block (n_b,)."""
    guests: Indices
    """Which of the n are guests, (g,)."""
    guest_x: Floats
    """(g, d)."""

    def row(self, i: int) -> Floats:
        """The i-th point as it was handed out; a view."""
        for block, _, _ in self.pieces:
            offset = int(self.ids[i] - block.ids[0])
            if self.ids[i] != FOREIGN and 0 <= offset < len(block.ids):
                return block.x[offset]
        row: Floats = self.guest_x[int(np.searchsorted(self.guests, i))]
        return row


class Ledger(Stateful):
    """Budget, outstanding trials, failures and the best evaluation of one optimizer.

    Parameters are those of :class:`~evoprompt.optim.AskTell`.
    """

    asked: int
    evaluations: int
    failed: int
    failed_in_a_row: int
    foreign: int
    watch: Stopwatch
    best: Best | None
    best_violation: float
    blocks: dict[int, Block]
    """Trials outstanding, by the first id of each block."""

    def __init__(
        self,
        box: Box,
        popsize: int,
        *,
        budget: int | None = None,
        target: float | None = None,
        seconds: float | None = None,
    ) -> None:
        self._box, self.d, self.dtype = box, box.d, box.dtype
        self.budget, self.target, self.seconds = budget, target, seconds
        # So many failures in a row are a reason to stop.
        self._patience = max(popsize, 100 if budget is None else min(100, budget // 4))
        self.watch = Stopwatch()
        self.asked = self.evaluations = self.failed = self.failed_in_a_row = self.foreign = 0
        self.best = None
        self.best_violation = np.inf
        self.blocks = {}

    @property
    def remaining(self) -> int | None:
        """How many more trials may be handed out; None without a budget."""
        return None if self.budget is None else max(0, self.budget - self.asked - self.foreign)

    @property
    def exhausted(self) -> bool:
        return self.remaining == 0

    @property
    def in_flight(self) -> int:
        """How many trials are outstanding."""
        return self.asked + self.foreign - self.evaluations

    @property
    def outstanding(self) -> Indices:
        """Numbers of the trials that were handed out and not told yet, ascending."""
        return np.concatenate([np.empty(0, np.int64), *(block.ids[block.pending] for block in self.blocks.values())])

    @property
    def progress(self) -> float:
        """Spent share of the budget or of the time, whichever is more, at most 1; NaN without either."""
        shares = [1.0]
        if self.budget is not None:
            shares.append(self.evaluations / self.budget)
        if self.seconds is not None:
            shares.append(self.watch.elapsed / self.seconds)
        return min(1.0, max(shares[1:])) if len(shares) > 1 else np.nan

    def tick(self) -> None:
        """Read the clock, if there is a time limit; what follows happens at this time."""
        if self.seconds is not None:
            self.watch.tick()

    def grant(self, n: int | None, natural: int, *, tick: bool = True) -> int:
        """How many trials an ``ask(n)`` gets, now or, without a tick, at the time of the last one.

        Raises
        ------
        ValueError
            If n is not None or an integer >= 0.
        """
        wanted = natural if n is None else whole_number("n", n, 0, what="None or a number of trials")
        if tick:
            self.tick()
        if self.seconds is not None and self.watch.elapsed >= self.seconds:
            return 0
        return wanted if self.remaining is None else min(wanted, self.remaining)

    def next_ids(self, n: int) -> Indices:
        """The numbers of the next n trials."""
        return np.arange(self.asked, self.asked + n, dtype=np.int64)

    def hand_out(self, x: Floats) -> Trials:
        """Number the rows of x (n, d), note them as outstanding, and return them."""
        made = Made(x.astype(self.dtype, copy=True), np.empty((len(x), 0)), 0)
        return self.note(made.x, made, np.full(len(x), FOREIGN), awaited=0)

    def note(self, x: Floats, made: Made, slots: Indices, *, awaited: int) -> Trials:
        """Number trials and note them as outstanding, by reference; their points become read-only.

        Parameters
        ----------
        x : ndarray, shape (n, d)
            As handed out.
        made : Made
        slots : ndarray of int64, shape (n,)
        awaited : int
            How many of them, at the front, a generation waits for.
        """
        x.flags.writeable = made.x.flags.writeable = False
        n = len(x)
        trials, stage = Trials(self.next_ids(n), x), np.full(n, made.stage)
        for part in (slice(0, awaited), slice(awaited, n)):
            m = part.stop - part.start
            if m:
                # If it is one block, it has the very arrays that the caller gets, which are known again at once.
                told = trials if m == n else trials[part]
                rounded_from = None if x is made.x else made.x[part]
                columns = slots[part], made.tags[part], stage[part], part.start < awaited, np.ones(m, bool)
                block = Block(told.ids, told.x, rounded_from, *columns, *np.full((2, m), np.nan))
                self.blocks[int(told.ids[0])] = block
        self.asked += n
        return trials

    def receive(self, trials: Trials | ArrayLike, losses: Losses) -> list[Told]:
        """Like :meth:`take`, as a list in the order told; failures have the loss inf."""
        received = self.take(trials, losses)
        pairs = enumerate(zip(received.ids.tolist(), received.loss.tolist(), strict=True))
        return [Told(id, received.row(i), loss) for i, (id, loss) in pairs]

    def take(self, trials: Trials | ArrayLike, losses: Losses, violation: ArrayLike | None = None) -> Received:
        """Take evaluations in, as :meth:`evoprompt.optim.AskTell.tell` says; outstanding ones are struck off.

        Trial numbers that were never handed out are guests too. For an outstanding trial the point that was handed
        out counts, whatever x says.
        """
        if not isinstance(trials, Trials):
            x = np.atleast_2d(np.asarray(trials))
            self._check_points(x)
            trials = Trials(self._recognise(x), x)
        self._check_points(trials.x)
        n = len(trials)
        self.tick()
        evaluation = Evaluation.of(losses, n)
        loss, excess = cleaned(evaluation.loss, evaluation.metrics.get("violation") if violation is None else violation)
        ids, pieces, guests = self._locate(trials.ids)
        guest_x = np.empty((0, self.d), self.dtype)
        if len(guests):
            guest_x = self._box.points(trials.x[guests], "points told without being asked")
        received = Received(ids, loss, excess, pieces, guests, guest_x)
        for block, which, offsets in pieces:
            block.fill(offsets, loss[which], excess[which])
            if block.left == 0:
                del self.blocks[int(block.ids[0])]
        self.foreign += len(guests)
        self._count(received)
        return received

    def note_best(self, id: int, x: Floats, loss: float, violation: float = 0.0) -> None:
        """Remember a finite evaluation if none was better: less violation first, then less loss, then the lower id."""
        if self.best is None or (violation, loss, id) < (self.best_violation, self.best.loss, self.best.id):
            self.best, self.best_violation = Best(x.copy(), loss, id), violation

    def reason(self) -> str | None:
        """Why to stop: "target", "budget", "deadline" or "failed"; None to go on."""
        reached = self.target is not None and self.best is not None and self.best.loss <= self.target
        if reached and self.best_violation == 0:
            return "target"
        if self.budget is not None and self.evaluations >= self.budget:
            return "budget"
        if self.seconds is not None and self.watch.read() >= self.seconds:
            return "deadline"
        return "failed" if self.failed_in_a_row >= self._patience else None

    def _count(self, received: Received) -> None:
        good = np.isfinite(received.loss)
        n, finite = len(good), int(np.count_nonzero(good))
        self.evaluations += n
        self.failed += n - finite
        if finite == 0:
            self.failed_in_a_row += n
            return
        self.failed_in_a_row = int(good[::-1].argmax())
        i, violation = 0, received.violation
        if n > 1:
            violation = np.where(good, violation, np.inf)
            i = int(np.lexsort((received.ids, received.loss, violation))[0])
        self.note_best(int(received.ids[i]), received.row(i), float(received.loss[i]), float(violation[i]))

    def _locate(self, ids: Indices) -> tuple[Indices, list[tuple[Block, Any, Any]], Indices]:
        """Each trial's block and place; ids that were never handed out become FOREIGN.

        Raises
        ------
        ValueError
            If a trial is told twice.
        """
        nobody = np.empty(0, np.int64)
        first = self.blocks.get(int(ids[0])) if len(ids) else None
        if first is not None and first.left == len(first.ids) and (ids is first.ids or np.array_equal(ids, first.ids)):
            return first.ids, [(first, slice(None), slice(None))], nobody
        known = (ids >= 0) & (ids < self.asked)
        own = np.flatnonzero(known)
        blocks = list(self.blocks.values())
        starts = np.fromiter(self.blocks, np.int64, len(blocks))
        place = np.searchsorted(starts, ids[own], side="right") - 1
        pieces, repeated = [], [nobody]
        for b in np.unique(place).tolist():
            which = own[place == b]
            offsets = ids[which] - starts[b] if b >= 0 else nobody
            if b < 0 or offsets.max() >= len(blocks[b].ids) or not blocks[b].pending[offsets].all():
                repeated.append(ids[which][~np.isin(ids[which], self.outstanding)])
            elif len(np.unique(offsets)) < len(offsets):
                values, times = np.unique(ids[which], return_counts=True)
                repeated.append(values[times > 1])
            else:
                pieces.append((blocks[b], which, offsets))
        if len(wrong := np.concatenate(repeated)):
            raise ValueError(f"each trial is told once, but {wrong[:10].tolist()} were told before")
        return np.where(known, ids, FOREIGN), pieces, np.flatnonzero(~known)

    def _check_points(self, x: NDArray[Any]) -> None:
        if x.ndim != 2 or x.shape[1] != self.d:
            raise ValueError(f"points must have the shape (n, {self.d}), got {x.shape}")

    def _recognise(self, x: NDArray[Any]) -> Indices:
        for block in self.blocks.values():
            if x is block.x and block.left == len(block.ids):
                return block.ids
        waiting: dict[bytes, list[int]] = {}
        for block in self.blocks.values():
            for offset in np.flatnonzero(block.pending).tolist():
                waiting.setdefault(block.x[offset].tobytes(), []).append(int(block.ids[offset]))
        with np.errstate(over="ignore"):
            rows = x.astype(self.dtype)
        found = [waiting.get(row.tobytes(), []) for row in rows]
        return np.array([ids.pop(0) if ids else FOREIGN for ids in found], dtype=np.int64)


def cleaned(loss: Doubles, violation: ArrayLike | None) -> tuple[Doubles, Doubles]:
    """Losses with inf for failures, and violations that are never negative.

    Raises
    ------
    ValueError
        If violations are not n numbers.
    """
    good = np.isfinite(loss)
    if violation is None:
        return np.where(good, loss, np.inf), np.zeros(len(loss))
    try:
        excess = np.asarray(violation, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"violations must be {len(loss)} numbers, got {violation!r:.200}") from error
    if excess.shape != loss.shape:
        raise ValueError(f"violations must have the shape ({len(loss)},), one per candidate, got {excess.shape}")
    good &= np.isfinite(excess)
    return np.where(good, loss, np.inf), np.where(good, np.maximum(excess, 0.0), 0.0)
