"""Array types that the whole package shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bools", "Doubles", "Floats", "Indices"]

Floats = NDArray[np.floating[Any]]
"""float32 or float64."""

Doubles = NDArray[np.float64]

Indices = NDArray[np.int64]
"""Row numbers, trial numbers, token numbers."""

Bools = NDArray[np.bool_]
