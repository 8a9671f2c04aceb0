"""What an optimizer says it can do, it does; what it says it cannot, it refuses in one line."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from evoprompt.testing.case import Case, best_of, joined, or_refused, run, sphere, told

__all__ = ["Claiming"]

_SECONDS = 0.05
_OPEN = [(0.0, None), (None, 1.0), (None, None), (-1.0, 1.0)]
_WHOLE = np.array([True, False, False, True])
_KNOWN = np.full((3, 4), 0.25) + np.arange(3)[:, None] * 0.05


class Claiming(Case):
    """Tests of ``capabilities``: one for each."""

    @or_refused("popsize", lambda case: case.fresh(popsize=case.popsize))
    def test_a_population_size_is_kept_or_refused(self) -> None:
        assert len(self.fresh(popsize=9).ask()) == 9

    @or_refused("infinite_bounds", lambda case: case.fresh(bounds=_OPEN).ask())
    def test_infinite_bounds_are_searched_or_refused(self) -> None:
        asked = run(self.fresh(bounds=_OPEN, budget=4 * self.budget), lambda x: x.sum(axis=1, dtype=np.float64))
        assert np.isfinite(asked).all()
        assert (np.ptp(asked, axis=0) > 0).all()
        assert (asked[:, 0] >= 0).all()
        assert (asked[:, 1] <= 1).all()
        assert (np.abs(asked[:, 3]) <= 1).all()

    @or_refused("one_coordinate", lambda case: case.fresh(bounds=[(-1.0, 1.0)]).ask())
    def test_a_single_coordinate_is_searched_or_refused(self) -> None:
        asked = run(self.fresh(bounds=[(-1.0, 1.0)]))
        assert asked.shape == (self.budget, 1)
        assert (np.abs(asked) <= 1).all()

    @or_refused("integrality", lambda case: case.fresh(integrality=_WHOLE))
    def test_whole_number_coordinates_are_whole_or_refused(self) -> None:
        asked = run(self.fresh(integrality=_WHOLE, budget=4 * self.budget))
        whole = asked == np.rint(asked)
        assert whole[:, _WHOLE].all()
        assert not whole[:, ~_WHOLE].all(axis=0).any()
        assert self.contains(asked)
        assert len(np.unique(asked[:, 3])) > 5

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

    @or_refused("noise", lambda case: case.fresh(noise="auto"))
    def test_noise_is_handled_or_refused(self) -> None:
        for noise in ("auto", 1.0):
            optimizer: Any = self.fresh(noise=noise, budget=8 * self.budget)
            errors = np.random.default_rng(0)
            asked = run(optimizer, lambda x: errors.normal(size=len(x)))  # noqa: B023
            assert len(asked) == optimizer.evaluations == 8 * self.budget
            recommended, estimate = optimizer.recommendation
            assert self.contains(recommended)
            assert estimate > optimizer.best.loss, "the luckiest of many equal points is believed"

    @or_refused("seconds", lambda case: case.fresh(seconds=_SECONDS))
    def test_a_deadline_stops_or_is_refused(self) -> None:
        optimizer = self.fresh(seconds=_SECONDS, budget=1000)
        started = time.monotonic()
        told(optimizer)
        time.sleep(_SECONDS)
        assert optimizer.should_stop() == "deadline"
        assert time.monotonic() - started >= _SECONDS
        assert len(optimizer.ask()) == len(optimizer.ask(3)) == 0
        if self.keeps_state:
            copy = self.fresh(seconds=_SECONDS, budget=1000)
            copy.load_state_dict(optimizer.state_dict())
            assert copy.should_stop() == "deadline", "the time already spent counts after a reload"

    @or_refused("steady_state", lambda case: case.fresh(updating="immediate"))
    def test_a_steady_state_has_no_barrier_or_is_refused(self) -> None:
        optimizer, waiting = self.fresh(updating="immediate"), []  # type: ignore[var-annotated]
        while len(trials := optimizer.ask(5 - len(waiting))):
            waiting.extend(trials[i : i + 1] for i in range(len(trials)))
            assert len(waiting) == min(5, self.budget - optimizer.evaluations), "fewer trials in flight than asked for"
            one = waiting.pop(len(waiting) // 2)
            optimizer.tell(one, sphere(one.x))
        for one in waiting:
            optimizer.tell(one, sphere(one.x))
        assert optimizer.evaluations == self.budget
        assert best_of(optimizer).loss < 10

    @or_refused("warm_start", lambda case: case.fresh().warm_start(_KNOWN, sphere(_KNOWN)), missing=True)
    def test_a_warm_start_is_free_or_refused(self) -> None:
        optimizer: Any = self.fresh()
        optimizer.warm_start(_KNOWN, sphere(_KNOWN))
        assert optimizer.evaluations == optimizer.asked == 0
        assert optimizer.best.loss == sphere(_KNOWN).min()
        assert len(run(optimizer)) == optimizer.evaluations == self.budget

    def test_asking_ahead_of_the_results_gives_trials_or_none(self) -> None:
        optimizer = self.fresh()
        batches = [optimizer.ask(), optimizer.ask(3)]
        if not self.capabilities.asks_ahead:
            assert len(batches[1]) == 0
            return
        assert len(batches[1]) == 3
        both = joined(batches)
        assert len(np.unique(both.ids)) == len(both)
        for i in reversed(range(len(both))):
            optimizer.tell(both[i : i + 1], sphere(both.x[i : i + 1]))
        assert optimizer.evaluations == len(both)
        assert len(run(optimizer)) == self.budget - len(both)

    @or_refused("accepts_guests", lambda case: case.fresh().tell(np.full((1, 4), 0.2), [-1e3]))
    def test_guests_steer_the_search_or_leave_it_alone(self) -> None:
        visited, alone = self.fresh(), self.fresh()
        for optimizer in (visited, alone):
            told(optimizer)
        visited.tell(np.full((1, 4), 0.2), [-1e3])
        here, there = (joined([told(optimizer) for _ in range(4)]).x for optimizer in (visited, alone))
        same = np.array_equal(here, there)
        steers = "do not depend" if same else "depend"
        assert same != self.capabilities.learns_from_guests, f"the trials {steers} on a guest"

    def test_a_guest_outside_the_box_is_refused(self) -> None:
        optimizer = self.fresh()
        self.refuses(lambda: optimizer.tell(np.full((1, 4), 77.0), [-1e3]))
        assert optimizer.evaluations == 0
        assert optimizer.best is None
