"""The directions in which a model's own vocabulary differs most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evoprompt.prompts.space import checked, combined
from evoprompt.typing import Doubles, Floats


@dataclass(frozen=True, eq=False)
class VocabPCA:
    """A token is centre + scale * (z basis), where `basis` (components, hidden) holds principal directions.

    They are those of the vocabulary's embeddings, each as long as the vocabulary's standard deviation along it; every
    soft token has its own coordinates. `low` and `high` (components,) are the vocabulary's range along them, in those
    units: with scale 1, around the mean embedding, the box holds what real tokens hold.
    """

    centre: Floats  # (tokens, hidden)
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

    def decode(self, z: Floats) -> torch.Tensor:
        """Soft prompts (n, tokens, hidden) of coordinates (n, d)."""
        weights = checked(z, self.d).reshape(-1, len(self.centre), len(self.basis))
        return torch.from_numpy(self.centre + np.float32(self.scale) * combined(weights, self.basis[None]))

    def describe(self) -> dict[str, Any]:
        """The space's kind and its numbers, for records."""
        return {"kind": "vocab_pca", "scale": self.scale}

    def tensors(self) -> dict[str, Floats]:
        """What is saved of the space: centre, basis and range."""
        return {"centre": self.centre, "basis": self.basis, "low": self.low, "high": self.high}
