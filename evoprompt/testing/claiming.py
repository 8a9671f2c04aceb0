"""What an optimizer says it can do, it does; what it says it cannot, it refuses in one line."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from evoprompt.optim.protocol import Optimizer, Trials
from evoprompt.testing.case import Case, joined, run, sphere
from evoprompt.typing import Floats

__all__ = ["Claiming"]

_SECONDS = 0.05


class Claiming(Case):
    """Tests of ``capabilities``: one for each."""

    def test_a_population_size_is_kept_or_refused(self) -> None:
        if not self.capabilities.popsize:
            return self.refuses(lambda: self.fresh(popsize=self.popsize))
        assert len(self.fresh(popsize=9).ask()) == 9
        return None

    def test_infinite_bounds_are_searched_or_refused(self) -> None:
        bounds = [(0.0, None), (None, 1.0), (None, None), (-1.0, 1.0)]
        if not self.capabilities.infinite_bounds:
            return self.refuses(lambda: self.fresh(bounds=bounds).ask())
        asked = run(self.fresh(bounds=bounds, budget=4 * self.budget), _downhill)
        assert np.isfinite(asked).all()
        assert (np.ptp(asked, axis=0) > 0).all()
        assert (asked[:, 0] >= 0).all()
        assert (asked[:, 1] <= 1).all()
        assert (np.abs(asked[:, 3]) <= 1).all()
        return None

    def test_a_single_coordinate_is_searched_or_refused(self) -> None:
        if not self.capabilities.one_coordinate:
            return self.refuses(lambda: self.fresh(bounds=[(-1.0, 1.0)]).ask())
        asked = run(self.fresh(bounds=[(-1.0, 1.0)]))
        assert asked.shape == (self.budget, 1)
        assert (np.abs(asked) <= 1).all()
        return None

    def test_whole_number_coordinates_are_whole_or_refused(self) -> None:
        mask = np.array([True, False, False, True])
        if not self.capabilities.integrality:
            return self.refuses(lambda: self.fresh(integrality=mask))
        asked = run(self.fresh(integrality=mask, budget=4 * self.budget))
        low, high = np.array(self.bounds).T
        assert (asked[:, mask] == np.rint(asked[:, mask])).all()
        assert (asked[:, ~mask] != np.rint(asked[:, ~mask])).any(axis=0).all()
        assert ((asked >= low) & (asked <= high)).all()
        assert len(np.unique(asked[:, 3])) > 5
        return None

    def test_constraints_come_before_losses_or_are_refused(self) -> None:
        optimizer: Any = self.fresh()
        trials = optimizer.ask()
        if not self.capabilities.constraints:
            self.refuses(lambda: optimizer.tell(trials, sphere(trials.x), violation=np.zeros(len(trials))))
            assert optimizer.evaluations == 0
            return
        feasible = np.inf
        while len(trials):
            excess = np.maximum(1.5 - trials.x[:, 0], 0.0)
            optimizer.tell(trials, sphere(trials.x), violation=excess)
            feasible = min(feasible, sphere(trials.x)[excess == 0].min(initial=np.inf))
            trials = optimizer.ask()
        assert optimizer.evaluations == self.budget
        assert feasible < np.inf, "no feasible point was found in a quarter of the box"
        assert optimizer.best.loss == feasible
        assert optimizer.best.x[0] >= 1.5

    def test_noise_is_handled_or_refused(self) -> None:
        if not self.capabilities.noise:
            return self.refuses(lambda: self.fresh(noise="auto"))
        low, high = np.array(self.bounds).T
        for noise in ("auto", 1.0):
            optimizer: Any = self.fresh(noise=noise, budget=8 * self.budget)
            errors = np.random.default_rng(0)
            asked = run(optimizer, lambda x: errors.normal(size=len(x)))  # noqa: B023
            assert len(asked) == optimizer.evaluations == 8 * self.budget
            recommended, estimate = optimizer.recommendation
            assert ((recommended >= low) & (recommended <= high)).all()
            assert estimate > optimizer.best.loss, "the luckiest of many equal points is believed"
        return None

    def test_a_deadline_stops_or_is_refused(self) -> None:
        if not self.capabilities.seconds:
            return self.refuses(lambda: self.fresh(seconds=_SECONDS))
        optimizer = self.fresh(seconds=_SECONDS, budget=1000)
        started, trials = time.monotonic(), optimizer.ask()
        optimizer.tell(trials, sphere(trials.x))
        time.sleep(_SECONDS)
        assert optimizer.should_stop() == "deadline"
        assert time.monotonic() - started >= _SECONDS
        assert len(optimizer.ask()) == len(optimizer.ask(3)) == 0
        if self.keeps_state:
            copy = self.fresh(seconds=_SECONDS, budget=1000)
            copy.load_state_dict(optimizer.state_dict())
            assert copy.should_stop() == "deadline", "the time already spent counts after a reload"
        return None

    def test_a_steady_state_has_no_barrier_or_is_refused(self) -> None:
        if not self.capabilities.steady_state:
            return self.refuses(lambda: self.fresh(updating="immediate"))
        optimizer, waiting = self.fresh(updating="immediate"), []  # type: ignore[var-annotated]
        while len(trials := optimizer.ask(5 - len(waiting))):
            waiting.extend(trials[i : i + 1] for i in range(len(trials)))
            assert len(waiting) == min(5, self.budget - optimizer.evaluations), "fewer trials in flight than asked for"
            told = waiting.pop(len(waiting) // 2)
            optimizer.tell(told, sphere(told.x))
        for told in waiting:
            optimizer.tell(told, sphere(told.x))
        assert optimizer.evaluations == self.budget
        assert optimizer.best is not None
        assert optimizer.best.loss < 10
        return None

    def test_a_warm_start_is_free_or_refused(self) -> None:
        optimizer: Any = self.fresh()
        known = np.full((3, 4), 0.25) + np.arange(3)[:, None] * 0.05
        if not self.capabilities.warm_start:
            return self.refuses(lambda: optimizer.warm_start(known, sphere(known)), missing=True)
        optimizer.warm_start(known, sphere(known))
        assert optimizer.evaluations == optimizer.asked == 0
        assert optimizer.best.loss == sphere(known).min()
        assert len(run(optimizer)) == optimizer.evaluations == self.budget
        return None

    def test_asking_ahead_of_the_results_gives_trials_or_none(self) -> None:
        optimizer = self.fresh()
        batches = [optimizer.ask(), optimizer.ask(3)]
        if not self.capabilities.asks_ahead:
            assert len(batches[1]) == 0
            return
        assert len(batches[1]) == 3
        both = joined(batches)
        assert len(np.unique(both.ids)) == len(both)
        _tell_backwards(optimizer, both)
        assert optimizer.evaluations == len(both)
        assert len(run(optimizer)) == self.budget - len(both)

    def test_guests_steer_the_search_or_leave_it_alone(self) -> None:
        if not self.accepts_guests:
            return self.refuses(lambda: self.fresh().tell(np.full((1, 4), 0.2), [-1e3]))
        told, alone = self.fresh(), self.fresh()
        for optimizer in (told, alone):
            trials = optimizer.ask()
            optimizer.tell(trials, sphere(trials.x))
        told.tell(np.full((1, 4), 0.2), [-1e3])
        following = [np.concatenate([_next_batch(optimizer) for _ in range(4)]) for optimizer in (told, alone)]
        same = np.array_equal(following[0], following[1])
        steers = "do not depend" if same else "depend"
        assert same != self.capabilities.learns_from_guests, f"the trials {steers} on a guest"
        return None

    def test_a_guest_outside_the_box_is_refused(self) -> None:
        optimizer = self.fresh()
        self.refuses(lambda: optimizer.tell(np.full((1, 4), 77.0), [-1e3]))
        assert optimizer.evaluations == 0
        assert optimizer.best is None


def _downhill(x: Floats) -> Any:
    return np.asarray(x, dtype=np.float64).sum(axis=1)


def _next_batch(optimizer: Optimizer) -> Floats:
    trials = optimizer.ask()
    points = trials.x.copy()
    optimizer.tell(trials, sphere(points))
    return points


def _tell_backwards(optimizer: Optimizer, trials: Trials) -> None:
    for i in reversed(range(len(trials))):
        optimizer.tell(trials[i : i + 1], sphere(trials.x[i : i + 1]))
