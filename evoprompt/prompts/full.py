"""The whole prompt as search space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evoprompt.prompts.space import box, checked
from evoprompt.typing import Doubles, Floats


@dataclass(frozen=True, eq=False)
class FullSpace:
    """Every entry of the soft prompt is a coordinate: prompt = centre + scale * z, z within +-limit."""

    centre: Floats  # (tokens, hidden)
    scale: float
    limit: float = 3.0

    @property
    def d(self) -> int:
        """Number of coordinates: tokens * hidden."""
        return int(self.centre.size)

    @property
    def bounds(self) -> Doubles:
        """Bounds of the coordinates, (d, 2)."""
        return box(self.limit, self.d)

    def decode(self, z: Floats) -> torch.Tensor:
        """Soft prompts (n, tokens, hidden) of coordinates (n, d)."""
        steps = checked(z, self.d).reshape(-1, *self.centre.shape)
        return torch.from_numpy(self.centre + np.float32(self.scale) * steps)

    def describe(self) -> dict[str, Any]:
        """The space's kind and its numbers, for records."""
        return {"kind": "full", "scale": self.scale, "limit": self.limit}

    def tensors(self) -> dict[str, Floats]:
        """What is saved of the space: its centre."""
        return {"centre": self.centre}
