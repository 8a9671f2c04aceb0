"""A state continues the run it was saved from, exactly, or under a larger budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.optim import DifferentialEvolution
from evoprompt.optim.engine.state import load_state, save_state

BOX = [(-5.0, 5.0)] * 3


def sphere(x):
    return ((np.asarray(x, dtype=np.float64) - 0.3) ** 2).sum(axis=1)


def engine(**options):
    return DifferentialEvolution(BOX, **{"seed": 1, "variant": "lshade", **options})


def run(optimizer, evaluations=None):
    while not optimizer.should_stop() and (evaluations is None or optimizer.evaluations < evaluations):
        trials = optimizer.ask()
        optimizer.tell(trials, sphere(trials.x))
    return optimizer


def assert_same(one, other):
    for mine, theirs in zip(one.population, other.population, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (one.evaluations, one.generation, one.best.id) == (other.evaluations, other.generation, other.best.id)


@given(data=st.data())
def test_with_parts_told_and_guests_waiting_the_copy_goes_on_alike(tmp_path_factory, data):
    updating = data.draw(st.sampled_from(["deferred", "immediate"]))
    variant = data.draw(st.sampled_from(["lshade", "jade", "rand/1/exp"]))
    options = {"popsize": 8, "budget": 200, "updating": updating, "variant": variant, "tol": 1e-9}
    optimizer, waiting = engine(**options), []
    if data.draw(st.booleans()):
        optimizer.warm_start([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]], [2.0, np.inf], [0.0, 1.0])

    def steps(each, script):
        told = []
        for action, k in script:
            if action == "ask":
                trials = each.ask(k)
                told.extend(trials[i : i + 1] for i in range(len(trials)))
            elif action == "guest":
                each.tell([[0.1 * k, 0.0, 0.0]], [float(k)], [float(k % 2)])
            elif told or waiting:
                queue = told or waiting
                part = queue[k % len(queue)]
                if part.ids[0] in each.outstanding.ids:
                    each.tell(part, [np.nan] if k == 5 else sphere(part.x))
        return told

    script = st.lists(st.tuples(st.sampled_from(["ask", "tell", "tell", "guest"]), st.integers(1, 9)), max_size=30)
    waiting = steps(optimizer, data.draw(script))
    folder = tmp_path_factory.mktemp("state")
    save_state(folder, optimizer.state_dict())
    copy = engine(**options)
    copy.load_state_dict(load_state(folder))
    np.testing.assert_array_equal(copy.outstanding.x, optimizer.outstanding.x)
    after = data.draw(script)
    for each in (optimizer, copy):
        steps(each, after)
        each.tell(each.outstanding, sphere(each.outstanding.x))
        run(each)
    assert_same(optimizer, copy)
    for name in ("id", "slot", "loss", "violation", "replaced", "parent_id"):
        np.testing.assert_array_equal(getattr(optimizer.record, name), getattr(copy.record, name))


@pytest.mark.parametrize("popsize", [None, 20])
def test_a_finished_run_goes_on_under_a_larger_budget(tmp_path, popsize):
    first = run(engine(budget=300, popsize=popsize))
    save_state(tmp_path, first.state_dict())
    longer = engine(budget=900, popsize=popsize)
    longer.load_state_dict(load_state(tmp_path))
    assert longer.popsize == first.popsize
    assert longer.should_stop() is None
    assert run(longer).evaluations == 900
    assert longer.best.loss < first.best.loss


def test_a_budget_may_be_cut_down_to_what_is_spent_but_not_below(tmp_path):
    optimizer = run(engine(budget=400, popsize=20, variant="jde"), evaluations=100)
    optimizer.ask(7)
    save_state(tmp_path, optimizer.state_dict())
    with pytest.raises(ValueError, match=r"budget is 400 in the state and 106 here, where 107"):
        engine(budget=106, popsize=20, variant="jde").load_state_dict(load_state(tmp_path))
    cut = engine(budget=107, popsize=20, variant="jde")
    cut.load_state_dict(load_state(tmp_path))
    assert len(cut.ask(5)) == 0
    cut.tell(cut.outstanding, np.ones(7))
    assert cut.should_stop() == "budget"


@pytest.mark.parametrize("budget", [40, 60])
def test_guests_beyond_the_budget_do_not_make_a_state_unreadable(budget):
    optimizer = engine(budget=40, popsize=20, variant="jde")
    trials = optimizer.ask(40)
    optimizer.tell(np.full((25, 3), 1.0), np.arange(25.0))
    copy = engine(budget=budget, popsize=20, variant="jde")
    copy.load_state_dict(optimizer.state_dict())
    assert len(copy.ask()) == 0
    copy.tell(trials, sphere(trials.x))
    assert copy.should_stop() == "budget"
    assert copy.evaluations == 65


def test_an_equal_budget_changes_nothing_and_none_at_all_is_a_larger_one(tmp_path):
    optimizer = run(engine(budget=400, popsize=20), evaluations=100)
    save_state(tmp_path, optimizer.state_dict())
    same, endless = engine(budget=400, popsize=20), engine(popsize=20)
    for copy in (same, endless):
        copy.load_state_dict(load_state(tmp_path))
    run(optimizer), run(same)
    assert_same(optimizer, same)
    assert run(endless, evaluations=500).evaluations >= 500


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"seed": 2}, "seed is 1 in the state and 2 here"),
        ({"variant": "jso"}, "variant is 'lshade' in the state and 'jso' here"),
        ({"popsize": 9}, "popsize is 8 in the state and 9 here"),
        ({"f": 0.3}, "f is None in the state and 0.3 here"),
        ({"noise": "auto"}, "noise is None"),
        ({"updating": "immediate"}, "updating is"),
        ({"integrality": [True, True, False]}, "integrality is None"),
        ({"tol": 0.1}, "tol is None"),
        ({"dtype": "float32"}, "dtype is 'float64' in the state"),
    ],
)
def test_every_other_difference_is_refused_by_name(other, named):
    state = run(engine(popsize=8), evaluations=20).state_dict()
    with pytest.raises(ValueError, match=named):
        engine(**{"popsize": 8, **other}).load_state_dict(state)


def test_a_state_whose_size_does_not_fit_is_refused_and_the_right_one_taken_afterwards():
    first, copy = run(engine(budget=300), evaluations=100), engine(budget=300)
    with pytest.raises(ValueError, match="a budget of 300 evaluations cannot pay for one population of 301"):
        copy.load_state_dict({**first.state_dict(), "popsize": 301})
    np.testing.assert_array_equal(copy.ask().x, engine(budget=300).ask().x)
    copy.load_state_dict(first.state_dict())
    assert_same(run(first), run(copy))


def test_a_state_of_another_version_is_refused():
    with pytest.raises(ValueError, match="version 1"):
        engine().load_state_dict({"version": 1})
