"""How F and CR are chosen for each trial, and the archive of parents that were beaten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = ["UNIFORMS", "Adaptation", "Archive", "FixedParameters", "SuccessHistory"]

Doubles = NDArray[np.float64]

UNIFORMS = 3
"""How many uniforms per trial an adaptation may use."""


class Adaptation(Protocol):
    """Chooses F and CR for trials and learns from those that beat their parents."""

    def draw(self, u: Doubles) -> tuple[Doubles, Doubles]:
        """F (n,) and CR (n,) from uniforms u (n, UNIFORMS)."""
        ...

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        """Take in one generation's successes: their F, CR and loss improvements > 0, each (s,)."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class FixedParameters:
    """The same F and CR for every trial."""

    def __init__(self, f: float, cr: float) -> None:
        self._f, self._cr = f, cr

    def draw(self, u: Doubles) -> tuple[Doubles, Doubles]:
        return np.full(len(u), self._f), np.full(len(u), self._cr)

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        """Nothing to learn."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


class SuccessHistory:
    """SHADE's memory of the F and CR that worked (Tanabe & Fukunaga 2013).

    Parameters
    ----------
    size : int
        H, the number of memory cells.
    f, cr : float
        Initial content of every M_F and M_CR.

    Examples
    --------
    >>> memory = SuccessHistory(size=2)
    >>> memory.learn(np.array([0.4, 0.8]), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    >>> memory.m_f.round(3).tolist(), memory.m_cr.tolist()
    ([0.743, 0.5], [0.75, 0.5])
    """

    def __init__(self, size: int, f: float = 0.5, cr: float = 0.5) -> None:
        self.m_f = np.full(size, f)
        self.m_cr = np.full(size, cr)
        self._next = 0

    def draw(self, u: Doubles) -> tuple[Doubles, Doubles]:
        """F_i = randc(M_F,r, 0.1), CR_i = randn(M_CR,r, 0.1) with a random cell r, by inverse distribution functions.

        The paper redraws F until it is positive. Mapping the uniform onto the part of the Cauchy distribution
        above 0 gives exactly that distribution from one uniform. F is then truncated to 1, CR to [0, 1].
        """
        r = np.floor(u[:, 0] * len(self.m_f)).astype(np.int64)
        m_f, m_cr = self.m_f[r], self.m_cr[r]
        at_zero = 0.5 - np.arctan(m_f / 0.1) / np.pi
        quantile = at_zero + u[:, 1] * (1 - at_zero)
        f = np.clip(m_f + 0.1 * np.tan(np.pi * (quantile - 0.5)), 0.0, 1.0)
        cr = np.clip(m_cr + 0.1 * ndtri(u[:, 2]), 0.0, 1.0)
        return f, cr

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        """Write one cell: M_CR = mean_WA(S_CR), M_F = mean_WL(S_F), weighted by the improvements."""
        if len(gains) == 0:
            return
        # Scaled first, so that the sum of huge improvements stays finite.
        w = gains / gains.max()
        w = w / w.sum()
        if (denominator := float((w * f).sum())) > 0:
            self.m_f[self._next] = (w * f * f).sum() / denominator  # weighted Lehmer mean
        self.m_cr[self._next] = (w * cr).sum()  # weighted arithmetic mean
        self._next = (self._next + 1) % len(self.m_f)

    def state_dict(self) -> dict[str, Any]:
        return {"m_f": self.m_f.copy(), "m_cr": self.m_cr.copy(), "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.m_f, self.m_cr = np.array(state["m_f"]), np.array(state["m_cr"])
        self._next = int(state["next"])


class Archive:
    """JADE's external archive (Zhang & Sanderson 2009, section III-A): at most ``capacity`` parents that lost."""

    def __init__(self, capacity: int, d: int, dtype: np.dtype[Any]) -> None:
        self.capacity = capacity
        self._rows: NDArray[np.floating[Any]] = np.empty((capacity, d), dtype=dtype)
        self._size = 0

    @property
    def x(self) -> NDArray[np.floating[Any]]:
        """Archived parents, (a, d)."""
        return self._rows[: self._size]

    def add(self, parent: NDArray[np.floating[Any]], rng: np.random.Generator) -> None:
        """Keep a parent; when full, in place of a random one."""
        if self.capacity == 0:
            return
        if self._size < self.capacity:
            self._rows[self._size] = parent
            self._size += 1
        else:
            self._rows[int(rng.random() * self.capacity)] = parent

    def state_dict(self) -> dict[str, Any]:
        return {"x": self.x.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._size = len(state["x"])
        self._rows[: self._size] = state["x"]
