"""A variant of one's own: wherever a name is, in states, and when a part of it is wrong."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from evoprompt.optim import VARIANTS, DifferentialEvolution, Variant, make_optimizer, minimize
from evoprompt.optim.de.mutation import Recipe, Step, distinct
from evoprompt.optim.de.papers.lshade import linear
from evoprompt.optim.de.papers.shade import SuccessHistory
from evoprompt.optim.de.schedule import FixedShare


def best_2(pool, draws):
    """DE/best/2."""
    r = [draws.target]
    for k in range(4):
        r.append(distinct(draws.u[:, k], len(pool.x), *r))
    best = np.full(len(draws.f), pool.order[0])
    return Recipe(best, (Step(draws.f, r[1], r[2]), Step(draws.f, r[3], r[4])))


def five_for_each(d, budget):
    return 5 * d


MINE = Variant(
    "mine", best_2, "exp", SuccessHistory, cr=0.5, size=five_for_each, minimum=5, schedule=linear, archive=1.0,
    leaders=FixedShare(0.15),
)  # fmt: skip
WHERE = f"{__name__}:MINE"


def sphere(x):
    return ((x - 1) ** 2).sum(axis=1)


def run(optimizer, evaluations=10_000):
    while not optimizer.should_stop() and optimizer.evaluations < evaluations:
        trials = optimizer.ask()
        optimizer.tell(trials, sphere(trials.x))
    return optimizer


def test_a_variant_is_taken_wherever_a_name_is_and_gives_the_same_run():
    box = [(-5, 5)] * 4
    made = [
        DifferentialEvolution(box, budget=800, variant=MINE),
        DifferentialEvolution(box, budget=800, variant=WHERE),
        make_optimizer(MINE, bounds=box, budget=800, seed=0),
        make_optimizer("de", variant=WHERE, bounds=box, budget=800, seed=0),
        DifferentialEvolution(box, budget=800, variant=pickle.loads(pickle.dumps(MINE))),
    ]
    assert [optimizer.popsize for optimizer in made] == [20] * 5
    best = {run(optimizer).best.loss for optimizer in made}
    assert len(best) == 1
    assert best.pop() < 0.1
    result = minimize(sphere, box, budget=800, vectorized=True, method=MINE)
    assert result.method == "mine"
    assert result.fun == minimize(sphere, box, budget=800, vectorized=True, method="de", variant=MINE).fun


def test_a_variant_of_ones_own_is_known_by_name_once_it_is_in_the_table():
    VARIANTS["mine"] = MINE
    try:
        assert minimize(sphere, [(-5, 5)] * 4, budget=200, vectorized=True, method="mine").success
    finally:
        del VARIANTS["mine"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cr": 0.7}, "variant.cr is 0.5 in the state and 0.7 here$"),
        ({"mutation": "rand/1"}, "variant.mutation is '.*:best_2' in the state and 'rand/1' here$"),
        ({"leaders": FixedShare(0.2)}, r"variant.leaders is '.*FixedShare\(p=0.15\)'.*FixedShare\(p=0.2\)' here$"),
    ],
)
def test_a_state_of_another_algorithm_under_the_same_name_is_refused_and_says_what_differs(change, named):
    state = run(DifferentialEvolution([(-5, 5)] * 4, budget=800, variant=MINE), 60).state_dict()
    other = DifferentialEvolution([(-5, 5)] * 4, budget=800, variant=replace(MINE, **change))
    with pytest.raises(ValueError, match=named) as caught:
        other.load_state_dict(state)
    assert len(str(caught.value).splitlines()) == 1


def test_a_variant_with_a_lambda_runs_but_is_not_saved():
    variant = replace(MINE, size=lambda d, budget: 5 * d)
    optimizer = run(DifferentialEvolution([(-5, 5)] * 4, budget=100, variant=variant))
    with pytest.raises(ValueError, match="the size of variant 'mine' has no name to be saved by"):
        optimizer.state_dict()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"mutation": "curent-to-best/1"}, "did you mean current-to-best/1"),
        ({"crossover": "binn"}, "unknown crossover 'binn'; did you mean bin"),
        ({"repair": "midpiont"}, "did you mean midpoint"),
        ({"adaptation": "shade"}, "adaptation of a variant must be callable, got 'shade'"),
        ({"cr": 1.5}, "cr must be a number from 0 to 1, got 1.5"),
        ({"minimum": 3}, "minimum must be an integer >= 4, got 3"),
        ({"memory": 0}, "memory must be a number from 1"),
    ],
)
def test_a_wrong_part_is_refused_with_what_comes_close(parts, message):
    with pytest.raises(ValueError, match=message):
        Variant("mine", **parts)


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("lshad", "got 'lshad'; did you mean lshade"),
        ("no.such:THING", "variant 'no.such:THING' cannot be imported: No module named 'no'"),
        ("evoprompt.optim:NOTHING", "cannot be imported"),
        ("evoprompt.optim:minimize", "'evoprompt.optim:minimize' must be a Variant, got"),
    ],
)
def test_a_variant_that_is_not_there_is_refused_with_what_comes_close(variant, message):
    with pytest.raises(ValueError, match=message):
        DifferentialEvolution([(-5, 5)] * 4, budget=100, variant=variant)
