"""Search spaces: maps from vectors z, which an optimizer moves, to the soft prompts they stand for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from evoprompt.typing import Doubles, Floats


@dataclass(frozen=True, eq=False)
class Space(ABC):
    """A map from z (n, d) to soft prompts (n, tokens, hidden); `centre` (tokens, hidden) is the one of z = 0.

    A space is built again from what `describe` and `tensors` give: its fields.
    """

    kind: ClassVar[str]
    centre: Floats
    _: KW_ONLY
    scale: float

    @property
    @abstractmethod
    def d(self) -> int:
        """Number of coordinates of z."""

    @property
    @abstractmethod
    def bounds(self) -> Doubles:
        """Bounds of the coordinates, (d, 2): lower and upper."""

    @abstractmethod
    def _steps(self, z: Floats) -> Floats:
        """What z (n, d) adds to the centre, a shape that reads as (n, tokens, hidden)."""

    def decode(self, z: Floats) -> torch.Tensor:
        """z (n, d) -> soft prompts (n, tokens, hidden), float32, rounded alike however many come together.

        Raises
        ------
        ValueError
            z is not of shape (n, d).
        """
        array = np.asarray(z, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != self.d:
            raise ValueError(f"z must be (n, {self.d}), got {array.shape}")
        return torch.from_numpy(self.centre + self._steps(array).reshape(-1, *self.centre.shape))

    def describe(self) -> dict[str, Any]:
        """Kind and numbers, as JSON takes them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        numbers = {name: v for name, v in values.items() if v is not None and not isinstance(v, np.ndarray)}
        return {"kind": self.kind} | {name: np.asarray(number).item() for name, number in numbers.items()}

    def tensors(self) -> dict[str, Floats]:
        """The arrays that a file of the space holds."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Cube(Space):
    """A space whose every coordinate lies within +-limit."""

    limit: float = 3.0

    @property
    def bounds(self) -> Doubles:
        """Bounds of the coordinates, (d, 2)."""
        return np.tile([-self.limit, self.limit], (self.d, 1))


@dataclass(frozen=True, eq=False, kw_only=True)
class FullSpace(Cube):
    """Every entry of the soft prompt is a coordinate: prompt = centre + scale * z, z within +-limit."""

    kind = "full"

    @property
    def d(self) -> int:
        """Number of coordinates: tokens * hidden."""
        return int(self.centre.size)

    def _steps(self, z: Floats) -> Floats:
        return np.float32(self.scale) * z


@dataclass(frozen=True, eq=False, kw_only=True)
class RandomProjection(Cube):
    """prompt = centre + scale * profile * (A z) / sqrt(d), with a fixed Gaussian A of shape (tokens * hidden, d).

    A z / sqrt(d) has unit variance for a z of unit variance, so `scale` is in units of the prompt's entries. `profile`
    (hidden,) tells how much more or less than that each dimension of an embedding spreads; without one all spread
    alike. Source: intrinsic dimension as in Black-Box Tuning (Sun et al., 2022).
    """

    kind = "random_projection"
    dimensions: int
    seed: int = 0
    profile: Floats | None = None

    @cached_property
    def matrix(self) -> Floats:
        """A, scaled, transposed: (d, tokens * hidden). Rebuilt from the seed wherever it is needed."""
        rng = np.random.Generator(np.random.Philox(key=self.seed))
        gaussian = rng.standard_normal((self.dimensions, self.centre.size), dtype=np.float32)
        gaussian *= np.float32(self.scale / np.sqrt(self.dimensions))
        return gaussian if self.profile is None else gaussian * np.tile(self.profile, len(self.centre))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "matrix"}

    @property
    def d(self) -> int:
        """Number of coordinates: the intrinsic dimensions."""
        return self.dimensions

    def _steps(self, z: Floats) -> Floats:
        """Row by row and without BLAS: rounding depends neither on n nor on the number of threads."""
        return np.stack([np.einsum("d,dh->h", row, self.matrix) for row in z])

    def describe(self) -> dict[str, Any]:
        """Kind, numbers, and whether the dimensions `spread` alike ("overall") or by the profile ("dimension")."""
        return super().describe() | {"spread": "overall" if self.profile is None else "dimension"}


@dataclass(frozen=True, eq=False, kw_only=True)
class LowRank(Cube):
    """prompt = centre + scale * (U V) / sqrt(rank), z = (U, V), U (tokens, rank) and V (rank, hidden), within +-limit.

    An entry of U V / sqrt(rank) has unit variance where those of U and V have.
    """

    kind = "low_rank"
    rank: int = 1

    @property
    def d(self) -> int:
        """Number of coordinates: rank * (tokens + hidden)."""
        return self.rank * sum(self.centre.shape)

    def _steps(self, z: Floats) -> Floats:
        tokens, hidden = self.centre.shape
        left, right = np.split(z, [tokens * self.rank], axis=1)
        product = _combined(left.reshape(-1, tokens, self.rank), right.reshape(-1, self.rank, hidden))
        return np.float32(self.scale / np.sqrt(self.rank)) * product


@dataclass(frozen=True, eq=False, kw_only=True)
class VocabPCA(Space):
    """A token is centre + scale * (z basis), where `basis` (components, hidden) holds principal directions.

    They are those of the vocabulary's embeddings, each as long as the vocabulary's standard deviation along it; every
    soft token has its own coordinates. `low` and `high` (components,) are the vocabulary's range along them, in those
    units: with scale 1, around the mean embedding, the box holds what real tokens hold.
    """

    kind = "vocab_pca"
    basis: Floats
    low: Floats
    high: Floats
    scale: float = 1.0

    @property
    def d(self) -> int:
        """Number of coordinates: tokens * components."""
        return len(self.centre) * len(self.basis)

    @property
    def bounds(self) -> Doubles:
        """Bounds of the coordinates, (d, 2)."""
        return np.tile(np.stack([self.low, self.high], axis=1).astype(np.float64), (len(self.centre), 1))

    def _steps(self, z: Floats) -> Floats:
        weights = z.reshape(-1, len(self.centre), len(self.basis))
        return np.float32(self.scale) * _combined(weights, self.basis[None])


def _combined(weights: Floats, rows: Floats) -> Floats:
    """Sum of weights (n, tokens, k) times rows (n or 1, k, hidden), term after term and without BLAS, see `decode`."""
    total = weights[:, :, 0, None] * rows[:, None, 0]
    for k in range(1, weights.shape[2]):
        total += weights[:, :, k, None] * rows[:, None, k]
    return total
