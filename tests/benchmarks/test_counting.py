"""The objective that counts: budget, box, targets, recommendations."""

import numpy as np
import pytest

from benchmarks.counting import TARGETS, BudgetSpent, Counted


def sphere(x):
    return float(np.sum(np.asarray(x) ** 2))


def counted(budget=10, **options):
    return Counted(sphere, [-5.0, -5.0], [5.0, 5.0], budget, f_opt=0.0, **options)


def test_evaluations_past_the_budget_do_not_count():
    objective = counted(budget=3)
    with pytest.raises(BudgetSpent):
        objective.batch(np.array([[4.0, 4.0], [3.0, 3.0], [2.0, 2.0], [0.0, 0.0]]))
    assert objective.used == 3
    assert objective.best_loss == 8.0
    with pytest.raises(BudgetSpent):
        objective([0.0, 0.0])
    assert objective.best_loss == 8.0


def test_a_method_that_cannot_be_stopped_gets_infinity():
    objective = counted(budget=1)
    objective.lenient = True
    assert objective.batch([[1.0, 1.0], [0.0, 0.0]]).tolist() == [2.0, np.inf]
    assert objective.best_loss == 2.0


def test_a_vectorised_objective_is_called_for_what_is_left_only():
    seen = []

    def many(x):
        seen.append(len(x))
        return (x**2).sum(axis=1)

    objective = counted(budget=5, many=many)
    objective.batch(np.ones((3, 2)))
    with pytest.raises(BudgetSpent):
        objective.batch(np.ones((3, 2)))
    assert seen == [3, 2]


def test_a_point_outside_the_box_costs_an_evaluation_and_is_never_the_best():
    objective = counted()
    objective([5.0, 5.0])
    objective([0.0, 5.1])
    assert objective.used == 2
    assert objective.best_loss == 50.0


def test_targets_are_noted_at_the_first_evaluation_that_reaches_them():
    objective = counted()
    objective([5.0, 5.0])
    objective([1.0, 0.0])
    objective([3.0, 0.0])
    first, second = (TARGETS >= 50).sum(), (TARGETS >= 1).sum()
    assert objective.hits == [1] * first + [2] * (second - first)


def test_the_last_target_ends_the_run():
    objective = counted()
    objective([0.0, 0.0])
    assert len(objective.hits) == len(TARGETS)
    assert objective.left == 0


def test_with_checkpoints_the_recommended_points_are_kept():
    objective = counted(checkpoints=[2, 4])
    objective.begin(lambda: np.array([1.0, 9.0]))
    for x in ([4.0, 0.0], [3.0, 0.0], [2.0, 0.0], [1.0, 0.0]):
        objective(x)
    assert [(count, x.tolist()) for count, x in objective.recommendations] == [(2, [1.0, 5.0]), (4, [1.0, 5.0])]


def test_the_start_with_the_best_observation_recommends():
    objective = counted(checkpoints=[100])
    objective.begin(lambda: np.array([1.0, 1.0]))
    objective([0.5, 0.0])
    objective.begin()
    objective([2.0, 0.0])
    assert objective.recommended().tolist() == [1.0, 1.0]
    objective([0.1, 0.0])
    assert objective.recommended().tolist() == [0.1, 0.0]
