"""Names tell the truth: what "de" and "auto" are, and that a state of one is not taken for the other's."""

import numpy as np
import pytest

import evoprompt
from evoprompt.optim import OPTIMIZERS, DifferentialEvolution, Portfolio, make_optimizer, minimize


def sphere(x):
    return (x**2).sum(axis=1)


def rosenbrock(x):
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1)


def ellipsoid(x):
    return (x**2 * 10.0 ** np.linspace(0, 6, x.shape[1])).sum(axis=1)


def rastrigin(x):
    return (x**2 - 10 * np.cos(2 * np.pi * x) + 10).sum(axis=1)


def kinked(x):
    return np.abs(x - 2.0 + 0.5 * x[:, ::-1]).sum(axis=1)


def steps(x):
    return np.floor(np.abs(x)).sum(axis=1)


@pytest.mark.parametrize("objective", [sphere, rosenbrock, ellipsoid, rastrigin, kinked, steps])
@pytest.mark.parametrize(("d", "budget"), [(2, 100), (5, 400), (10, 2000), (40, 1000), (300, 200)])
def test_every_point_of_de_after_the_first_generation_comes_from_mutation_and_crossover(objective, d, budget):
    engine = DifferentialEvolution([(-5, 5)] * d, budget=budget, seed=d)
    first, rest = [], []
    while not engine.should_stop():
        trials = engine.ask()
        engine.tell(trials, objective(trials.x.astype(np.float64)))
        (rest if first else first).append(engine.record)
    assert sum(map(len, first + rest)) == budget
    assert all(np.isnan(first[0].tags[name]).all() for name in ("f", "cr"))
    for record in rest:
        assert np.isfinite(record.tags["f"]).all()
        assert np.isfinite(record.tags["cr"]).all()
    assert engine.stages == {"initial": len(first[0]), "evolved": budget - len(first[0])}


@pytest.mark.parametrize("method", OPTIMIZERS)
def test_the_stages_are_all_evaluations_whoever_runs(method):
    optimizer = make_optimizer(method, bounds=[(-5, 5)] * 4, budget=120, seed=0)
    expected = "auto" if method == "auto" else method if method not in (*evoprompt.optim.VARIANTS, "de") else "de"
    assert optimizer.name == expected
    while not optimizer.should_stop():
        trials = optimizer.ask()
        optimizer.tell(trials[:1], sphere(trials.x[:1]))
        assert sum(optimizer.stages.values()) == optimizer.evaluations
        optimizer.tell(trials[1:], sphere(trials.x[1:]))
    optimizer.tell(np.full((1, 4), 0.5), [1.0])
    assert sum(optimizer.stages.values()) == optimizer.evaluations == 121


def test_minimize_says_what_ran_and_which_share_each_stage_had():
    result = minimize(rosenbrock, [(-5, 5)] * 4, budget=300, vectorized=True)
    assert result.method == "auto"
    assert set(result.stages) == {"opening", "lines", "gaussian", "de"}
    assert sum(result.stages.values()) == 300
    assert f"auto: opening {100 * result.stages['opening'] / 300:.0f}%, gaussian" in result.message
    assert minimize(sphere, [(-5, 5)] * 4, budget=40, vectorized=True, method="jso").method == "jso"


def test_stages_are_counted_on_after_a_reload_also_for_what_was_outstanding():
    engine, copy = (Portfolio([(-5, 5)] * 4, budget=300, seed=2) for _ in range(2))
    engine.tell(first := engine.ask(), rosenbrock(first.x))
    waiting = engine.ask()
    copy.load_state_dict(engine.state_dict())
    copy.tell(waiting, rosenbrock(waiting.x))
    assert copy.stages == engine.stages | {"de": len(waiting)}
    assert copy.stages["opening"] == len(first)


@pytest.mark.parametrize(("saved", "loaded"), [("auto", "de"), ("de", "auto"), ("cma", "random"), ("random", "de")])
def test_a_state_of_another_optimizer_is_refused_by_name(saved, loaded):
    made, other = (make_optimizer(name, bounds=[(0, 1)] * 3, budget=50, seed=0) for name in (saved, loaded))
    with pytest.raises(ValueError, match=f"^this state was made by '{saved}' and does not continue '{loaded}'$"):
        other.load_state_dict(made.state_dict())


@pytest.mark.parametrize(
    ("config", "maker"),
    [({"variant": "auto", "f": None}, "auto"), ({"variant": "jso", "f": None}, "de"), ({"name": "cma"}, "cma")],
)
def test_a_state_from_before_the_portfolio_had_its_name_is_refused_and_says_whose_it_was(config, maker):
    with pytest.raises(ValueError, match=f"^this state has version 2 and was made by '{maker}'; 'de' needs version 5$"):
        DifferentialEvolution([(0, 1)] * 3, budget=50).load_state_dict({"version": 2, "config": config})


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("name", ["auto", "de", "cma", "random"])
def test_a_state_of_a_version_before_is_refused_by_every_optimizer_under_the_name_that_it_has(name, version):
    optimizer = make_optimizer(name, bounds=[(0, 1)] * 3, budget=50, seed=0)
    message = f"^this state has version {version} and was made by '{name}'; '{name}' needs version 5$"
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(optimizer.state_dict() | {"version": version})


def test_the_old_name_of_the_portfolio_is_refused_with_the_new_one():
    with pytest.raises(ValueError, match=r"got 'auto' \(the portfolio is the method 'auto'\)$"):
        minimize(sphere, [(0, 1)] * 3, budget=50, method="de", variant="auto")
    with pytest.raises(ValueError, match="'auto' has no option variant"):
        minimize(sphere, [(0, 1)] * 3, budget=50, variant="jso")


def test_both_are_public_and_the_portfolio_is_what_minimize_runs():
    assert evoprompt.Portfolio is Portfolio
    assert evoprompt.DifferentialEvolution is DifferentialEvolution
    assert not issubclass(Portfolio, DifferentialEvolution)
    assert isinstance(make_optimizer("auto", bounds=[(0, 1)], budget=9, seed=0), Portfolio)
