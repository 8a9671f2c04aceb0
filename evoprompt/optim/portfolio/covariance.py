"""The normal distribution that CMA-ES learns: where good points lie, and along which directions they spread.

N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772 (equation numbers below); negative
weights as in its section B; the diagonal form after R. Ros, N. Hansen, "A simple modification in CMA-ES
achieving linear time and space complexity", PPSN 2008.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from evoprompt.optim.engine.state import Stateful
from evoprompt.typing import Doubles

__all__ = ["Frame", "SearchDistribution"]


_CONDITION = 1e14


class Frame(NamedTuple):
    """Coordinates in which a normal distribution is the standard one."""

    mean: Doubles
    sigma: float
    axes: Doubles
    """Eigenvectors of C in columns, (d, d); (0, 0) if C is diagonal."""
    spread: Doubles
    """Square roots of C's eigenvalues, or of its diagonal, (d,)."""

    def points(self, white: Doubles) -> Doubles:
        """Standard normals (n, d) to points (n, d), each by a product of its own.

        One product of all rows would give a row other last bits when it comes in another batch.
        """
        scaled = white * self.spread
        if self.axes.size:
            scaled = np.matmul(self.axes, scaled[:, :, None])[:, :, 0]
        return self.mean + self.sigma * scaled

    def whiten(self, points: Doubles) -> Doubles:
        """The inverse of :meth:`points`."""
        centred = (points - self.mean) / self.sigma
        return (centred @ self.axes if self.axes.size else centred) / self.spread


class SearchDistribution(Stateful):
    """N(mean, sigma^2 C), moved and shaped by ranked points.

    Parameters
    ----------
    mean : ndarray, shape (d,)
    sigma : float
        Initial standard deviation of every coordinate.
    size : int
        How many points an update expects.
    diagonal : bool
        Learn the variances of coordinates only: linear in d, for high dimension.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> normal = SearchDistribution(np.full(3, 2.0), 0.5, size=8)
    >>> for _ in range(60):
    ...     z = normal.points(rng.standard_normal((8, 3)))
    ...     normal.learn(z[np.argsort((z**2).sum(axis=1))])
    >>> bool(np.abs(normal.mean).max() < 1e-4)
    True
    """

    size: int
    diagonal: bool
    mean: Doubles
    sigma: float
    axes: Doubles
    """Eigenvectors of C in columns."""
    spread: Doubles
    """Square roots of C's eigenvalues, or of its diagonal."""
    _c: Doubles
    _path_c: Doubles
    _path_sigma: Doubles
    _updates: int
    _since_eigen: int

    def __init__(self, mean: Doubles, sigma: float, size: int, *, diagonal: bool = False) -> None:
        d = len(mean)
        self.size, self.diagonal = size, diagonal
        self.mean, self.sigma = np.array(mean, dtype=np.float64), float(sigma)
        self.axes = np.empty((0, 0)) if diagonal else np.eye(d)
        self.spread = np.ones(d)
        self._c = np.ones(d) if diagonal else np.eye(d)
        self._path_c, self._path_sigma = np.zeros(d), np.zeros(d)
        self._updates = self._since_eigen = 0
        self._was_restored()

    def _was_restored(self) -> None:
        self.d = d = len(self.mean)
        size = self.size
        raw = math.log((size + 1) / 2) - np.log(np.arange(1, size + 1))  # (49)
        mu = size // 2
        good, bad = raw[:mu], raw[mu:]
        mueff = good.sum() ** 2 / (good**2).sum()
        mueff_bad = bad.sum() ** 2 / max((bad**2).sum(), 1e-300)
        self._good = good / good.sum()
        self._mueff = float(mueff)
        self._cc = (4 + mueff / d) / (d + 4 + 2 * mueff / d)  # (56)
        c1 = 2 / ((d + 1.3) ** 2 + mueff)  # (57)
        cmu = 2 * (0.25 + mueff + 1 / mueff - 2) / ((d + 2) ** 2 + mueff)  # (58)
        if self.diagonal:  # Ros & Hansen 2008: variances alone can be learnt faster
            c1, cmu = c1 * (d + 2) / 3, cmu * (d + 2) / 3
        self._c1 = min(1.0, c1)
        self._cmu = min(1 - self._c1, cmu)
        limit = min(
            1 + self._c1 / max(self._cmu, 1e-300), 1 + 2 * mueff_bad / (mueff + 2),
            (1 - self._c1 - self._cmu) / max(d * self._cmu, 1e-300),
        )  # (50)-(53)  # fmt: skip
        self._weights = np.concatenate([self._good, limit * bad / max(np.abs(bad).sum(), 1e-300)])
        self._csigma = (mueff + 2) / (d + mueff + 5)  # (55)
        self._damping = 1 + 2 * max(0.0, math.sqrt((mueff - 1) / (d + 1)) - 1) + self._csigma
        self._chi = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))

    @property
    def frame(self) -> Frame:
        """As it is now; later updates do not change it."""
        return Frame(self.mean, self.sigma, self.axes, self.spread)

    def points(self, normals: Doubles) -> Doubles:
        """Standard normals (n, d) to points (n, d)."""
        return self.frame.points(normals)

    @property
    def deviations(self) -> Doubles:
        """Standard deviation of each coordinate, (d,)."""
        variance = self._c if self.diagonal else np.diag(self._c)
        return self.sigma * np.sqrt(variance)

    @property
    def narrow(self) -> bool:
        """Whether the widest direction is below any use in double precision, or C is beyond it."""
        wide, thin = float(self.spread.max()), float(self.spread.min())
        return self.sigma * wide < 1e-11 or wide**2 > _CONDITION * thin**2

    def learn(self, ranked: Doubles) -> None:
        """Update from points (k, d), best first; k may differ from ``size``.

        Points far outside the distribution, which were made otherwise, are shortened to the length a sample
        could have (N. Hansen, "Injecting external solutions into CMA-ES", arXiv:1110.4181).
        """
        d, k = self.d, min(len(ranked), self.size)
        if k == 0:
            return
        steps = (ranked[:k] - self.mean) / self.sigma
        white = (steps if self.diagonal else steps @ self.axes) / self.spread
        length = np.linalg.norm(white, axis=1)
        shorten = np.minimum(1.0, (math.sqrt(d) + 2 * d / (d + 2)) / np.maximum(length, 1e-300))
        steps, white, length = steps * shorten[:, None], white * shorten[:, None], length * shorten
        good = self._good[:k] / self._good[:k].sum()
        step = good @ steps[: len(good)]
        self.mean = self.mean + self.sigma * step  # (42)
        white_step = good @ white[: len(good)]
        turned = white_step if self.diagonal else self.axes @ white_step
        cs, cc = self._csigma, self._cc
        self._path_sigma = (1 - cs) * self._path_sigma + math.sqrt(cs * (2 - cs) * self._mueff) * turned  # (43)
        self._updates += 1
        length_sigma = float(np.linalg.norm(self._path_sigma))
        expected = math.sqrt(1 - (1 - cs) ** (2 * self._updates)) * (1.4 + 2 / (d + 1)) * self._chi
        h = float(length_sigma < expected)
        self._path_c = (1 - cc) * self._path_c + h * math.sqrt(cc * (2 - cc) * self._mueff) * step  # (45)
        weights = self._weights[:k].copy()
        weights[weights < 0] *= d / np.maximum(length[weights < 0] ** 2, 1e-300)  # (46)
        keep = 1 + self._c1 * (1 - h) * cc * (2 - cc) - self._c1 - self._cmu * self._weights[:k].sum()
        if self.diagonal:
            self._c = keep * self._c + self._c1 * self._path_c**2 + self._cmu * (weights @ steps**2)  # (47)
        else:
            self._c = keep * self._c + self._c1 * np.outer(self._path_c, self._path_c)
            self._c += self._cmu * (steps.T * weights) @ steps
        self.sigma *= math.exp(min(1.0, cs / self._damping * (length_sigma / self._chi - 1)))  # (44)
        self._since_eigen += 1
        if self._since_eigen >= 1 / (10 * d * (self._c1 + self._cmu)):
            self._decompose()

    def _decompose(self) -> None:
        self._since_eigen = 0
        if self.diagonal:
            self._c = np.maximum(self._c, 1e-20 * self._c.max())
            self.spread = np.sqrt(self._c)
            return
        self._c = (self._c + self._c.T) / 2
        values, self.axes = np.linalg.eigh(self._c)
        self.spread = np.sqrt(np.maximum(values, 1e-20 * values[-1]))
