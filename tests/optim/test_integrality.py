"""Whole-number coordinates."""

import numpy as np
import pytest

from evoprompt.optim import DifferentialEvolution, minimize
from evoprompt.optim.engine.state import load_state, save_state

BOX = [(-3.2, 4.7), (0.0, 1.0), (-0.5, 0.5), (None, None)]
WHOLE = np.array([True, False, True, True])


def rough(x):
    return ((np.asarray(x) - [1.6, 0.3, 0.1, -7.4]) ** 2).sum(axis=1)


@pytest.mark.parametrize("updating", ["deferred", "immediate"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_coordinates_are_whole_and_within_the_users_bounds(updating, dtype):
    engine = DifferentialEvolution(
        BOX, budget=600, seed=1, popsize=12, integrality=WHOLE, updating=updating, variant="shade", dtype=dtype
    )
    while not engine.should_stop():
        trials = engine.ask()
        assert (trials.x[:, WHOLE] == np.rint(trials.x[:, WHOLE])).all()
        assert ((trials.x[:, 0] >= -3) & (trials.x[:, 0] <= 4) & (trials.x[:, 2] == 0)).all()
        engine.tell(np.array(trials.x), rough(trials.x))
    assert engine.asked == engine.evaluations == 600
    assert engine.best.x[[0, 2, 3]].tolist() == [2, 0, -7]
    assert (engine.population[0][:, WHOLE] == np.rint(engine.population[0][:, WHOLE])).all()
    assert (engine.recommendation.x == engine.best.x).all()


def test_every_integer_has_an_equal_share_of_the_starting_points():
    engine = DifferentialEvolution([(0, 4)], popsize=500, integrality=True, initial="latin", variant="shade")
    counts = np.bincount(engine.ask().x[:, 0].astype(int), minlength=5)
    assert counts.tolist() == [100] * 5


def test_the_search_goes_on_with_what_it_made(tmp_path):
    settings = {"seed": 3, "popsize": 8, "integrality": WHOLE, "variant": "shade"}
    engine, copy = DifferentialEvolution(BOX, **settings), DifferentialEvolution(BOX, **settings)
    for _ in range(3):
        trials = engine.ask()
        engine.tell(trials, rough(trials.x))
    trials = engine.ask()
    engine.tell(trials[:3], rough(trials.x[:3]))
    save_state(tmp_path, engine.state_dict())
    copy.load_state_dict(load_state(tmp_path))
    for each in (engine, copy):
        each.tell(trials[3:], rough(trials.x[3:]))
    np.testing.assert_array_equal(engine.ask().x, copy.ask().x)
    members = engine._algorithm.population[0][:, WHOLE]
    assert (members != np.rint(members)).any()


def test_minimize_passes_it_on():
    result = minimize(lambda x: float((x - 0.6) @ (x - 0.6)), [(-9, 9)] * 3, budget=600, integrality=[1, 0, 1])
    assert result.x[[0, 2]].tolist() == [1.0, 1.0]
    assert result.x[1] == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize(
    ("bounds", "mask", "message"),
    [
        ([(0.2, 0.8)], True, "coordinate 0.*0.2.*0.8"),
        ([(0, 1)] * 2, [True, False, True], "2 booleans"),
        ([(0, 1)], [0.5], "booleans"),
    ],
)
def test_impossible_masks_are_refused(bounds, mask, message):
    with pytest.raises(ValueError, match=message):
        DifferentialEvolution(bounds, integrality=mask, dtype="float64")


def test_an_empty_mask_changes_nothing():
    plain, masked = (DifferentialEvolution(BOX, seed=1, popsize=6, integrality=m) for m in (None, [False] * 4))
    np.testing.assert_array_equal(plain.ask().x, masked.ask().x)
    masked.load_state_dict(plain.state_dict())
