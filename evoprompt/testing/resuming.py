"""What a saved state promises: the same future, at any moment, in another process too."""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import reduce
from importlib import import_module
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from evoprompt.optim.engine.state import load_state, save_state
from evoprompt.optim.protocol import Optimizer, Trials
from evoprompt.testing.case import SEED, Case, or_refused, sphere, told
from evoprompt.typing import Floats

__all__ = ["Resuming"]

Steps = list[tuple[str, int]]

_STEP = st.tuples(st.sampled_from(["ask", "tell", "tell", "tell", "tell", "guest"]), st.integers(1, 6))


class Resuming(Case):
    """Tests of ``state_dict`` and ``load_state_dict``."""

    @or_refused("keeps_state", lambda case: case.fresh().state_dict())
    def test_a_state_saved_at_any_moment_continues_identically(self) -> None:
        def claim(before: Steps, after: Steps) -> None:
            optimizer, waiting = self._at_some_moment(before)
            with tempfile.TemporaryDirectory() as folder:
                save_state(folder, optimizer.state_dict())
                copy = self.fresh(budget=1000)
                copy.load_state_dict(load_state(folder))
            _assert_same(optimizer, copy)
            rest, rest_copy = (self._follow(each, after, list(waiting)) for each in (optimizer, copy))
            for mine, theirs in zip(rest, rest_copy, strict=True):
                np.testing.assert_array_equal(mine, theirs)
            _assert_same(optimizer, copy)
            np.testing.assert_array_equal(optimizer.ask(3).x, copy.ask(3).x)

        steps = st.lists(_STEP, max_size=40)
        self.for_all(claim, before=steps, after=steps)

    @or_refused("keeps_state", lambda case: case.fresh().load_state_dict({}))
    def test_a_state_continues_identically_in_another_process(self) -> None:
        steps = [("ask", 6), ("ask", 6), *[("tell", k) for k in (2, 5, 1, 3, 4, 6, 1)], ("guest", 2), ("ask", 5)]
        optimizer, _ = self._at_some_moment(steps)
        with tempfile.TemporaryDirectory() as folder:
            save_state(folder, optimizer.state_dict())
            with ProcessPoolExecutor(1, get_context("spawn")) as elsewhere:
                module, name = type(self).__module__, type(self).__qualname__
                assert "<locals>" not in name, f"{name} must be defined at the top of its module"
                there = elsewhere.submit(_continued, module, name, folder).result()
        np.testing.assert_array_equal(_continuation(optimizer), there)

    @or_refused("keeps_state", lambda case: case.fresh().state_dict())
    def test_a_snapshot_does_not_change_when_the_optimizer_goes_on(self) -> None:
        optimizer, waiting = self._at_some_moment([("ask", 6), ("ask", 6), *[("tell", 1)] * 9])
        state = optimizer.state_dict()
        steps = [*[("tell", 1)] * 6, ("ask", 4), ("guest", 1), ("tell", 1), ("ask", 4)]
        first = self._follow(optimizer, steps, list(waiting))
        copy = self.fresh(budget=1000)
        copy.load_state_dict(state)
        again = self._follow(copy, steps, list(waiting))
        np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
        _assert_same(optimizer, copy)

    @or_refused("keeps_state", lambda case: case.fresh().state_dict())
    def test_a_state_of_other_settings_is_refused_by_name(self) -> None:
        state = self.fresh().state_dict()
        with pytest.raises(ValueError, match="seed"):
            self.fresh(seed=SEED + 1).load_state_dict(state)
        with pytest.raises(ValueError, match=r"\S"):
            self.fresh(bounds=[(-1.0, 1.0)] * len(self.bounds)).load_state_dict(state)

    def _at_some_moment(self, steps: Steps) -> tuple[Optimizer, list[Trials]]:
        """A new optimizer after these steps, and the trials that are outstanding then."""
        optimizer, waiting = self.fresh(budget=1000), []  # type: ignore[var-annotated]
        self._follow(optimizer, steps, waiting)
        return optimizer, waiting

    def _follow(self, optimizer: Optimizer, steps: Steps, waiting: list[Trials]) -> list[Floats]:
        """Ask and tell as ``steps`` say, with failures and guests; the points that were handed out."""
        handed = []
        for action, k in steps:
            if action == "ask":
                trials = optimizer.ask(k if self.accepts_parts else None)
                handed.append(trials.x.copy())
                whole = [trials] if len(trials) else []
                waiting.extend([trials[i : i + 1] for i in range(len(trials))] if self.accepts_parts else whole)
            elif action == "guest" and self.accepts_guests:
                optimizer.tell(np.full((1, optimizer.d), 0.01 * k), [float(k)])
            elif action == "tell" and waiting:
                trials = waiting.pop(k % len(waiting))
                optimizer.tell(trials, np.where(k == 5, np.nan, sphere(trials.x)))
        return handed


def _continuation(optimizer: Optimizer) -> Floats:
    """The points (n, d) of the next twelve asks, each told at once; earlier trials stay outstanding."""
    return np.concatenate([told(optimizer, 3).x for _ in range(12)])


def _continued(module: str, case: str, folder: str) -> Floats:
    """What the state in a folder continues with in this process, which is not the one that saved it."""
    made: Any = reduce(getattr, case.split("."), import_module(module))
    optimizer = made().fresh(budget=1000)
    optimizer.load_state_dict(load_state(folder))
    return _continuation(optimizer)


def _assert_same(optimizer: Optimizer, copy: Optimizer) -> None:
    for field in ("asked", "evaluations", "failed", "generation"):
        assert getattr(optimizer, field) == getattr(copy, field), field
    for mine, theirs in zip(optimizer.population, copy.population, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert optimizer.should_stop() == copy.should_stop()
    best, other = optimizer.best, copy.best
    assert (best is None) == (other is None)
    if best is not None and other is not None:
        assert best[1:] == other[1:]
        np.testing.assert_array_equal(best.x, other.x)
