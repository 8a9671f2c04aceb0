"""What ``tell`` promises: any order, late, in parts, unasked, but never twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from evoprompt.optim.protocol import Optimizer, Trials
from evoprompt.testing.case import Case, best_of, joined, or_refused, run, sphere, told
from evoprompt.typing import Floats

__all__ = ["Telling"]


class Telling(Case):
    """Tests of ``tell``."""

    def test_neither_the_order_of_tells_nor_the_size_of_asks_changes_a_generation(self) -> None:
        if not self.generational:
            return self._equal_sequences_of_tells_give_equal_runs()
        if not self.accepts_parts:
            optimizer = self.fresh()
            trials = optimizer.ask()
            return self.refuses(lambda: optimizer.tell(trials[:2], sphere(trials.x[:2])))

        def claim(data: Any) -> None:
            plain, shuffled = self.fresh(), self.fresh()
            for _ in range(4):
                whole = told(plain)
                split = data.draw(st.integers(0, len(whole)))
                parts = [shuffled.ask(split)]
                together = joined(parts if split == len(whole) else [*parts, shuffled.ask()])
                np.testing.assert_array_equal(together.x, whole.x)
                for i in data.draw(st.permutations(range(len(whole)))):
                    shuffled.tell(together[i : i + 1], sphere(together.x[i : i + 1]))
            np.testing.assert_array_equal(plain.ask().x, shuffled.ask().x)

        return self.for_all(claim, data=st.data())

    def _equal_sequences_of_tells_give_equal_runs(self) -> None:
        def claim(choices: list[int]) -> None:
            (first, trials), (again, trials_again) = (_steadily(self.fresh(), choices) for _ in range(2))
            np.testing.assert_array_equal(trials, trials_again)
            for mine, theirs in zip(first.population, again.population, strict=True):
                np.testing.assert_array_equal(mine, theirs)

        self.for_all(claim, choices=st.lists(st.integers(0, 4), min_size=40, max_size=40))

    def test_results_in_any_order_all_count(self) -> None:
        def claim(order: list[int]) -> None:
            optimizer = self.fresh()
            trials = optimizer.ask()
            parts = [trials[i : i + 1] for i in order if i < len(trials)] if self.accepts_parts else [trials]
            for part in parts:
                optimizer.tell(part, sphere(part.x))
            assert optimizer.evaluations == len(trials)
            best, first = best_of(optimizer), np.argmin(sphere(trials.x))
            assert (best.loss, best.id) == (sphere(trials.x)[first], trials.ids[first])
            np.testing.assert_array_equal(best.x, trials.x[first])

        self.for_all(claim, order=st.permutations(range(self.budget)))

    @or_refused("accepts_guests", lambda case: case.fresh().tell(np.full((2, 4), 0.2), [1e-9, 5.0]))
    def test_points_never_asked_count_and_can_be_best(self) -> None:
        optimizer = self.fresh()
        optimizer.tell(np.full((2, 4), 0.2), [1e-9, 5.0])
        assert optimizer.evaluations == 2
        assert best_of(optimizer)[1:] == (1e-9, -1)
        run(optimizer)
        assert optimizer.asked == self.budget - 2
        assert optimizer.evaluations == self.budget

    @or_refused("accepts_guests", lambda case: _tell_as_an_array(case.fresh()))
    def test_a_plain_array_of_asked_points_is_recognised(self) -> None:
        by_array, by_trials = self.fresh(), self.fresh()
        for _ in range(3):
            _tell_as_an_array(by_array)
            told(by_trials)
        assert by_array.evaluations == by_array.asked == by_trials.asked
        np.testing.assert_array_equal(by_array.ask().x, by_trials.ask().x)

    def test_telling_twice_is_refused_and_changes_nothing(self) -> None:
        optimizer, other = self.fresh(), self.fresh()
        trials, _ = told(optimizer), told(other)
        with pytest.raises(ValueError, match=r"\S"):
            optimizer.tell(trials, np.full(len(trials), -1.0))
        assert optimizer.evaluations == len(trials)
        assert best_of(optimizer).loss == sphere(trials.x).min()
        np.testing.assert_array_equal(optimizer.ask().x, other.ask().x)

    def test_losses_and_points_of_the_wrong_shape_are_refused_and_change_nothing(self) -> None:
        optimizer = self.fresh()
        trials = optimizer.ask()
        right = sphere(trials.x)
        wrong: list[tuple[Any, Any]] = [
            (trials, np.zeros(len(trials) + 1)), (trials, "low"), (np.zeros((1, 3)), [0.0])
        ]  # fmt: skip
        for points, losses in wrong:
            with pytest.raises((ValueError, TypeError)):
                optimizer.tell(points, losses)
        assert optimizer.evaluations == 0
        optimizer.tell(trials, right)
        assert optimizer.evaluations == len(trials)

    def test_results_may_come_when_everything_has_been_handed_out(self) -> None:
        optimizer, waiting = self.fresh(budget=20), []
        while len(trials := optimizer.ask(7)):
            waiting.append(trials)
        for trials in reversed(waiting):
            if self.accepts_parts:
                optimizer.tell(trials[len(trials) // 2 :], sphere(trials.x[len(trials) // 2 :]))
        for trials in waiting:
            rest = trials[: len(trials) // 2] if self.accepts_parts else trials
            optimizer.tell(rest, sphere(rest.x))
        assert optimizer.evaluations == sum(map(len, waiting)) == optimizer.asked
        assert optimizer.failed == 0
        assert best_of(optimizer).loss == min(sphere(trials.x).min() for trials in waiting)
        if optimizer.should_stop() is None:
            run(optimizer)
        assert optimizer.evaluations == 20

    def test_what_the_caller_does_to_its_arrays_does_not_reach_the_optimizer(self) -> None:
        optimizer, untouched = self.fresh(), self.fresh()
        for _ in range(4):
            trials, reference = optimizer.ask(), untouched.ask()
            np.testing.assert_array_equal(trials.x, reference.x)
            losses = sphere(trials.x)
            _scribble(trials.x)
            optimizer.tell(trials, losses)
            untouched.tell(reference, sphere(reference.x))
            _scribble(losses)
            for array in optimizer.population:
                _scribble(array)
            _scribble(best_of(optimizer).x)
            assert best_of(optimizer).loss == best_of(untouched).loss
            np.testing.assert_array_equal(optimizer.population[1], untouched.population[1])

    def test_the_population_holds_told_points_with_their_losses(self) -> None:
        optimizer = self.fresh()
        points, losses = optimizer.population
        assert points.ndim == 2
        assert len(points) == len(losses)
        run(optimizer)
        points, losses = optimizer.population
        known = np.isfinite(losses)
        assert known.any()
        np.testing.assert_allclose(losses[known], sphere(points[known]), rtol=1e-12)


def _tell_as_an_array(optimizer: Optimizer) -> None:
    x = np.asarray(optimizer.ask())
    optimizer.tell(x.copy(), sphere(x))


def _scribble(array: Floats) -> None:
    """Overwrite an array, unless its owner has made it read-only."""
    if array.flags.writeable:
        array[:] = 0.1


def _steadily(optimizer: Optimizer, choices: list[int]) -> tuple[Optimizer, Floats]:
    """Keep up to five trials in flight, telling the one that ``choices`` say; the points handed out."""
    waiting: list[Trials] = []
    handed = []
    for choice in choices:
        while len(waiting) < 5 and len(trials := optimizer.ask(1)):
            handed.append(trials.x.copy())
            waiting.append(trials)
        if waiting:
            told = waiting.pop(choice % len(waiting))
            optimizer.tell(told, sphere(told.x))
    return optimizer, np.concatenate(handed)
