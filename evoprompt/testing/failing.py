"""What becomes of losses that are not finite, all equal, or huge."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evoprompt.testing.case import Case, best_of, run, sphere, told
from evoprompt.typing import Doubles, Floats

__all__ = ["Failing"]


class Failing(Case):
    """Tests of failed and degenerate evaluations."""

    def test_nan_is_counted_and_never_best(self) -> None:
        self._a_third_fails(np.nan)

    def test_plus_infinity_is_counted_and_never_best(self) -> None:
        self._a_third_fails(np.inf)

    def test_minus_infinity_is_counted_and_never_best(self) -> None:
        self._a_third_fails(-np.inf)

    def _a_third_fails(self, bad: float) -> None:
        optimizer, seen, finite = self.fresh(), 0, []

        def objective(x: Floats) -> Doubles:
            nonlocal seen
            fails = (seen + np.arange(len(x))) % 3 == 0
            seen += len(x)
            finite.extend(sphere(x)[~fails])
            return np.where(fails, bad, sphere(x))

        run(optimizer, objective)
        assert optimizer.evaluations == self.budget
        assert optimizer.failed == len(range(0, self.budget, 3))
        assert best_of(optimizer).loss == min(finite)

    def test_a_first_population_without_one_finite_loss_is_named_and_can_go_on(self) -> None:
        optimizer, count = self.fresh(), 0
        while optimizer.should_stop() is None:
            trials = optimizer.ask()
            count += len(trials)
            optimizer.tell(trials, np.full(len(trials), np.nan))
        assert optimizer.should_stop() == ("failed" if count < self.budget else "budget")
        assert count < self.budget, "a whole population of failures should be named: should_stop() == 'failed'"
        assert optimizer.best is None
        trials = told(optimizer)
        assert optimizer.should_stop() is None
        assert best_of(optimizer).loss == sphere(trials.x).min()
        run(optimizer)
        assert optimizer.evaluations == self.budget

    def test_nothing_finite_ever_is_no_exception(self) -> None:
        optimizer = self.fresh()
        while len(trials := optimizer.ask()):
            assert self.contains(trials.x)
            optimizer.tell(trials, np.full(len(trials), np.nan))
        assert optimizer.evaluations == optimizer.failed == self.budget
        assert optimizer.best is None
        assert not np.isfinite(optimizer.population[1]).any()

    def test_a_constant_objective_does_no_harm(self) -> None:
        self._told_whatever_happens(lambda x: np.ones(len(x)))

    def test_ties_do_no_harm(self) -> None:
        self._told_whatever_happens(lambda x: np.floor(sphere(x) / 20))

    def test_huge_losses_do_no_harm(self) -> None:
        self._told_whatever_happens(lambda x: np.where(x[:, 0] > 0, 1.7e308, -1.7e308))

    def _told_whatever_happens(self, objective: Callable[[Floats], Doubles]) -> None:
        """Go on to the budget, even past reasons to stop; the best is the first of the lowest."""
        optimizer = self.fresh()
        losses: list[float] = []
        while len(trials := optimizer.ask()):
            assert self.contains(trials.x)
            values = objective(trials.x)
            losses.extend(values.tolist())
            optimizer.tell(trials, values)
        assert optimizer.evaluations == len(losses) == self.budget
        assert optimizer.failed == 0
        assert best_of(optimizer)[1:] == (min(losses), int(np.argmin(losses)))

    def test_a_third_of_failures_costs_no_more_than_the_evaluations_it_wastes(self) -> None:
        # As many finite losses either way: comparing equal budgets would measure how fast it converges.
        clean = float(np.median([self._error(0.0, 350, seed) for seed in range(5)]))
        failing = float(np.median([self._error(0.3, 500, seed) for seed in range(5)]))
        assert failing <= self.failure_factor * max(clean, 1e-12), f"{failing:.3g} with 30 % NaN, {clean:.3g} without"

    def _error(self, share: float, budget: int, seed: int) -> float:
        popsize = 16 if self.capabilities.popsize else None
        optimizer = self.fresh(bounds=[(-5.0, 5.0)] * 5, budget=budget, seed=seed, popsize=popsize)
        fate = np.random.default_rng(seed)
        run(optimizer, lambda x: np.where(fate.random(len(x)) < share, np.nan, sphere(x)))
        return np.inf if optimizer.best is None else optimizer.best.loss
