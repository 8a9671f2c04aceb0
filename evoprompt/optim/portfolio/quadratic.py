"""A quadratic model of the loss around a search distribution, and the step that it suggests.

The idea is N. Hansen's ("A global surrogate assisted CMA-ES", GECCO 2019): a linear, diagonal or full
quadratic model, as far as the points at hand allow, fitted by weighted least squares to those nearest to the
distribution. Here the model makes one point a generation, and only while it ranks new points well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evoprompt.optim.engine.state import Stateful
from evoprompt.optim.portfolio.covariance import Frame
from evoprompt.typing import Doubles

__all__ = ["QuadraticModel"]


_TRUSTED = 0.5  # rank correlation from which on the model's step is tried
_FULL_UP_TO = 40  # dimensions; beyond, only the diagonal in the distribution's own axes is fitted
_CAP = 10.0  # losses beyond so many times the median say no more than "bad"


class Fit(NamedTuple):
    """A fitted model in the coordinates of a distribution: around a point, its gradient there and its Hessian."""

    centre: Doubles
    gradient: Doubles
    hessian: Doubles
    """(d, d), or its diagonal (d,)."""
    around: Frame


class QuadraticModel(Stateful):
    """A model of the loss that is trusted as far as it has ranked points it had not seen.

    Parameters
    ----------
    d : int
        Number of coordinates.
    """

    trust: float
    """Running rank correlation of predictions with what came back."""
    radius: float
    """Of the trust region, in standard deviations."""
    _age: int
    _fitted: Fit | None

    def __init__(self, d: int) -> None:
        self.d = d
        self.trust, self.radius = 0.0, 3.0
        self._full = 1 + d + d * (d + 1) // 2 if d <= _FULL_UP_TO else None
        self._period = max(1, round((d / 20) ** 3 if self._full else d / 60))
        self._age = self._period
        self._fitted = None

    @property
    def capacity(self) -> int:
        """How many points are worth keeping; a fit takes the nearest of them."""
        return 8 * self._full if self._full else 3 * (2 * self.d + 1)

    @property
    def trusted(self) -> bool:
        return self._fitted is not None and self.trust >= _TRUSTED

    def fit(self, points: Doubles, losses: Doubles, around: Frame) -> None:
        """Fit to the points (n, d) with finite losses (n,) that are nearest to the distribution."""
        self._age += 1
        if self._age < self._period and self._fitted is not None:
            return
        n, d = len(points), self.d
        diagonal = 2 * d + 1
        if self._full is not None and n >= 1.1 * self._full:
            kind, wanted = "full", int(1.5 * self._full) + d
        elif n >= 1.3 * diagonal:
            kind, wanted = "diagonal", 2 * diagonal + d
        elif n >= d + 3:
            kind, wanted = "linear", 3 * d + 2
        else:
            return
        self._age = 0
        white = around.whiten(points)
        distance = (white**2).sum(axis=1)
        if wanted < n:
            near = np.argpartition(distance, wanted - 1)[:wanted]
            white, losses = white[near], losses[near]
        order = np.argsort(losses, kind="stable")
        least = float(losses[order[0]])
        scale = float(np.median(losses)) - least
        if not (np.isfinite(scale) and scale > 0):
            self._fitted = None
            return
        weights = np.empty(len(order))
        weights[order] = np.linspace(20, 1, len(order))
        y = np.minimum((losses - least) / scale, _CAP)
        centre = white[order[0]]
        found = _least_squares(white - centre, y, weights, kind)
        self._fitted = None if found is None else Fit(centre, *found, around)

    def judge(self, points: Doubles, losses: Doubles) -> None:
        """Compare predictions for new points (k, d) with their losses (k,)."""
        if self._fitted is None or len(losses) < 3:
            return
        centre, gradient, hessian, around = self._fitted
        z = around.whiten(points) - centre
        predicted = z @ gradient + 0.5 * ((z @ hessian if hessian.ndim == 2 else z * hessian) * z).sum(axis=1)
        a, b = (np.argsort(np.argsort(v, kind="stable"), kind="stable") for v in (predicted, losses))
        self.trust += 0.5 * (float(np.corrcoef(a, b)[0, 1]) - self.trust)

    def step(self) -> Doubles | None:
        """The model's minimum within the trust region around the best point known: (d,)."""
        if self._fitted is None or self._age:
            return None
        centre, gradient, hessian, around = self._fitted
        return np.asarray(around.points((centre + _trust_region_step(gradient, hessian, self.radius))[None])[0])

    def reward(self, improved: bool) -> None:
        """Widen or narrow the trust region."""
        self.radius = float(np.clip(self.radius * (1.5 if improved else 0.8), 0.3, 10.0))


def _least_squares(z: Doubles, y: Doubles, weights: Doubles, kind: str) -> tuple[Doubles, Doubles] | None:
    """Gradient (d,) at z = 0 and Hessian, (d, d) or its diagonal (d,)."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve  # slow to import

    n, d = z.shape
    columns = [np.ones((n, 1)), z]
    if kind != "linear":
        columns.append(0.5 * z * z)
    if kind == "full":
        i, j = np.triu_indices(d, 1)
        columns.append(z[:, i] * z[:, j])
    a = np.concatenate(columns, axis=1)
    root = np.sqrt(weights)
    a *= root[:, None]
    normal = a.T @ a
    normal[np.diag_indices_from(normal)] += 1e-9 * np.trace(normal) / len(normal)
    try:
        c = cho_solve(cho_factor(normal, overwrite_a=True, check_finite=False), a.T @ (y * root), check_finite=False)
    except LinAlgError:
        return None
    if not np.isfinite(c).all():
        return None
    gradient = c[1 : d + 1]
    if kind == "linear":
        return gradient, np.zeros(d)
    if kind == "diagonal":
        return gradient, c[d + 1 :]
    hessian = np.zeros((d, d))
    hessian[i, j] = c[2 * d + 1 :]
    hessian += hessian.T
    hessian[np.diag_indices(d)] = c[d + 1 : 2 * d + 1]
    return gradient, hessian


def _trust_region_step(gradient: Doubles, hessian: Doubles, radius: float) -> Doubles:
    """argmin of g s + s H s / 2 over |s| <= radius (J. Nocedal, S. Wright, Numerical Optimization, section 4.3)."""
    if hessian.ndim == 1:
        values, g = hessian, gradient
    else:
        values, axes = np.linalg.eigh(hessian)
        g = axes.T @ gradient
    least, largest = float(values.min()), float(np.abs(values).max())
    shift = 0.0
    if least <= 0 or np.linalg.norm(g / values) > radius:
        low = max(0.0, -least) + 1e-14 * max(1.0, largest)
        high = low + float(np.linalg.norm(g)) / radius + 1e-12
        for _ in range(60):
            shift = (low + high) / 2
            if np.linalg.norm(g / (values + shift)) > radius:
                low = shift
            else:
                high = shift
        shift = high
    step = -g / (values + shift)
    return step if hessian.ndim == 1 else axes @ step
