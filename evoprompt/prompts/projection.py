"""A random subspace of the prompt space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from evoprompt.prompts.space import box, checked
from evoprompt.typing import Doubles, Floats


@dataclass(frozen=True, eq=False)
class RandomProjection:
    """prompt = centre + scale * profile * (A z) / sqrt(d), with a fixed Gaussian A of shape (tokens * hidden, d).

    A z / sqrt(d) has unit variance for a z of unit variance, so `scale` is in units of the prompt's entries. `profile`
    tells how much more or less than that each dimension of an embedding spreads; without one all spread alike.
    Source: intrinsic dimension as in Black-Box Tuning (Sun et al., 2022).
    """

    centre: Floats  # (tokens, hidden)
    scale: float
    dimensions: int
    seed: int = 0
    limit: float = 3.0
    profile: Floats | None = None  # (hidden,)

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

    @property
    def bounds(self) -> Doubles:
        """Bounds of the coordinates, (d, 2)."""
        return box(self.limit, self.d)

    def decode(self, z: Floats) -> torch.Tensor:
        """Soft prompts (n, tokens, hidden) of coordinates (n, d).

        Row by row and without BLAS: rounding depends neither on how many come together nor on the number of threads.
        """
        steps = np.stack([np.einsum("d,dh->h", row, self.matrix) for row in checked(z, self.d)])
        return torch.from_numpy(self.centre + steps.reshape(-1, *self.centre.shape))

    def describe(self) -> dict[str, Any]:
        """The space's kind and its numbers, for records."""
        return {
            "kind": "random_projection",
            "scale": self.scale,
            "dimensions": self.dimensions,
            "seed": self.seed,
            "limit": self.limit,
            "spread": "overall" if self.profile is None else "dimension",
        }

    def tensors(self) -> dict[str, Floats]:
        """The centre, and the profile if there is one."""
        return {"centre": self.centre} | ({} if self.profile is None else {"profile": self.profile})
