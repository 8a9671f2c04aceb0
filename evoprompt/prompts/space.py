"""Search spaces: vectors z, which an optimizer moves, and the soft prompts they stand for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from evoprompt.errors import UserError, unknown_name

SPACES = ("full", "random_projection")


class Space(Protocol):
    """A map from z (n, d) to soft prompts (n, tokens, hidden)."""

    @property
    def d(self) -> int:
        """Number of coordinates of z."""

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(d, 2), lower and upper."""

    def decode(self, z: NDArray[np.floating[Any]]) -> torch.Tensor:
        """z (n, d) -> soft prompts (n, tokens, hidden), float32."""

    def describe(self) -> dict[str, Any]:
        """Everything but the centre, as plain values."""


@dataclass(frozen=True, eq=False)
class FullSpace:
    """Every entry of the soft prompt is a coordinate: prompt = centre + scale * z, z within +-limit."""

    centre: NDArray[np.float32]  # (tokens, hidden)
    scale: float
    limit: float = 3.0

    @property
    def d(self) -> int:
        """tokens * hidden."""
        return int(self.centre.size)

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(d, 2)."""
        return np.tile([-self.limit, self.limit], (self.d, 1))

    def decode(self, z: NDArray[np.floating[Any]]) -> torch.Tensor:
        """(n, d) -> (n, tokens, hidden)."""
        steps = _checked(z, self.d).reshape(-1, *self.centre.shape)
        return torch.from_numpy(self.centre + np.float32(self.scale) * steps)

    def encode(self, prompt: torch.Tensor) -> NDArray[np.float32]:
        """The z of a soft prompt (tokens, hidden), before bounds."""
        return ((prompt.float().numpy() - self.centre) / np.float32(self.scale)).reshape(-1)

    def describe(self) -> dict[str, Any]:
        """Kind and numbers."""
        return {"kind": "full", "scale": self.scale, "limit": self.limit}


@dataclass(frozen=True, eq=False)
class RandomProjection:
    """prompt = centre + scale * (A z) / sqrt(d), with a fixed Gaussian A of shape (tokens * hidden, d).

    A z / sqrt(d) has unit variance for a z of unit variance, so `scale` is in units of the prompt's entries.
    Source: intrinsic dimension as in Black-Box Tuning (Sun et al., 2022).
    """

    centre: NDArray[np.float32]  # (tokens, hidden)
    scale: float
    dimensions: int
    seed: int = 0
    limit: float = 3.0

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """A, scaled, transposed: (d, tokens * hidden). Rebuilt from the seed wherever it is needed."""
        rng = np.random.Generator(np.random.Philox(key=self.seed))
        gaussian = rng.standard_normal((self.dimensions, self.centre.size), dtype=np.float32)
        return gaussian * np.float32(self.scale / np.sqrt(self.dimensions))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "matrix"}

    @property
    def d(self) -> int:
        """Intrinsic dimensions."""
        return self.dimensions

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(d, 2)."""
        return np.tile([-self.limit, self.limit], (self.d, 1))

    def decode(self, z: NDArray[np.floating[Any]]) -> torch.Tensor:
        """(n, d) -> (n, tokens, hidden).

        Row by row and without BLAS: rounding depends neither on how many come together nor on the number of threads.
        """
        steps = np.stack([np.einsum("d,dh->h", row, self.matrix) for row in _checked(z, self.d)])
        return torch.from_numpy(self.centre + steps.reshape(-1, *self.centre.shape))

    def describe(self) -> dict[str, Any]:
        """Kind and numbers."""
        return {
            "kind": "random_projection",
            "scale": self.scale,
            "dimensions": self.dimensions,
            "seed": self.seed,
            "limit": self.limit,
        }


def make_space(kind: str, centre: NDArray[np.float32], **options: Any) -> FullSpace | RandomProjection:
    """Build a space by its name.

    Parameters
    ----------
    kind
        One of `SPACES`.
    centre
        The soft prompt of z = 0, shape (tokens, hidden).
    **options
        `scale`, `limit`, and for `random_projection` `dimensions` and `seed`.

    Raises
    ------
    UserError
        Unknown kind, or a scale, limit or dimension that is not positive.
    """
    if kind not in SPACES:
        raise unknown_name("space", kind, SPACES)
    for name in ("scale", "limit", "dimensions"):
        if name in options and not options[name] > 0:
            raise UserError(f"space.{name}={options[name]!r} must be greater than 0")
    return FullSpace(centre, **options) if kind == "full" else RandomProjection(centre, **options)


def save_space(path: Path, space: FullSpace | RandomProjection) -> None:
    """Write a space as safetensors: the centre as tensor, the rest as metadata."""
    save_file({"centre": space.centre}, path, metadata={"space": json.dumps(space.describe())})


def load_space(path: Path) -> FullSpace | RandomProjection:
    """Read what `save_space` wrote."""
    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["space"])
        return make_space(centre=file.get_tensor("centre"), **description)


def centre_prompt(tokens: int, mean: torch.Tensor, initial: torch.Tensor | None = None) -> NDArray[np.float32]:
    """The prompt that z = 0 stands for, (tokens, hidden).

    `initial` (m, hidden), the embeddings of an initial text, is repeated or cut to `tokens`; without it every token
    is the mean embedding (hidden,).

    Raises
    ------
    UserError
        Fewer than one token.
    """
    if tokens < 1:
        raise UserError(f"space.tokens={tokens} must be at least 1")
    source = mean[None] if initial is None or not len(initial) else initial
    repeated = source.repeat(-(-tokens // len(source)), 1)[:tokens]
    return np.ascontiguousarray(repeated.float().cpu().numpy())


def _checked(z: NDArray[np.floating[Any]], d: int) -> NDArray[np.float32]:
    array = np.asarray(z, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != d:
        raise ValueError(f"z must be (n, {d}), got {array.shape}")
    return array
