"""How far the candidates of a search lie apart, estimated from the sketches that its history holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evoprompt.report.files import Run, parsed_config
from evoprompt.study.journal import SKETCH
from evoprompt.typing import Doubles, Indices

WINDOW_SHARE = 10  # a window of a search without generations is this part of its evaluations
STEPS = 4  # so many windows begin within one window's length


@dataclass(frozen=True)
class Diversity:
    """Root mean square distance between candidates, by generation or by window of evaluations; all of shape (k,)."""

    generation: Indices | None
    evaluations: Indices  # done at the end of each
    candidates: Indices
    distance: Doubles

    @property
    def relative(self) -> Doubles:
        """Diversity relative to that of the first generation."""
        return self.distance / self.distance[0]


def diversity(run: Run) -> Diversity | None:
    """The distances; None where the history holds no sketches, or too few candidates to compare."""
    frame = run.history
    if not {*SKETCH, "generation"} <= set(frame.columns):
        return None
    sketches = frame[list(SKETCH)].to_numpy(dtype=np.float64)
    generations = frame["generation"].to_numpy(dtype=np.int64)
    names, sizes = np.unique(generations, return_counts=True)
    steady = parsed_config(run.config).get("loop") == "steady"
    if steady or (sizes >= 2).sum() < 2:
        window = int(sizes[0]) if len(sizes) > 1 else len(sketches) // WINDOW_SHARE
        found = _windows(sketches, max(window, 2))
    else:
        names = names[sizes >= 2]
        places = [np.flatnonzero(generations == name) for name in names]
        ends = np.array([place[-1] + 1 for place in places])
        found = Diversity(names, ends, sizes[sizes >= 2], np.array([spread(sketches[place]) for place in places]))
    return found if len(found.distance) >= 2 and found.distance[0] > 0 else None


def _windows(sketches: Doubles, size: int) -> Diversity:
    """Of the last `size` candidates, every quarter of that."""
    ends = np.arange(size, len(sketches) + 1, max(size // STEPS, 1))
    distance = np.array([spread(sketches[end - size : end]) for end in ends])
    return Diversity(None, ends, np.full(len(ends), size), distance)


def spread(points: Doubles) -> float:
    """Root mean square distance between the pairs of points (n, k).

    >>> round(spread(np.array([[0.0, 0.0], [3.0, 4.0]])), 9)
    5.0
    """
    return float(np.sqrt(2 * points.var(axis=0, ddof=1).sum()))
