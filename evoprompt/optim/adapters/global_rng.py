"""Keeping a library's use of numpy's global random state away from everybody else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["PrivateGlobalState"]


class PrivateGlobalState:
    """A seeded state that stands in for numpy's global one while a library runs.

    Parameters
    ----------
    seed : int
        The library sees ``np.random`` as if seeded with it, and continued from call to call.

    Examples
    --------
    >>> private = PrivateGlobalState(5)
    >>> before = np.random.get_state()[1].copy()
    >>> with private.installed():
    ...     _ = np.random.rand(3)
    >>> bool((np.random.get_state()[1] == before).all())
    True
    """

    def __init__(self, seed: int) -> None:
        words = np.random.SeedSequence(seed).generate_state(8)
        self._state = np.random.RandomState(words).get_state()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Swap the private state in, and the caller's back at the end. Not for use by two threads at a time."""
        callers = np.random.get_state()  # noqa: NPY002
        np.random.set_state(self._state)  # noqa: NPY002
        try:
            yield
        finally:
            self._state = np.random.get_state()  # noqa: NPY002
            np.random.set_state(callers)  # noqa: NPY002
