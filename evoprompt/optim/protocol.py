"""The nouns every optimizer, objective and evaluator of evoprompt agrees on.

An optimizer hands out :class:`Trials`, somebody evaluates them, and the optimizer is told the losses. Nothing
else crosses the border, so optimizers, evaluators and objectives can be exchanged freely.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from evoprompt.typing import Doubles, Floats, Indices

__all__ = ["Best", "Evaluation", "Evaluator", "Losses", "Objective", "Optimizer", "Trials", "shares"]


@dataclass(frozen=True, eq=False)
class Trials:
    """Candidates to evaluate: ids and points.

    Parameters
    ----------
    ids : array_like of int, shape (n,)
        Trial numbers, unique within one optimizer.
    x : array_like, shape (n, d)
        One candidate per row. float32 and float64 are kept, everything else becomes float64.

    Raises
    ------
    ValueError
        If ``ids`` is not one-dimensional, ``x`` not two-dimensional, or their lengths differ.

    Examples
    --------
    >>> trials = Trials([4, 5], [[0.0, 1.0], [2.0, 3.0]])
    >>> len(trials), trials[1:].ids.tolist(), np.asarray(trials).shape
    (2, [5], (2, 2))
    """

    ids: Indices
    x: Floats

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids, dtype=np.int64)
        x = np.asarray(self.x)
        if x.dtype not in (np.float32, np.float64):
            x = x.astype(np.float64)
        if ids.ndim != 1 or x.ndim != 2 or len(ids) != len(x):
            raise ValueError(f"Trials need ids (n,) and x (n, d) of one length, got ids {ids.shape} and x {x.shape}")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "x", x)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Floats]:
        """Rows of ``x``, as iterating over the array would give."""
        return iter(self.x)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        x: NDArray[Any] = self.x if dtype is None else self.x.astype(dtype, copy=False)
        if copy is False and x is not self.x:
            raise ValueError(f"x is {self.x.dtype}, giving it as {x.dtype} needs a copy")
        return x.copy() if copy and x is self.x else x

    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Trials:
        if isinstance(index, int | np.integer):
            raise TypeError(
                f"Trials are indexed by a slice or an array of indices; for one trial use [{index}:{index + 1}]"
            )
        return Trials(self.ids[index], self.x[index])


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What evaluating n candidates brought.

    Parameters
    ----------
    loss : array_like, shape (n,)
        One loss per candidate, stored as float64. A loss that is not finite marks a failed candidate.
    metrics : mapping of str to array_like, each (n, ...)
        Further measurements per candidate.
    seconds : float
        Wall-clock seconds spent on these candidates together.
    worker : str
        Who evaluated them.

    Raises
    ------
    ValueError
        If ``loss`` is not one-dimensional or a metric has another length.

    Examples
    --------
    >>> Evaluation.of([1.0, float("nan")], 2).loss.tolist()
    [1.0, nan]
    """

    loss: Doubles
    metrics: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    seconds: float = 0.0
    worker: str = "local"

    def __post_init__(self) -> None:
        loss = np.asarray(self.loss, dtype=np.float64)
        if loss.ndim != 1:
            raise ValueError(f"losses must have the shape (n,), one per candidate, got {loss.shape}")
        metrics = {name: np.asarray(value) for name, value in self.metrics.items()}
        for name, value in metrics.items():
            if value.ndim == 0 or len(value) != len(loss):
                raise ValueError(f"metric {name!r} must have the shape ({len(loss)}, ...), got {value.shape}")
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "metrics", metrics)

    def __len__(self) -> int:
        return len(self.loss)

    @classmethod
    def of(cls, value: Evaluation | ArrayLike, n: int) -> Evaluation:
        """An evaluation of n candidates from whatever an objective returned.

        Parameters
        ----------
        value : Evaluation or array_like, shape (n,)
            What the objective returned. A scalar counts as one loss.
        n : int
            How many candidates it was given.

        Raises
        ------
        ValueError
            If there are not exactly n losses, or they are not numbers.
        """
        if not isinstance(value, Evaluation):
            if value is None:  # which numpy takes for NaN, and which a forgotten return gives
                raise ValueError(f"losses must be {n} numbers, got None")
            try:
                loss = np.atleast_1d(np.asarray(value, dtype=np.float64))
            except (TypeError, ValueError) as error:
                raise ValueError(f"losses must be {n} numbers, got {value!r:.200}") from error
            value = cls(loss)
        if len(value) != n:
            raise ValueError(f"{n} candidates need {n} losses, got {len(value)}")
        return value


Losses = ArrayLike | Evaluation


class Best(NamedTuple):
    """The best finite evaluation so far; ``id`` is -1 for a point that was never asked."""

    x: Floats
    loss: float
    id: int


def shares(stages: Mapping[str, int]) -> str:
    """Which share of the evaluations each stage had, in words.

    Examples
    --------
    >>> shares({"opening": 20, "lines": 0, "gaussian": 380, "de": 1})
    'opening 5%, gaussian 95%, de 0%'
    """
    total = sum(stages.values())
    return ", ".join(f"{name} {n / total:.0%}" for name, n in stages.items() if n)


class Objective(Protocol):
    """What is minimised: points (n, d) to losses (n,) or an :class:`Evaluation`."""

    def __call__(self, x: Floats, /) -> Losses: ...


@runtime_checkable
class Optimizer(Protocol):
    """A minimiser driven from outside by ``ask`` and ``tell``.

    So far ``evaluations`` were told, of which ``failed`` were not finite; ``asked`` trials were handed out, never more
    than the ``budget``, if there is one; and ``generation`` generations are closed.
    """

    name: str
    """What runs: "auto", "de", "cma", ..."""
    d: int
    """Number of coordinates."""

    @property
    def budget(self) -> int | None: ...
    @property
    def stages(self) -> dict[str, int]:
        """Evaluations told, by what made their points; together they are all of them."""
        ...

    @property
    def evaluations(self) -> int: ...
    @property
    def asked(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def generation(self) -> int: ...

    def ask(self, n: int | None = None) -> Trials:
        """Hand out up to n candidates; ``None`` is the natural batch, the remainder of the current generation.

        Never more than the budget allows: fewer, then an empty ``Trials``.
        """
        ...

    def tell(self, trials: Trials | ArrayLike, losses: Losses) -> None:
        """Take losses in, of any subset of what was asked, in any order, late, or of points never asked."""
        ...

    @property
    def best(self) -> Best | None:
        """The best finite evaluation so far."""
        ...

    @property
    def population(self) -> tuple[Floats, Doubles]:
        """Points (m, d) and losses (m,) of the current population."""
        ...

    def should_stop(self) -> str | None:
        """``None``, or the name of the reason to stop: "budget", "target", "tolerance", "failed", ..."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything the optimizer is, as nested dicts, lists, plain scalars and numpy arrays."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what ``state`` describes: the next ask is bit-identical, in another process too."""
        ...


class Evaluator(Protocol):
    """Evaluates trials somewhere: in this process, or in many."""

    def submit(self, trials: Trials) -> None:
        """Queue trials for evaluation."""
        ...

    def collect(self, timeout: float | None = None) -> Iterator[tuple[Trials, Evaluation]]:
        """Yield micro-batches as they finish, until nothing submitted is outstanding or ``timeout`` seconds passed."""
        ...

    def close(self) -> None:
        """Release the workers."""
        ...
