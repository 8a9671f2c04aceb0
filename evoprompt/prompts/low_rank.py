"""Prompts that differ from the centre by a matrix of low rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evoprompt.prompts.space import box, checked, combined
from evoprompt.typing import Doubles, Floats


@dataclass(frozen=True, eq=False)
class LowRank:
    """prompt = centre + scale * (U V) / sqrt(rank), z = (U, V), U (tokens, rank) and V (rank, hidden), within +-limit.

    An entry of U V / sqrt(rank) has unit variance where those of U and V have.
    """

    centre: Floats  # (tokens, hidden)
    scale: float
    rank: int = 1
    limit: float = 3.0

    @property
    def d(self) -> int:
        """Number of coordinates: rank * (tokens + hidden)."""
        return self.rank * sum(self.centre.shape)

    @property
    def bounds(self) -> Doubles:
        """Bounds of the coordinates, (d, 2)."""
        return box(self.limit, self.d)

    def decode(self, z: Floats) -> torch.Tensor:
        """Soft prompts (n, tokens, hidden) of coordinates (n, d)."""
        tokens, hidden = self.centre.shape
        rows = checked(z, self.d)
        left = rows[:, : tokens * self.rank].reshape(-1, tokens, self.rank)
        right = rows[:, tokens * self.rank :].reshape(-1, self.rank, hidden)
        return torch.from_numpy(self.centre + np.float32(self.scale / np.sqrt(self.rank)) * combined(left, right))

    def describe(self) -> dict[str, Any]:
        """The space's kind and its numbers, for records."""
        return {"kind": "low_rank", "scale": self.scale, "rank": self.rank, "limit": self.limit}

    def tensors(self) -> dict[str, Floats]:
        """What is saved of the space: its centre."""
        return {"centre": self.centre}
