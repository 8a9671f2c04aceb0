"""The accounts every optimizer keeps: what was handed out, what came back, what is best, when to stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evoprompt.optim.protocol import Best, Evaluation, Losses, Trials

__all__ = ["FOREIGN", "Ledger", "Told"]

FOREIGN = -1
"""The id of a point that was told without having been asked."""


class Told(NamedTuple):
    """One evaluation that came back."""

    id: int
    x: NDArray[np.floating[Any]]
    loss: float


class Ledger:
    """Budget, outstanding trials, failures and the best evaluation of one optimizer.

    Parameters
    ----------
    d : int
        Number of coordinates.
    dtype : numpy dtype
        Of the points.
    budget : int or None
        Most evaluations that may be handed out; points told without being asked use it up as well.
    target : float or None
        A loss that is good enough.
    patience : int
        So many failures in a row are a reason to stop.
    """

    def __init__(
        self, d: int, dtype: np.dtype[Any], *, budget: int | None, target: float | None, patience: int
    ) -> None:
        self.d, self.dtype = d, dtype
        self.budget = _checked_budget(budget)
        self.target = target
        self.patience = patience
        self.asked = self.evaluations = self.failed = self.failed_in_a_row = self._foreign = 0
        self.best: Best | None = None
        self.outstanding: dict[int, NDArray[np.floating[Any]]] = {}

    @property
    def remaining(self) -> int | None:
        """How many more trials may be handed out; None without a budget."""
        return None if self.budget is None else max(0, self.budget - self.asked - self._foreign)

    @property
    def exhausted(self) -> bool:
        return self.remaining == 0

    def grant(self, n: int | None, natural: int) -> int:
        """How many trials an ``ask(n)`` gets.

        Raises
        ------
        ValueError
            If n is not None or an integer >= 0.
        """
        if n is not None and (isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0):
            raise ValueError(f"ask takes None or a number of trials >= 0, got {n!r}")
        wanted = natural if n is None else int(n)
        return wanted if self.remaining is None else min(wanted, self.remaining)

    def next_ids(self, n: int) -> NDArray[np.int64]:
        """The numbers of the next n trials."""
        return np.arange(self.asked, self.asked + n, dtype=np.int64)

    def hand_out(self, x: NDArray[np.floating[Any]]) -> Trials:
        """Number the rows of x (n, d), note them as outstanding, and return them."""
        trials = Trials(self.next_ids(len(x)), x.astype(self.dtype, copy=True))
        kept = trials.x.copy()  # the caller may write into what it was given
        self.outstanding.update(zip(trials.ids.tolist(), kept, strict=True))
        self.asked += len(trials)
        return trials

    def receive(self, trials: Trials | ArrayLike, losses: Losses) -> list[Told]:
        """Take evaluations in; outstanding ones are struck off.

        Parameters
        ----------
        trials : Trials or array_like, shape (n, d)
            Rows of a plain array that equal an outstanding trial are that trial; other rows, and trial
            numbers that were never handed out, are points told without having been asked. For an outstanding
            trial the point that was handed out counts, whatever x says.
        losses : array_like (n,) or Evaluation

        Raises
        ------
        ValueError
            If shapes do not fit, or a trial was told before; nothing is taken in then.
        """
        if not isinstance(trials, Trials):
            x = np.atleast_2d(np.asarray(trials))
            self._check_points(x)
            trials = Trials(self._recognise(x), x)
        self._check_points(trials.x)
        loss = Evaluation.of(losses, len(trials)).loss
        ids = [i if 0 <= i < self.asked else FOREIGN for i in trials.ids.tolist()]
        own = [i for i in ids if i != FOREIGN]
        repeated = [i for i, times in Counter(own).items() if times > 1 or i not in self.outstanding]
        if repeated:
            raise ValueError(f"each trial is told once, but {repeated[:10]} were told before")
        rows = trials.x.astype(self.dtype, copy=False)
        told = []
        for i, row, value in zip(ids, rows, loss.tolist(), strict=True):
            x = row.copy() if i == FOREIGN else self.outstanding.pop(i)
            self._foreign += i == FOREIGN
            self._count(i, x, value)
            told.append(Told(i, x, value))
        return told

    def note_best(self, id: int, x: NDArray[np.floating[Any]], loss: float) -> None:
        """Remember a finite evaluation if none was better; ties go to the lower trial number."""
        if self.best is None or (loss, id) < (self.best.loss, self.best.id):
            self.best = Best(x.copy(), loss, id)

    def reason(self) -> str | None:
        """Why to stop: "target", "budget" or "failed"; None to go on."""
        if self.target is not None and self.best is not None and self.best.loss <= self.target:
            return "target"
        if self.budget is not None and self.evaluations >= self.budget:
            return "budget"
        return "failed" if self.failed_in_a_row >= self.patience else None

    def _count(self, id: int, x: NDArray[np.floating[Any]], loss: float) -> None:
        self.evaluations += 1
        if np.isfinite(loss):
            self.failed_in_a_row = 0
            self.note_best(id, x, loss)
        else:
            self.failed += 1
            self.failed_in_a_row += 1

    def _check_points(self, x: NDArray[Any]) -> None:
        if x.ndim != 2 or x.shape[1] != self.d:
            raise ValueError(f"points must have the shape (n, {self.d}), got {x.shape}")

    def _recognise(self, x: NDArray[Any]) -> NDArray[np.int64]:
        waiting: dict[bytes, list[int]] = {}
        for i, row in self.outstanding.items():
            waiting.setdefault(row.tobytes(), []).append(i)
        rows = x.astype(self.dtype)
        found = [waiting.get(row.tobytes(), []) for row in rows]
        return np.array([ids.pop(0) if ids else FOREIGN for ids in found], dtype=np.int64)

    def state_dict(self) -> dict[str, Any]:
        best = self.best
        return {
            "asked": self.asked,
            "evaluations": self.evaluations,
            "failed": self.failed,
            "failed_in_a_row": self.failed_in_a_row,
            "foreign": self._foreign,
            "best": None if best is None else {"x": best.x.copy(), "loss": best.loss, "id": best.id},
            "outstanding_ids": np.array(list(self.outstanding), dtype=np.int64),
            "outstanding_x": np.array(list(self.outstanding.values()), dtype=self.dtype).reshape(-1, self.d),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.asked, self.evaluations = int(state["asked"]), int(state["evaluations"])
        self.failed, self.failed_in_a_row = int(state["failed"]), int(state["failed_in_a_row"])
        self._foreign = int(state["foreign"])
        best = state["best"]
        self.best = None if best is None else Best(np.array(best["x"]), float(best["loss"]), int(best["id"]))
        rows = np.array(state["outstanding_x"])
        self.outstanding = dict(zip(np.asarray(state["outstanding_ids"]).tolist(), rows, strict=True))


def _checked_budget(budget: int | None) -> int | None:
    if budget is None:
        return None
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or budget < 1:
        raise ValueError(f"budget must be None or a number of evaluations >= 1, got {budget!r}")
    return int(budget)
