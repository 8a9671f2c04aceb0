"""Random numbers that belong to a trial, not to a moment.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a key and a counter into
random bits without any state in between. Here the key comes from the seed and the counter from the trial
number and a purpose, so trial 17 gets the same numbers whoever asks for it, in whatever batch, before or
after a restart.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Purpose", "TrialStreams", "checked_seed"]


class Purpose(IntEnum):
    """What numbers are drawn for; each has a stream of its own. Saved runs depend on the values: never renumber."""

    PARAMETERS = 0
    CROSSOVER = 1
    REPAIR = 2
    ARCHIVE = 3
    INITIAL = 4
    REDRAW = 5
    DESIGN = 6


class TrialStreams:
    """Independent random streams, one per (seed, trial number, purpose).

    Parameters
    ----------
    seed : int
        Any non-negative integer.

    Examples
    --------
    >>> streams = TrialStreams(seed=7)
    >>> a = streams.of(3).random(2)
    >>> _ = streams.of(4).random(100)
    >>> bool((streams.of(3).random(2) == a).all())
    True
    """

    def __init__(self, seed: int) -> None:
        self._key = np.random.SeedSequence(checked_seed(seed)).generate_state(2, np.uint64)
        self._bits = np.random.Philox(key=self._key)
        self._generator = np.random.Generator(self._bits)
        self._start = self._bits.state
        self._counter = self._start["state"]["counter"]

    def of(self, trial: int, purpose: Purpose = Purpose.PARAMETERS) -> np.random.Generator:
        """The stream of one trial, at its beginning.

        The same generator object is repositioned and returned every time (several times cheaper than a new
        one), so draw what is needed before asking for the next stream.
        """
        # The lowest word counts blocks within the stream; 2**64 of them is room enough.
        self._counter[:] = (0, 0, int(purpose), trial)
        self._bits.state = self._start
        return self._generator

    def uniforms(self, trials: NDArray[np.int64], k: int, purpose: Purpose = Purpose.PARAMETERS) -> NDArray[np.float64]:
        """The first k uniforms on [0, 1) of each trial's stream: (n,) trial numbers to (n, k)."""
        u = np.empty((len(trials), k))
        for row, trial in zip(u, trials.tolist(), strict=True):
            self.of(trial, purpose).random(out=row)
        return u


def checked_seed(seed: int | None) -> int:
    """``seed`` as a non-negative int; ``None`` draws fresh entropy from the operating system.

    Raises
    ------
    ValueError
        If the seed is negative or not an integer.
    """
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer or None, got {seed!r}")
    return int(seed)
