import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parallel_objectives import Raises, numbered_trials

from evoprompt.optim.protocol import Evaluation, Trials
from evoprompt.parallel import cut, evaluate_batch


@given(n=st.integers(0, 40), batch_size=st.integers(1, 50))
def test_cutting_keeps_every_trial_once_and_in_order(n: int, batch_size: int) -> None:
    parts = list(cut(numbered_trials(n), batch_size))
    assert [number for part in parts for number in part.ids] == list(range(n))
    assert all(len(part) == batch_size for part in parts[:-1])
    assert all(0 < len(part) <= batch_size for part in parts)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True])
def test_a_batch_size_that_is_no_positive_whole_number_is_refused_by_its_value(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size.*{batch_size}"):
        cut(numbered_trials(3), batch_size)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("raising", [0, -1])
def test_a_batch_of_any_size_loses_the_raising_candidate_alone(number: int, raising: int) -> None:
    trials = numbered_trials(number)
    bad = trials.x[raising, 0]

    def objective(x: np.ndarray) -> np.ndarray:
        if bad in x[:, 0]:
            raise ArithmeticError("not to be had")
        return x[:, 0]

    found = evaluate_batch(objective, trials)[0].loss
    np.testing.assert_array_equal(found, np.where(trials.x[:, 0] == bad, np.nan, trials.x[:, 0]))


def test_one_raising_candidate_costs_only_itself() -> None:
    evaluation, error = evaluate_batch(Raises()(), numbered_trials(8), "w")
    np.testing.assert_array_equal(evaluation.loss, [0, 1, 2, 3, np.nan, 5, np.nan, np.inf])
    assert error is not None
    assert error.startswith("ArithmeticError: candidate four is not to be had (")
    assert "parallel_objectives.py" in error
    assert evaluation.worker == "w"
    assert evaluation.seconds > 0


def test_the_metrics_of_a_raising_candidate_are_nan_in_the_shape_of_the_others() -> None:
    trials = numbered_trials(6, d=3)
    evaluation, _ = evaluate_batch(Raises()(), trials)
    row = evaluation.metrics["row"]
    assert row.shape == (6, 3)
    assert np.isnan(row[4]).all()
    np.testing.assert_array_equal(np.delete(row, 4, axis=0), np.delete(trials.x, 4, axis=0))
    np.testing.assert_array_equal(evaluation.metrics["count"], [1, 1, 1, 1, np.nan, 1])


def test_an_objective_that_always_raises_fails_all_candidates_without_an_exception() -> None:
    def objective(x: np.ndarray) -> np.ndarray:
        raise KeyError("model")

    evaluation, error = evaluate_batch(objective, numbered_trials(3))
    assert np.isnan(evaluation.loss).all()
    assert error is not None
    assert "KeyError" in error


def test_a_wrong_number_of_losses_is_a_failure_that_says_so() -> None:
    evaluation, error = evaluate_batch(lambda x: np.zeros(7), numbered_trials(3))
    assert np.isnan(evaluation.loss).all()
    assert error is not None
    assert "need 1 losses, got 7" in error


def test_ctrl_c_in_the_objective_is_not_a_failed_candidate() -> None:
    def objective(x: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_batch(objective, numbered_trials(2))


def test_an_objective_may_write_to_its_points_without_changing_the_trials() -> None:
    trials = numbered_trials(4)
    before = trials.x.copy()
    trials.x.setflags(write=False)

    def objective(x: np.ndarray) -> np.ndarray:
        x *= 2
        return x[:, 0]

    evaluation, error = evaluate_batch(objective, trials)
    assert error is None
    np.testing.assert_array_equal(evaluation.loss, [0, 2, 4, 6])
    np.testing.assert_array_equal(trials.x, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 5), (1, 7)])
def test_points_reach_the_objective_aligned_contiguous_and_in_their_own_precision(
    dtype: type, shape: tuple[int, int]
) -> None:
    seen: list[np.ndarray] = []

    def objective(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return np.zeros(len(x))

    points = np.random.default_rng(0).normal(size=(shape[0], 2 * shape[1])).astype(dtype)[:, ::2]
    evaluate_batch(objective, Trials(np.arange(shape[0]), points))
    (x,) = seen
    np.testing.assert_array_equal(x, points)
    assert x.dtype == dtype
    assert x.flags.c_contiguous
    assert x.ctypes.data % 64 == 0


def test_a_metric_that_changes_its_shape_is_refused_by_its_name() -> None:
    def objective(x: np.ndarray) -> Evaluation:
        (first,) = x[:, 0]  # one candidate at a time
        return Evaluation([first], {"score": np.zeros((1, 2 + int(first)))})

    evaluation, error = evaluate_batch(objective, numbered_trials(2))
    assert np.isnan(evaluation.loss).all()
    assert re.search(r"'score'.*\(2,\).*\(3,\)", str(error))


@pytest.mark.parametrize(("values", "dtype"), [(np.int8, "f8"), (np.float32, "f4"), (bool, "f8"), (str, "O")])
def test_a_metric_that_a_candidate_lacks_has_room_for_nan(values: type, dtype: str) -> None:
    def objective(x: np.ndarray) -> Evaluation:
        (first,) = x[:, 0]
        return Evaluation([first], {"score": np.array([1]).astype(values)} if first else {})

    metric = evaluate_batch(objective, numbered_trials(3))[0].metrics["score"]
    assert metric.dtype == dtype
    assert metric[0] != metric[0]
    np.testing.assert_array_equal(metric[1:].astype(values), np.array([1, 1]).astype(values))
