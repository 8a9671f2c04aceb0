"""Feasibility first, by Deb's rules."""

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, NonlinearConstraint

from evoprompt.optim import DifferentialEvolution, Evaluation, minimize
from evoprompt.optim.constraints import Constraints

BOX = [(-5.0, 5.0)] * 2


def distance(x):
    """Least at (2, 2), outside the unit disc."""
    return float(((x - 2.0) ** 2).sum())


DISC = NonlinearConstraint(lambda x: x[0] ** 2 + x[1] ** 2, -np.inf, 1.0)
SETTINGS = {"budget": 3000, "method": "shade", "popsize": 20}


@pytest.mark.parametrize(
    "disc",
    [
        DISC,
        {"type": "ineq", "fun": lambda x, r: r - x @ x, "args": (1.0,)},
        [DISC, LinearConstraint(np.eye(2), -5, 5)],
    ],
    ids=["nonlinear", "dict", "several"],
)
def test_the_best_point_of_the_disc_is_on_its_rim(disc):
    result = minimize(distance, BOX, constraints=disc, **SETTINGS)
    assert result.success
    assert result.violation == 0
    np.testing.assert_allclose(result.x, np.sqrt(0.5), atol=1e-3)
    assert result.x @ result.x <= 1


def test_an_equation_is_met_within_its_tolerance():
    line = LinearConstraint([[1.0, 1.0]], 1.0, 1.0)
    result = minimize(distance, BOX, constraints=line, **SETTINGS)
    assert result.success
    assert result.x.sum() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(result.x, 0.5, atol=1e-2)


def test_vectorized_constraints_get_rows():
    shapes = []

    def disc(x):
        shapes.append(x.shape)
        return (x**2).sum(axis=1)

    many = minimize(
        lambda x: ((x - 2) ** 2).sum(axis=1),
        BOX,
        vectorized=True,
        constraints=NonlinearConstraint(disc, 0, 1),
        **SETTINGS,
    )
    np.testing.assert_array_equal(many.x, minimize(distance, BOX, constraints=DISC, **SETTINGS).x)
    assert {d for _, d in shapes} == {2}


def test_a_function_that_fails_where_constraints_are_violated_is_led_to_where_it_does_not():
    def only_inside(x):
        if x @ x > 1:
            raise ArithmeticError("outside")
        return distance(x)

    result = minimize(only_inside, [(-50, 50)] * 2, constraints=DISC, **SETTINGS)
    assert result.success
    assert result.nfail == 0
    np.testing.assert_allclose(result.x, np.sqrt(0.5), atol=0.05)


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_constraint_that_fails_costs_its_candidate_only(how):
    def brittle(x):
        if x[0] > 1:
            if how == "raises":
                raise OSError("no value")
            return np.nan
        return x @ x

    result = minimize(distance, BOX, constraints=NonlinearConstraint(brittle, -np.inf, 1.0), **SETTINGS)
    assert result.success
    assert result.nfail > 0
    np.testing.assert_allclose(result.x, np.sqrt(0.5), atol=1e-2)
    assert ("OSError" in result.message) == (how == "raises")


def test_the_last_error_is_the_latest_of_all_constraints():
    def brittle(name, index):
        def fun(x):
            if x[index] > 1:
                raise OSError(f"no {name}")
            return 1.0

        return {"type": "ineq", "fun": fun}

    constraints = Constraints([brittle("first", 0), brittle("second", 1)])
    assert constraints.last_error is None
    for point, error in [
        ((2, 0), "first"),
        ((0, 2), "second"),
        ((0, 0), "second"),
        ((2, 2), "second"),
        ((2, 0), "first"),
    ]:
        constraints.violations(np.array([point], dtype=np.float64))
        assert constraints.last_error == f"OSError: no {error}"


def test_constraints_that_cannot_be_met_are_reported():
    nowhere = [NonlinearConstraint(lambda x: x[0], 7, np.inf), DISC]
    result = minimize(distance, BOX, constraints=nowhere, budget=400)
    assert not result.success
    assert result.violation > 2
    assert "no point was found that meets the constraints" in result.message


@pytest.mark.parametrize("through", ["argument", "metric"])
def test_less_violation_beats_less_loss_and_the_loss_decides_among_equals(through):
    engine = DifferentialEvolution(BOX, popsize=4, seed=0, variant="shade", target=0.0)
    trials = engine.ask()
    losses, violation = np.array([-9.0, 5.0, 3.0, 1.0]), np.array([2.0, 0.5, 0.5, 0.5])
    if through == "argument":
        engine.tell(trials[:3], losses[:3], violation[:3])
    else:
        engine.tell(trials[:3], Evaluation(losses[:3], {"violation": violation[:3]}))
    assert (engine.best.id, engine.best_violation) == (2, 0.5)
    assert engine.should_stop() is None
    engine.tell(trials[3:], losses[3:], violation[3:])
    assert engine.best.id == 3
    engine.tell([[0.0, 0.0]], [50.0], [0.0])
    assert (engine.best.id, engine.best.loss, engine.best_violation) == (-1, 50.0, 0.0)
    engine.tell([[1.0, 0.0]], [-1.0], [-3.0])
    assert engine.should_stop() == "target"


def test_a_violation_that_is_not_finite_is_a_failure():
    engine = DifferentialEvolution(BOX, popsize=4, seed=0, variant="shade")
    engine.tell(engine.ask(), np.zeros(4), [np.nan, np.inf, 1.0, -np.inf])
    assert engine.failed == 3
    assert (engine.best.id, engine.best_violation) == (2, 1.0)


def test_violations_of_the_wrong_shape_are_refused_and_nothing_is_taken_in():
    engine = DifferentialEvolution(BOX, popsize=4, seed=0, variant="shade")
    trials = engine.ask()
    for wrong in ([1.0], np.zeros((4, 2)), "high"):
        with pytest.raises(ValueError, match="violations must"):
            engine.tell(trials, np.zeros(4), wrong)
    engine.tell(trials, np.zeros(4))
    assert engine.evaluations == 4


@pytest.mark.parametrize("wrong", [3, [{"fun": abs}], {"type": "less", "fun": abs}, NonlinearConstraint(abs, 2, 1)])
def test_what_is_no_constraint_is_refused(wrong):
    with pytest.raises(ValueError, match="constraint"):
        Constraints(wrong)


def test_open_sides_and_infinite_values_do_not_mix_into_nan():
    limits = Constraints([NonlinearConstraint(lambda x: [x[0], np.inf], [-np.inf, 0], [1, np.inf])])
    assert limits.violations(np.array([[3.0], [0.0]])).tolist() == [2.0, 0.0]


@pytest.mark.parametrize("method", ["auto", "de", "shade"])
def test_a_loss_that_could_never_be_had_is_reported_as_nan_and_not_as_a_number(method):
    never = {"type": "ineq", "fun": lambda x: -1 - abs(x[0])}
    result = minimize(lambda x: float("nan"), [(-5, 5)] * 3, budget=100, method=method, constraints=never)
    assert not result.success
    assert result.violation >= 1
    assert np.isnan(result.fun)
    assert not (np.asarray(result.population_energies) == 1e100).any()
