"""A few numbers of a candidate from which distances between candidates can be estimated, however long they are."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from evoprompt.study.journal import SKETCH
from evoprompt.typing import Doubles, Floats

SEED = 0  # one projection for all runs


def distance_sketches(x: Floats) -> NDArray[np.float32]:
    """Gaussian projections (n, 8) of candidates (n, d).

    The squared distance between two sketches has the squared distance between the candidates as its mean (Johnson and
    Lindenstrauss, 1984), with a relative standard deviation of a half; sums over many pairs are much closer. A
    candidate's sketch does not depend on the others that it came with, nor on the number of threads.
    """
    projection = _projection(x.shape[1])
    # A matrix product would be rounded by how many rows it has; these sums are not.
    found = [(projection * row.astype(np.float64)).sum(axis=1) for row in x]
    return np.array(found, dtype=np.float32).reshape(len(x), len(SKETCH))


@lru_cache(maxsize=2)
def _projection(d: int) -> Doubles:
    """Normal numbers (8, d) of the variance 1 / 8."""
    generator = np.random.Generator(np.random.Philox(key=SEED))
    return generator.standard_normal((len(SKETCH), d)) / np.sqrt(len(SKETCH))
