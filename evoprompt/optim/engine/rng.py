"""Random numbers that belong to a trial, not to a moment.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") turns a key and a counter into
random bits without any state in between. Here the key comes from the seed and the counter from the trial
number and a purpose, so trial 17 gets the same numbers whoever asks for it, in whatever batch, before or
after a restart. Trials with successive numbers lie side by side, so a batch costs one call.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.checks import whole_number
from evoprompt.optim.engine.rows import is_run
from evoprompt.typing import Doubles, Indices

__all__ = ["Purpose", "TrialStreams", "checked_seed"]

_WORDS_PER_BLOCK = 4  # Philox turns one counter into four 64-bit words


class Purpose(IntEnum):
    """What numbers are drawn for; each has a stream of its own. Saved runs depend on the values: never renumber."""

    PARAMETERS = 0
    CROSSOVER = 1
    REPAIR = 2
    ARCHIVE = 3
    INITIAL = 4
    REDRAW = 5
    DESIGN = 6
    SAMPLE = 7
    RESTART = 8


class TrialStreams:
    """Independent random streams, one per (seed, trial number, purpose).

    Parameters
    ----------
    seed : int
        Any non-negative integer.
    branch : tuple of int
        Tells apart families of streams with one seed.

    Notes
    -----
    A stream is read with one length per purpose: the first two words of a stream read with length 8 are not
    those of the stream read with length 4.

    Examples
    --------
    >>> streams = TrialStreams(seed=7)
    >>> batch = streams.uniforms(np.array([3, 4, 9]), 2)
    >>> bool((streams.uniforms(np.array([9]), 2) == batch[2:]).all())
    True
    """

    def __init__(self, seed: int, *, branch: tuple[int, ...] = ()) -> None:
        self._seed, self._branch = checked_seed(seed), branch
        self._key = np.random.SeedSequence(self._seed, spawn_key=branch).generate_state(2, np.uint64)
        self._bits = np.random.Philox(key=self._key)
        self._generator = np.random.Generator(self._bits)
        self._start: Any = self._bits.state
        self._counter = self._start["state"]["counter"]

    def child(self, number: int) -> TrialStreams:
        """Streams of the same seed that have nothing in common with these."""
        return TrialStreams(self._seed, branch=(*self._branch, number))

    def words(self, trials: Indices, k: int, purpose: Purpose = Purpose.PARAMETERS) -> NDArray[np.uint64]:
        """k random 64-bit words for each trial: (n,) trial numbers to (n, k)."""
        n, blocks = len(trials), -(-k // _WORDS_PER_BLOCK)
        width = blocks * _WORDS_PER_BLOCK
        if n == 0 or k == 0:
            return np.empty((n, k), dtype=np.uint64)
        cuts = [] if is_run(trials) else (np.flatnonzero(np.diff(trials) != 1) + 1).tolist()
        parts = []
        for start, stop in pairwise([0, *cuts, n]):
            self._go_to(int(trials[start]) * blocks, blocks, purpose)
            parts.append(self._bits.random_raw((stop - start) * width).reshape(-1, width))
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[:, :k]

    def uniforms(self, trials: Indices, k: int, purpose: Purpose = Purpose.PARAMETERS) -> Doubles:
        """k uniforms on [0, 1) with 53 random bits for each trial: (n,) trial numbers to (n, k)."""
        return np.multiply(self.words(trials, k, purpose) >> np.uint64(11), 2.0**-53, dtype=np.float64)

    def shorts(self, trials: Indices, k: int, purpose: Purpose = Purpose.CROSSOVER) -> NDArray[np.uint16]:
        """k uniform integers below 2**16 for each trial, (n, k): random bits at a quarter of the price."""
        return np.ascontiguousarray(self.words(trials, -(-k // 16) * 4, purpose)).view(np.uint16)[:, :k]

    def of(self, trial: int, purpose: Purpose = Purpose.PARAMETERS) -> np.random.Generator:
        """One trial's stream as a generator, at its beginning.

        The same generator object is repositioned and returned every time, so draw what is needed before
        asking for the next one.
        """
        self._go_to(0, 0, purpose, int(trial))
        return self._generator

    def _go_to(self, block: int, length: int, purpose: Purpose, trial: int = 0) -> None:
        self._counter[:] = (block, length, int(purpose), trial)
        self._bits.state = self._start


def checked_seed(seed: int | None) -> int:
    """``seed`` as a non-negative int; ``None`` draws fresh entropy from the operating system.

    Raises
    ------
    ValueError
        If the seed is negative or not an integer.
    """
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    return whole_number("seed", seed, 0, what="None or an integer")
