"""minimize, as somebody who knows scipy's would use it."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import Bounds, OptimizeResult, rosen

from evoprompt.optim import Evaluation, minimize

BOX = [(-4.0, 4.0)] * 3


def sphere(x):
    return float(((x - 0.5) ** 2).sum())


def test_the_result_has_scipys_fields():
    result = minimize(sphere, BOX, budget=600)
    assert isinstance(result, OptimizeResult)
    assert result.success
    assert result.nfev == 600
    assert result.nfail == 0
    assert result.fun == pytest.approx(sphere(result.x))
    assert result.population.shape[1:] == (3,)
    assert result.population_energies.shape == (len(result.population),)
    np.testing.assert_allclose(result.x, 0.5, atol=0.02)


def test_bounds_lists_arrays_and_objects_mean_the_same():
    forms = [BOX, np.array(BOX), Bounds([-4] * 3, [4] * 3), Bounds(-4, [4] * 3)]
    runs = [minimize(sphere, bounds, budget=60).x for bounds in forms]
    for x in runs[1:]:
        np.testing.assert_array_equal(x, runs[0])


def test_vectorized_gives_the_same_run_from_rows():
    shapes = []

    def rows(x):
        shapes.append(x.shape)
        return ((x - 0.5) ** 2).sum(axis=1)

    one, many = minimize(sphere, BOX, budget=200), minimize(rows, BOX, budget=200, vectorized=True)
    np.testing.assert_array_equal(one.x, many.x)
    assert {d for _, d in shapes} == {3}


def test_args_are_passed_on():
    result = minimize(lambda x, a, b: ((x - a) ** 2).sum() + b, BOX, args=(1.0, 7.0), budget=500)
    assert result.fun == pytest.approx(7.0, abs=0.01)


@pytest.mark.parametrize("how", ["return", "raise"])
def test_a_callback_can_stop(how):
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.nfev)
        if len(seen) == 3:
            if how == "raise":
                raise StopIteration
            return True
        return None

    result = minimize(sphere, BOX, budget=600, popsize=10, callback=callback, method="jade")
    assert seen == [10, 20, 30]
    assert result.nfev == 30
    assert not result.success
    assert "callback" in result.message


def test_an_exception_costs_its_candidate_only():
    def brittle(x):
        if x[0] > 0.6:
            raise RuntimeError("too far")
        return sphere(x)

    result = minimize(brittle, BOX, budget=600)
    assert result.success
    assert result.nfail > 0
    assert result.nfev == 600
    assert "RuntimeError: too far" in result.message
    assert result.fun < 0.01


def test_an_exception_in_a_batch_is_narrowed_down_to_its_candidates():
    def brittle(x):
        if (x[:, 0] > 0.6).any():
            raise RuntimeError("too far")
        return ((x - 0.5) ** 2).sum(axis=1)

    result = minimize(brittle, BOX, budget=600, vectorized=True)
    assert 0 < result.nfail < 300
    assert result.fun < 0.01


def test_ctrl_c_passes_through():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minimize(interrupted, BOX, budget=60)


def test_a_function_that_always_fails_ends_early_with_its_error():
    def broken(x):
        raise OSError("no such thing")

    result = minimize(broken, BOX, budget=600, popsize=10)
    assert not result.success
    assert result.nfev == 100
    assert result.stop_reason == "failed"
    assert "no such thing" in result.message
    assert np.isnan(result.fun)


@pytest.mark.parametrize(("fun", "message"), [(lambda x: x, "1 losses|need 1"), (lambda x: None, "None")])
def test_a_function_that_returns_no_number_is_refused(fun, message):
    with pytest.raises(ValueError, match=message):
        minimize(fun, BOX, budget=60)


@pytest.mark.parametrize("method", ["auto", "de", "cma", "scipy", "random"])
def test_an_interrupted_run_continues_from_its_checkpoint_to_the_same_end(tmp_path, method):
    calls = 0

    def mortal(x):
        nonlocal calls
        calls += 1
        if calls == 77:
            raise KeyboardInterrupt
        return sphere(x)

    settings = {"budget": 200, "method": method, "popsize": 10, "seed": 6}
    with pytest.raises(KeyboardInterrupt):
        minimize(mortal, BOX, checkpoint=tmp_path / "run", **settings)
    resumed = minimize(mortal, BOX, checkpoint=tmp_path / "run", **settings)
    straight = minimize(sphere, BOX, **settings)
    np.testing.assert_array_equal(resumed.x, straight.x)
    assert resumed.nfev == straight.nfev == 200
    assert minimize(mortal, BOX, checkpoint=tmp_path / "run", **settings).nfev == 200


def test_a_checkpoint_of_other_settings_is_refused_naming_them(tmp_path):
    minimize(sphere, BOX, budget=60, checkpoint=tmp_path)
    with pytest.raises(ValueError, match=r"seed is 0 in the state and 1 here"):
        minimize(sphere, BOX, budget=60, seed=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="method 'auto', not 'random'"):
        minimize(sphere, BOX, budget=60, method="random", checkpoint=tmp_path)


class Backwards:
    """An evaluator that returns the last first, and gives up on one in ten."""

    def __init__(self):
        self.queue = []

    def submit(self, trials):
        self.queue.extend(trials[i : i + 1] for i in range(len(trials)))

    def collect(self, timeout=None):
        while self.queue:
            trials = self.queue.pop()
            if trials.ids[0] % 10:
                yield trials, Evaluation([sphere(trials.x[0])])

    def close(self):
        self.queue.clear()


def test_an_evaluator_does_the_work_and_what_it_drops_has_failed():
    result = minimize(None, BOX, budget=300, evaluator=Backwards())
    assert result.nfev == 300
    assert result.nfail == 30
    assert result.fun < 0.1
    with pytest.raises(ValueError, match="either fun or evaluator"):
        minimize(sphere, BOX, budget=300, evaluator=Backwards())


def test_options_reach_the_method():
    assert minimize(sphere, BOX, budget=5000, target=0.01).stop_reason == "target"
    assert minimize(sphere, BOX, budget=50, method="de", variant="best/1/bin").x.tolist() == (
        minimize(sphere, BOX, budget=50, method="best/1/bin").x.tolist()
    )
    with pytest.raises(ValueError, match="no option sigma"):
        minimize(sphere, BOX, budget=50, sigma=0.1)
    with pytest.raises(ValueError, match=r"'random' does not support noise.*'auto', 'de'"):
        minimize(sphere, BOX, budget=50, method="random", noise=0.1)


def test_what_scipy_ships_works_unchanged():
    result = minimize(rosen, Bounds([-2] * 3, [2] * 3), x0=np.zeros(3), budget=6000, method="rand/1/bin")
    np.testing.assert_allclose(result.x, 1, atol=0.05)
    assert result.fun == rosen(result.x)


def test_the_function_may_write_into_what_it_is_given():
    def careless(x):
        loss = sphere(x)
        x[:] = np.nan
        return loss

    np.testing.assert_array_equal(minimize(careless, BOX, budget=100).x, minimize(sphere, BOX, budget=100).x)


def test_a_finished_run_is_continued_with_a_larger_budget_but_not_with_one_that_is_overspent(tmp_path):
    first = minimize(sphere, BOX, budget=100, checkpoint=tmp_path)
    longer = minimize(sphere, BOX, budget=250, checkpoint=tmp_path)
    assert (first.nfev, longer.nfev) == (100, 250)
    assert longer.fun <= first.fun
    with pytest.raises(ValueError, match="budget is 250 in the state and 200 here, where 250 evaluations"):
        minimize(sphere, BOX, budget=200, checkpoint=tmp_path)


def test_a_checkpoint_keeps_its_seed_when_none_is_given(tmp_path: Path) -> None:
    def run(stop_at: int | None) -> OptimizeResult:
        def stop(intermediate_result: OptimizeResult) -> bool:
            return stop_at is not None and intermediate_result.nfev >= stop_at

        return minimize(sphere, [(-5, 5)] * 3, budget=200, seed=None, checkpoint=tmp_path, callback=stop)

    first = run(60)
    assert first.stop_reason == "callback"
    assert run(None).nfev == 200


@pytest.mark.parametrize("method", ["auto", "de", "shade"])
def test_with_noise_the_luckiest_loss_is_not_the_result(method):
    rng, seen = np.random.default_rng(0), []

    def noisy(x):
        seen.append(rng.normal())
        return seen[-1]

    result = minimize(noisy, BOX, budget=500, popsize=10, method=method, noise=1.0)
    assert result.nfev == 500
    assert min(seen) < result.fun < 1
