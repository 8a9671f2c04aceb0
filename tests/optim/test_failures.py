"""Whatever an objective returns, the engine goes on."""

import numpy as np
import pytest

from evoprompt.optim import DifferentialEvolution
from evoprompt.optim.de.papers import VARIANTS

BOX = [(-5.0, 5.0)] * 5


def sphere(x):
    return ((np.asarray(x, dtype=np.float64) - 0.3) ** 2).sum(axis=1)


def best_loss(objective, **options):
    engine = DifferentialEvolution(BOX, budget=3000, popsize=20, dtype="float64", **options)
    while not engine.should_stop():
        trials = engine.ask()
        engine.tell(trials, objective(trials.x))
    return engine.best.loss if engine.best else np.nan


@pytest.mark.parametrize("variant", ["best/1/bin", "jde", "shade", "lshade"])
def test_a_third_of_the_evaluations_may_fail(variant):
    clean, failing = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        clean.append(best_loss(sphere, seed=seed, variant=variant))
        # What remains of the budget is what a run without failures would have had.
        failing.append(
            best_loss(lambda x, r=rng: np.where(r.random(len(x)) < 0.3, np.nan, sphere(x)), seed=seed, variant=variant)
        )
    assert np.median(np.sqrt(failing)) < 10 * np.median(np.sqrt(clean)) + 1e-3


@pytest.mark.parametrize("updating", ["deferred", "immediate"])
@pytest.mark.parametrize("variant", [name for name in VARIANTS if "exp" not in name])
@pytest.mark.parametrize(
    "objective",
    [
        lambda x: np.full(len(x), np.nan),
        lambda x: np.full(len(x), np.inf),
        lambda x: np.full(len(x), -np.inf),
        lambda x: np.zeros(len(x)),
        lambda x: np.full(len(x), 1e308),
        lambda x: np.where(np.arange(len(x)) % 2, 1e308, -1e308),
        lambda x: np.rint(sphere(x) / 10),
        lambda x: np.where(x[:, 0] > 0, np.inf, 1.0),
        lambda x: -1 / np.abs(x).min(axis=1),
    ],
    ids=["nan", "inf", "-inf", "constant", "huge", "opposite", "steps", "half", "pole"],
)
@pytest.mark.filterwarnings("error::RuntimeWarning:evoprompt")
def test_no_losses_are_an_exception(objective, variant, updating):
    engine = DifferentialEvolution(BOX, budget=160, popsize=10, updating=updating, variant=variant, seed=1)
    while engine.evaluations < 160:
        trials = engine.ask()
        assert len(trials)
        with np.errstate(all="ignore"):
            losses = objective(trials.x.astype(np.float64))
        engine.tell(trials, losses)
        assert (np.abs(trials.x) <= 5).all()
    assert engine.should_stop() == "budget"


def test_a_first_population_of_failures_does_not_end_the_search():
    engine = DifferentialEvolution(BOX, popsize=10, seed=1, variant="shade", dtype="float64")
    first = engine.ask()
    engine.tell(first, np.full(10, np.nan))
    assert engine.should_stop() is None
    while engine.evaluations < 1500:
        trials = engine.ask()
        assert not (trials.x[:, None] == first.x).all(axis=2).any()
        engine.tell(trials, sphere(trials.x))
    assert engine.should_stop() is None
    assert engine.best.loss < 1e-3
