"""The BBOB problems: least values, and the noisy ones without their noise."""

import numpy as np
import pytest

from benchmarks.problems import GROUPS, load


@pytest.mark.parametrize("suite", ["bbob", "largescale"])
@pytest.mark.parametrize("function", range(1, 25))
def test_no_point_is_below_the_least_value(suite, function):
    problem = load(suite, function, 3, 20)
    points = np.random.default_rng(function).uniform(-5, 5, (200, 20))
    assert min(problem.true_error(x) for x in points) > 0
    assert problem.f_opt == pytest.approx(round(problem.f_opt, 2), abs=1e-9)


SAME_IN_THE_BOX = {1: [101, 102, 103, 107, 108, 109], 8: [104, 105, 106, 110, 111, 112], 7: [113, 114, 115]}
SAME_IN_THE_BOX |= {14: [119, 120, 121], 17: [122, 123, 124], 21: [128, 129, 130]}


@pytest.mark.parametrize(("plain", "noisy"), [(f, n) for f, many in SAME_IN_THE_BOX.items() for n in many])
def test_without_noise_a_noisy_function_is_the_plain_one_it_was_made_from(plain, noisy):
    points = np.random.default_rng(noisy).uniform(-5, 5, (5, 10))
    expected = [load("bbob", plain, 2, 10).true_error(x) for x in points]
    found = [load("noisy", noisy, 2, 10).true_error(x) for x in points]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_noise_differs_between_stretches_of_the_stream_and_is_the_same_on_one():
    x = np.ones(5)

    def values(stream):
        problem = load("noisy", 107, 1, 5, stream=stream)
        return [problem.loss(x) for _ in range(5)]

    assert values(1000) == values(1000)
    assert not set(values(0)) & set(values(1000))


def test_the_groups_hold_every_function_once():
    for suite, functions in {"bbob": range(1, 25), "noisy": range(101, 131)}.items():
        assert sorted(f for group in GROUPS[suite].values() for f in group) == list(functions)


def test_an_unknown_problem_is_named():
    with pytest.raises(ValueError, match="f1, instance 1, 7-D"):
        load("bbob", 1, 1, 7)
