"""How F and CR are chosen for each trial, and what is learnt from the trials that beat their parents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ADAPTATIONS", "UNIFORMS", "Adaptation", "FixedParameters", "RunningMeans", "SelfAdaptive", "SuccessHistory"]

Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

_NORMAL = NormalDist()
_QUANTILE = _NORMAL.inv_cdf

UNIFORMS = 4
"""How many uniforms per trial an adaptation may use."""


class Adaptation(Protocol):
    """Chooses F and CR for trials and learns from those that beat their parents."""

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        """F (n,) and CR (n,) for trials that are made to replace the members ``target``, from u (n, UNIFORMS)."""
        ...

    def adopt(self, slots: Indices, f: Doubles, cr: Doubles) -> None:
        """The members at ``slots`` were replaced by trials made with these parameters."""
        ...

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        """Take in one generation's successes: their F, CR and improvements > 0, each (s,)."""
        ...

    def keep(self, members: Indices) -> None:
        """Only these members are left, in this order."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class FixedParameters:
    """The same F and CR for every trial."""

    def __init__(self, f: float, cr: float, **_: Any) -> None:
        self._f, self._cr = f, cr

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        return np.full(len(u), self._f), np.full(len(u), self._cr)

    def adopt(self, slots: Indices, f: Doubles, cr: Doubles) -> None:
        """Members carry nothing."""

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        """Nothing to learn."""

    def keep(self, members: Indices) -> None:
        """Members carry nothing."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


class SelfAdaptive(FixedParameters):
    """jDE: every member carries its own F and CR, which its successful trial may have changed.

    Brest, Greiner, Boskovic, Mernik & Zumer 2006, eqs. 5 and 6, with F_l = 0.1, F_u = 0.9 and tau_1 = tau_2 =
    0.1.

    Parameters
    ----------
    f, cr : float
        What every member begins with; 0.5 and 0.9 in the paper.
    popsize : int
    """

    LOWER, RANGE, TAU = 0.1, 0.9, 0.1

    def __init__(self, f: float, cr: float, popsize: int, **_: Any) -> None:
        self.f, self.cr = np.full(popsize, f), np.full(popsize, cr)

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        f = np.where(u[:, 1] < self.TAU, self.LOWER + u[:, 0] * self.RANGE, self.f[target])
        cr = np.where(u[:, 3] < self.TAU, u[:, 2], self.cr[target])
        return f, cr

    def adopt(self, slots: Indices, f: Doubles, cr: Doubles) -> None:
        self.f[slots], self.cr[slots] = f, cr

    def keep(self, members: Indices) -> None:
        self.f, self.cr = self.f[members], self.cr[members]

    def state_dict(self) -> dict[str, Any]:
        return {"f": self.f.copy(), "cr": self.cr.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.f, self.cr = np.array(state["f"]), np.array(state["cr"])


class RunningMeans(FixedParameters):
    """JADE: F and CR around two means that follow what succeeded (Zhang & Sanderson 2009, eqs. 9 to 12, c = 0.1).

    Parameters
    ----------
    f, cr : float
        Where the means begin; 0.5 in the paper.
    """

    RATE = 0.1

    def __init__(self, f: float, cr: float, **_: Any) -> None:
        self.f, self.cr = f, cr

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        return _positive_cauchy(self.f, 0.1, u[:, 1]), _normal_rate(self.cr, 0.1, u[:, 2])

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        # With no success both means stay; the paper leaves open what the mean of nothing is.
        if len(f):
            self.cr = (1 - self.RATE) * self.cr + self.RATE * float(cr.mean())
            self.f = (1 - self.RATE) * self.f + self.RATE * _lehmer(f, np.ones(len(f)), self.f)

    def state_dict(self) -> dict[str, Any]:
        return {"f": self.f, "cr": self.cr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.f, self.cr = float(state["f"]), float(state["cr"])


class SuccessHistory(FixedParameters):
    """SHADE's memory of the F and CR that worked (Tanabe & Fukunaga 2013).

    Parameters
    ----------
    f, cr : float
        Initial content of every M_F and M_CR.
    memory : int
        H, the number of memory cells.

    Examples
    --------
    >>> history = SuccessHistory(0.5, 0.5, memory=2)
    >>> history.learn(np.array([0.4, 0.8]), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    >>> history.m_f.round(3).tolist(), history.m_cr.tolist()
    ([0.743, 0.5], [0.75, 0.5])
    """

    SPREAD = 0.1

    def __init__(self, f: float, cr: float, memory: int, **_: Any) -> None:
        self.m_f, self.m_cr = np.full(memory, f), np.full(memory, cr)
        self._next = 0

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        """F_i = randc(M_F,r, 0.1), CR_i = randn(M_CR,r, 0.1) with a random cell r."""
        r = (u[:, 0] * len(self.m_f)).astype(np.int64)
        return _positive_cauchy(self.m_f[r], self.SPREAD, u[:, 1]), _normal_rate(self.m_cr[r], self.SPREAD, u[:, 2])

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        """Write one cell, M_F = mean_WL(S_F) and M_CR = mean(S_CR), weighted by the improvements."""
        if len(gains) == 0:
            return
        # Scaled first, so that the sum of huge improvements stays finite.
        weights = gains / gains.max()
        self._write(self._next, f, cr, weights / weights.sum())
        self._next = (self._next + 1) % len(self.m_f)

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        self.m_f[cell] = _lehmer(f, weights, self.m_f[cell])
        self.m_cr[cell] = float((weights * cr).sum())

    def state_dict(self) -> dict[str, Any]:
        return {"m_f": self.m_f.copy(), "m_cr": self.m_cr.copy(), "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.m_f, self.m_cr = np.array(state["m_f"]), np.array(state["m_cr"])
        self._next = int(state["next"])


class TerminalHistory(SuccessHistory):
    """L-SHADE's memory (Tanabe & Fukunaga 2014, Algorithm 1): Lehmer means for CR too, and a terminal value.

    A cell of M_CR whose successes all had CR = 0 becomes terminal (here -1): CR is 0 from then on.
    """

    TERMINAL = -1.0

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        r = (u[:, 0] * len(self.m_f)).astype(np.int64)
        m_f, m_cr = self._means(r)
        f, cr = _positive_cauchy(m_f, self.SPREAD, u[:, 1]), _normal_rate(m_cr, self.SPREAD, u[:, 2])
        cr[m_cr < 0] = 0.0
        return f, cr

    def _means(self, r: Indices) -> tuple[Doubles, Doubles]:
        return self.m_f[r], self.m_cr[r]

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        self.m_f[cell] = _lehmer(f, weights, self.m_f[cell])
        terminal = self.m_cr[cell] == self.TERMINAL or cr.max() == 0
        self.m_cr[cell] = self.TERMINAL if terminal else _lehmer(cr, weights, self.TERMINAL)


class PhasedHistory(TerminalHistory):
    """jSO's memory (Brest, Maucec & Boskovic 2017): slower, one cell fixed at 0.9, F and CR limited by phases.

    New means are averaged with what the cell held; the last cell always reads 0.9, 0.9; CR >= 0.7 and 0.6 in
    the first quarter and half of the budget, F <= 0.7 in its first 60 %.
    """

    def _means(self, r: Indices) -> tuple[Doubles, Doubles]:
        last = r == len(self.m_f) - 1
        return np.where(last, 0.9, self.m_f[r]), np.where(last, 0.9, self.m_cr[r])

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        f, cr = super().draw(u, target, progress)
        if progress < 0.5:
            np.maximum(cr, 0.7 if progress < 0.25 else 0.6, out=cr)
        if progress < 0.6:
            np.minimum(f, 0.7, out=f)
        return f, cr

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        self.m_f[cell] = (_lehmer(f, weights, self.m_f[cell]) + self.m_f[cell]) / 2
        self.m_cr[cell] = (_lehmer(cr, weights, self.TERMINAL) + self.m_cr[cell]) / 2


class TightHistory(PhasedHistory):
    """ARRDE's memory: jSO's with a spread of 0.05, whose last cell becomes 0.9, 0.9 only when it is written."""

    SPREAD = 0.05

    def _means(self, r: Indices) -> tuple[Doubles, Doubles]:
        return self.m_f[r], self.m_cr[r]

    def _write(self, cell: int, f: Doubles, cr: Doubles, weights: Doubles) -> None:
        super()._write(cell, f, cr, weights)
        if cell == len(self.m_f) - 1:
            self.m_f[cell] = self.m_cr[cell] = 0.9

    @property
    def cells(self) -> Doubles:
        """M_F and M_CR, (2, H)."""
        return np.stack([self.m_f, self.m_cr])

    def begin_again(self, m_f: Doubles, m_cr: Doubles) -> None:
        """Refill the memory and write from its first cell on."""
        self.m_f, self.m_cr, self._next = m_f.copy(), m_cr.copy(), 0


class SuccessRate(FixedParameters):
    """L-SRTDE: F from the share of trials that succeeded, CR from a history (Stanovov & Semenkin 2024).

    F is normal around 0.4 + 0.25 tanh(5 SR) with deviation 0.02, redrawn outside [0, 1]; CR is normal around a
    random cell with deviation 0.05. A cell is averaged with the weighted Lehmer mean of the *actual* rates,
    the shares of coordinates that came from the donor.

    Parameters
    ----------
    cr : float
        Initial content of M_CR; 1 in the paper.
    memory : int
        H, the number of memory cells; 5 in the paper.
    """

    def __init__(self, cr: float, memory: int, **_: Any) -> None:
        self.m_cr = np.full(memory, cr)
        self.rate = 0.5
        self._next = 0

    def draw(self, u: Doubles, target: Indices, progress: float) -> tuple[Doubles, Doubles]:
        mean = 0.4 + 0.25 * math.tanh(5 * self.rate)
        low, high = _NORMAL.cdf(-mean / 0.02), _NORMAL.cdf((1 - mean) / 0.02)
        f = _normal_rate(mean, 0.02, low + u[:, 1] * (high - low))
        r = (u[:, 0] * len(self.m_cr)).astype(np.int64)
        return f, _normal_rate(self.m_cr[r], 0.05, u[:, 2])

    def learn(self, f: Doubles, cr: Doubles, gains: Doubles) -> None:
        # Ties count as successes, but have no weight; with nothing else there is no mean.
        if len(gains) and gains.max() > 0:
            weights = gains / gains.max()
            mean = _lehmer(cr, weights / weights.sum(), 1.0)
            self.m_cr[self._next] = 0.5 * (mean + self.m_cr[self._next])
            self._next = (self._next + 1) % len(self.m_cr)

    def state_dict(self) -> dict[str, Any]:
        return {"m_cr": self.m_cr.copy(), "rate": self.rate, "next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.m_cr = np.array(state["m_cr"])
        self.rate, self._next = float(state["rate"]), int(state["next"])


ADAPTATIONS: dict[str, Callable[..., Adaptation]] = {
    "fixed": FixedParameters,
    "jde": SelfAdaptive,
    "jade": RunningMeans,
    "shade": SuccessHistory,
    "lshade": TerminalHistory,
    "jso": PhasedHistory,
    "arrde": TightHistory,
    "lsrtde": SuccessRate,
}
"""Made with the keywords f, cr, memory and popsize."""


def _positive_cauchy(location: Doubles | float, scale: float, u: Doubles) -> Doubles:
    """Cauchy numbers above 0, cut at 1.

    The papers redraw F until it is positive. Mapping the uniform onto the part of the distribution above 0
    gives exactly that from one uniform.
    """
    at_zero = 0.5 - np.arctan(location / scale) / np.pi
    quantile = at_zero + u * (1 - at_zero)
    return (location + scale * np.tan(np.pi * (quantile - 0.5))).clip(0.0, 1.0)


def _normal_rate(mean: Doubles | float, deviation: float, u: Doubles) -> Doubles:
    """Normal numbers cut to [0, 1], by inversion of u in [0, 1)."""
    # Importing scipy.special costs a third of a second and 28 MB, twice a whole population at 40 960 coordinates.
    scores = np.array([_QUANTILE(value) for value in np.maximum(u, 2.0**-54).tolist()])
    scores *= deviation
    scores += mean
    return scores.clip(0.0, 1.0)


def _lehmer(values: Doubles, weights: Doubles, otherwise: float) -> float:
    """Weighted Lehmer mean, sum w v^2 / sum w v; ``otherwise`` where all values are 0."""
    denominator = float((weights * values).sum())
    return float((weights * values * values).sum()) / denominator if denominator > 0 else float(otherwise)
