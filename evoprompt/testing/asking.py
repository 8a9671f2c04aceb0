"""What ``ask`` promises: reproducible points in the box, never more than the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from evoprompt.optim.protocol import Optimizer, Trials
from evoprompt.testing.case import SEED, Case, best_of, or_refused, run, sphere, told

__all__ = ["Asking"]

_GIVEN = np.array([[0.1] * 4, [0.3] * 4])


class Asking(Case):
    """Tests of ``ask``."""

    def test_it_is_an_optimizer(self) -> None:
        optimizer = self.fresh()
        assert isinstance(optimizer, Optimizer)
        assert optimizer.d == len(self.bounds)
        assert isinstance(optimizer.name, str)
        assert optimizer.budget == self.budget
        assert (optimizer.asked, optimizer.evaluations, optimizer.failed, optimizer.generation) == (0, 0, 0, 0)
        assert optimizer.best is None
        assert optimizer.should_stop() is None
        trials = optimizer.ask()
        assert isinstance(trials, Trials)
        assert trials.x.shape == (len(trials), optimizer.d)
        assert optimizer.asked == len(trials) > 0

    def test_equal_seeds_give_equal_runs_and_other_seeds_others(self) -> None:
        first, again, other = run(self.fresh()), run(self.fresh()), run(self.fresh(seed=SEED + 1))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_numpys_global_random_state_is_neither_read_nor_moved(self) -> None:
        callers = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(11)  # noqa: NPY002
            before: Any = np.random.get_state()  # noqa: NPY002
            first = run(self.fresh())
            after: Any = np.random.get_state()  # noqa: NPY002
            np.testing.assert_array_equal(before[1], after[1])
            assert before[2:] == after[2:]
            np.random.seed(12)  # noqa: NPY002
            np.testing.assert_array_equal(first, run(self.fresh()))
        finally:
            np.random.set_state(callers)  # noqa: NPY002

    def test_trials_stay_in_the_box(self) -> None:
        # A linear objective, so that the search presses against the sides of the box.
        asked = run(self.fresh(budget=4 * self.budget), lambda x: np.asarray(x, dtype=np.float64).sum(axis=1))
        assert self.contains(asked)

    def test_a_coordinate_without_room_keeps_its_value(self) -> None:
        bounds = [*self.bounds[:2], (0.1, 0.1), self.bounds[3]]
        assert (run(self.fresh(bounds=bounds))[:, 2] == 0.1).all()

    def test_trials_have_the_dtype_asked_for(self) -> None:
        assert self.fresh(dtype="float64").ask().x.dtype == np.float64
        if self.accepts_float32:
            asked = run(self.fresh(dtype="float32"))
            assert asked.dtype == np.float32
            assert self.contains(asked)
        else:
            self.refuses(lambda: self.fresh(dtype="float32"))

    def test_the_budget_is_spent_and_then_nothing_is_handed_out(self) -> None:
        optimizer = self.fresh(budget=29)
        asked = run(optimizer)
        assert len(asked) == optimizer.asked == optimizer.evaluations == 29
        assert sum(optimizer.stages.values()) == 29
        assert optimizer.should_stop() == "budget"
        assert len(optimizer.ask()) == len(optimizer.ask(5)) == 0

    def test_asks_of_any_size_never_exceed_the_budget(self) -> None:
        def claim(budget: int, steps: list[tuple[int | None, bool]]) -> None:
            optimizer = self.fresh(budget=budget)
            ids: list[int] = []
            for n, tell in steps:
                trials = optimizer.ask(n)
                assert n is None or len(trials) <= n
                ids.extend(trials.ids.tolist())
                if len(trials) and (tell or not self.accepts_parts):
                    optimizer.tell(trials, sphere(trials.x))
            assert len(ids) == len(set(ids)) == optimizer.asked <= budget

        step = st.tuples(st.none() | st.integers(0, 25), st.booleans())
        self.for_all(claim, budget=st.integers(self.popsize, 3 * self.popsize), steps=st.lists(step, max_size=12))

    def test_a_number_of_trials_that_is_none_is_refused(self) -> None:
        optimizer = self.fresh()
        for n in (-1, 1.5):
            with pytest.raises((ValueError, TypeError)):
                optimizer.ask(n)  # type: ignore[arg-type]
        assert optimizer.asked == 0

    @or_refused("accepts_x0", lambda case: case.fresh(x0=_GIVEN))
    def test_given_points_come_first(self) -> None:
        optimizer, first = self.fresh(x0=_GIVEN), np.empty((0, 4))
        while len(first) < len(_GIVEN):
            first = np.concatenate([first, told(optimizer, len(_GIVEN)).x])
        np.testing.assert_allclose(first[: len(_GIVEN)], _GIVEN, rtol=1e-6)

    @or_refused("accepts_target", lambda case: case.fresh(target=1e6))
    def test_a_target_stops(self) -> None:
        optimizer = self.fresh(target=1e6)
        told(optimizer)
        assert optimizer.should_stop() == "target"

    def test_it_beats_random_search_on_the_sphere(self) -> None:
        bounds, n = [(-5.0, 5.0)] * 8, 600
        best = []
        for seed in range(3):
            popsize = 12 if self.capabilities.popsize else None
            optimizer = self.fresh(bounds=bounds, budget=n, seed=seed, popsize=popsize)
            run(optimizer)
            best.append(best_of(optimizer).loss)
        by_chance = [sphere(np.random.default_rng(seed).uniform(-5, 5, (n, 8))).min() for seed in range(3)]
        if self.learns:
            assert np.median(best) < np.median(by_chance) / 3
        else:
            assert np.median(best) < 3 * np.median(by_chance)
