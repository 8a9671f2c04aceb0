"""What is particular to other libraries' optimizers behind ask and tell."""

import doctest
import gc
import threading
import time
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import differential_evolution, dual_annealing

from evoprompt.optim import OPTIMIZERS, Evaluation, make_optimizer, minimize
from evoprompt.optim.adapters.inverted import InvertedOptimizer
from evoprompt.optim.capabilities import Capabilities, table
from evoprompt.optim.methods import capabilities_of, factory_of
from evoprompt.testing.case import run, sphere

DOCS = Path(__file__).parents[2] / "docs" / "guides" / "which-optimizer.md"
ADAPTERS = ("cma", "nevergrad", "scipy", "dual_annealing", "random")
every_adapter = pytest.mark.parametrize("name", ADAPTERS)


def make(name, d=4, budget=60, **options):
    return make_optimizer(name, bounds=[(-5, 5)] * d, budget=budget, seed=1, dtype="float64", **options)


def rosenbrock(x):
    x = np.asarray(x, dtype=np.float64)
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1)


def test_the_table_in_the_docs_is_the_one_that_the_code_prints():
    assert table() in DOCS.read_text(), "put the output of `python -m evoprompt.optim.capabilities` into the docs"


def test_the_examples_in_the_docs_are_true():
    failed, tried = doctest.testfile(str(DOCS), module_relative=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert failed == 0
    assert tried > 0


def test_every_optimizer_says_itself_what_it_can_do():
    assert all(isinstance(capabilities_of(name), Capabilities) for name in OPTIMIZERS)
    assert capabilities_of("cma") != capabilities_of("de") == capabilities_of("auto") == capabilities_of("shade")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cma", {"noise": "auto"}, "'cma' does not support noise.*supported by: 'auto', 'de'$"),
        ("nevergrad", {"integrality": [True] * 4}, "whole-number.*supported by: 'auto', 'de', 'scipy', 'random'$"),
        ("random", {"updating": "immediate"}, "steady-state.*supported by: 'auto', 'de', 'nevergrad'$"),
        ("dual_annealing", {"popsize": 8}, "population size.*'auto', 'de', 'cma', 'nevergrad', 'scipy', 'random'$"),
        ("scipy", {"popsize": 4}, "popsize must be a number of candidates, an integer >= 5, got 4"),
        ("scipy", {"integrality": [True] * 3}, "integrality must be 4 booleans"),
        ("scipy", {"strategy": "worst1bin"}, "strategy"),
        ("cma", {"variant": "triangular"}, "one of 'full', 'separable', got 'triangular'"),
        ("cma", {"sigma": 0}, "sigma"),
        ("nevergrad", {"optimizer": "NoSuchThing"}, "no optimizer 'NoSuchThing'"),
        ("nevergrad", {"updating": "sometimes"}, "one of 'deferred', 'immediate', got 'sometimes'"),
        ("dual_annealing", {"local_search": "no"}, "local_search must be True or False, got 'no'"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_help_names_every_setting_and_option_with_its_default(name):
    named = signature(factory_of(name)).parameters
    assert {"budget", "seed", "popsize", "dtype", "x0", "target", "seconds"} < named.keys()
    assert not {"algorithm", "name", "config"} & named.keys()
    assert all(one.default is not one.empty for one in list(named.values())[1:])
    assert all(one.kind is not one.VAR_KEYWORD for one in named.values())
    assert (named["seed"].default, named["dtype"].default) == (0, "float64")


@pytest.mark.parametrize("option", [{"updating": "immediate"}, {"integrality": [True] * 4}])
def test_an_adapter_made_by_its_class_refuses_what_it_cannot_do_as_well(option):
    with pytest.raises(ValueError, match=r"^'cma' does not support"):
        factory_of("cma")([(-5, 5)] * 4, budget=60, **option)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_class_refuses_what_it_does_not_name_and_says_what_was_meant(name):
    made = factory_of(name)
    kind = getattr(made, "func", made).__name__
    with pytest.raises(
        TypeError, match=rf"^{kind}\(\) got an unexpected keyword argument 'popsise'; did you mean 'popsize'\?$"
    ):
        made([(-5, 5)] * 4, budget=60, popsise=4)
    with pytest.raises(TypeError, match=rf"^{kind}\(\) got an unexpected keyword argument 'config'"):
        made([(-5, 5)] * 4, budget=60, config={})


@every_adapter
def test_options_that_ask_for_nothing_are_accepted(name):
    optimizer = make(name, noise=None, integrality=None, updating="deferred", seconds=None)
    run(optimizer)
    assert optimizer.should_stop() == "budget"


@every_adapter
def test_constraints_and_warm_starts_are_refused_by_name(name):
    optimizer = make(name)
    trials = optimizer.ask()
    losses = Evaluation(sphere(trials.x), {"violation": np.zeros(len(trials))})
    with pytest.raises(ValueError, match=f"'{name}' does not support constraints.*'de'"):
        optimizer.tell(trials, losses)
    with pytest.raises(ValueError, match=f"'{name}' does not support warm starts.*'de'"):
        optimizer.warm_start([[0.0] * 4], [1.0])


@pytest.mark.parametrize("name", ["nevergrad", "scipy", "dual_annealing"])
def test_infinite_bounds_are_refused_saying_who_takes_them(name):
    with pytest.raises(ValueError, match="infinite bounds; supported by: 'auto', 'de', 'cma', 'random'"):
        make_optimizer(name, bounds=[(0, 1), (0, None)], budget=50, seed=0)


@pytest.mark.parametrize("strategy", ["best1bin", "rand1exp", "currenttobest1bin", "rand2bin"])
def test_scipys_evolution_is_scipys_own_trial_by_trial(strategy):
    initial = np.random.default_rng(0).uniform(-5, 5, (10, 4))
    optimizer = make("scipy", budget=100, popsize=10, strategy=strategy, x0=initial)
    theirs = []

    def objective(x):
        theirs.append(x.T.copy())
        return rosenbrock(x.T)

    rng = np.random.Generator(np.random.Philox(1))
    differential_evolution(
        objective, [(-5, 5)] * 4, strategy=strategy, init=initial, maxiter=9, tol=0, atol=-1, polish=False,
        vectorized=True, updating="deferred", rng=rng,
    )  # fmt: skip
    np.testing.assert_allclose(run(optimizer, rosenbrock), np.concatenate(theirs), rtol=1e-12, atol=1e-12)


def test_dual_annealing_is_scipys_own_point_by_point():
    start = np.full(3, 1.5)
    optimizer = make("dual_annealing", d=3, budget=200, x0=start)
    theirs = []

    def objective(u):
        theirs.append(-5 + 10 * u)
        return float(rosenbrock(theirs[-1][None])[0])

    steps = {"method": "L-BFGS-B", "bounds": [(0, 1)] * 3, "options": {"maxiter": 100, "eps": 2.0**-26}}
    rng = np.random.Generator(np.random.Philox(1))
    dual_annealing(objective, [(0, 1)] * 3, maxiter=2, minimizer_kwargs=steps, x0=(start + 5) / 10, rng=rng)
    ours = run(optimizer, rosenbrock)[1:]  # the first is x0 itself, which scipy then evaluates again
    n = min(len(ours), len(theirs))
    assert n > 50
    np.testing.assert_allclose(ours[:n], theirs[:n], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dual_annealings_local_search_solves_a_smooth_problem(dtype):
    bounds = [(-5, 5)] * 6
    optimizer = make_optimizer("dual_annealing", bounds=bounds, budget=1500, seed=1, dtype=dtype)
    run(optimizer, lambda x: sphere(x) + 1e-3 * rosenbrock(x))
    plain = make_optimizer("dual_annealing", bounds=bounds, budget=1500, seed=1, dtype=dtype, local_search=False)
    run(plain, lambda x: sphere(x) + 1e-3 * rosenbrock(x))
    assert optimizer.best.loss < min(0.07, plain.best.loss)


@pytest.mark.parametrize("variant", ["full", "separable"])
def test_cma_ends_by_itself_when_it_has_converged(variant):
    optimizer = make("cma", d=3, budget=20_000, variant=variant)
    run(optimizer)
    assert optimizer.should_stop() == "converged"
    assert optimizer.best.loss < 1e-12


def test_cma_learns_rotation_and_its_separable_form_does_not():
    losses = {v: make("cma", d=6, budget=1500, variant=v, popsize=10) for v in ("full", "separable")}
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    for optimizer in losses.values():
        run(optimizer, lambda x: ((x @ turn) ** 2 * 10.0 ** np.arange(6)).sum(axis=1))
    assert losses["full"].best.loss < 1e-3 * losses["separable"].best.loss


@pytest.mark.parametrize("optimizer", ["TwoPointsDE", "OnePlusOne", "PSO", "NGOpt"])
def test_any_registered_name_of_nevergrad_runs_and_resumes(optimizer):
    whole, half = (make("nevergrad", budget=48, popsize=4, optimizer=optimizer) for _ in range(2))
    asked = run(whole)
    for _ in range(6):
        trials = half.ask()
        half.tell(trials, sphere(trials.x))
    copy = make("nevergrad", budget=48, popsize=4, optimizer=optimizer)
    copy.load_state_dict(half.state_dict())
    np.testing.assert_array_equal(run(copy), asked[24:])


def test_nevergrads_plan_depends_on_the_budget_so_a_state_keeps_its_own():
    state = make("nevergrad").state_dict()
    with pytest.raises(ValueError, match="budget is 60 in the state and 90 here"):
        make("nevergrad", budget=90).load_state_dict(state)


@pytest.mark.parametrize("name", ["cma", "scipy", "dual_annealing", "random"])
def test_a_state_continues_under_a_larger_budget_and_not_under_one_that_is_spent(name):
    optimizer = make(name)
    run(optimizer)
    longer = make(name, budget=90)
    longer.load_state_dict(optimizer.state_dict())
    assert longer.popsize == optimizer.popsize
    assert len(run(longer)) == 30
    with pytest.raises(ValueError, match="budget is 60 in the state and 50 here, where 60 evaluations"):
        make(name, budget=50).load_state_dict(optimizer.state_dict())


@every_adapter
def test_a_state_whose_guests_spent_more_than_was_left_is_continued_under_its_own_budget(name):
    optimizer = make(name)
    run(optimizer)
    optimizer.tell(optimizer.best.x[None] * 0.5, [3.0])
    copy = make(name)
    copy.load_state_dict(optimizer.state_dict())
    assert (copy.evaluations, copy.budget, len(copy.ask())) == (61, 60, 0)


def test_a_state_that_the_library_would_continue_differently_is_refused():
    optimizer = make("cma")
    run(optimizer)
    state = optimizer.state_dict()
    state["log"]["asked"]["digest"][1] = "0" * 16
    with pytest.raises(ValueError, match="same release of the library behind 'cma'"):
        make("cma").load_state_dict(state)


@every_adapter
def test_a_deadline_ends_a_run_before_its_budget(name):
    def slow(x):
        time.sleep(0.005)
        return float(((x - 0.2) ** 2).sum())

    result = minimize(slow, [(-5, 5)] * 3, budget=10_000, method=name, seconds=0.15)
    assert result.stop_reason == "deadline"
    assert result.success
    assert 1 <= result.nfev < 200


@pytest.mark.parametrize("name", ["scipy", "dual_annealing"])
def test_an_optimizer_that_is_dropped_leaves_no_thread_behind(name):
    before = threading.active_count()
    optimizers = [make(name) for _ in range(5)]
    assert threading.active_count() == before + 5
    optimizers.clear()
    gc.collect()
    end = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() == before


class Brittle(InvertedOptimizer):
    name = "brittle"

    def _minimise(self):
        def minimise(objective):
            objective(np.zeros((4, self.d)))
            raise ArithmeticError("the engine is broken")

        return minimise


def test_an_engine_that_died_says_so_at_every_tell_after_it():
    optimizer = Brittle([(-5, 5)] * 3, budget=20, popsize=4)
    trials = optimizer.ask()
    said = []

    def telling():
        for told in (trials, trials.x + 1, trials.x + 2):
            with pytest.raises(ArithmeticError, match="the engine is broken") as caught:
                optimizer.tell(told, sphere(trials.x))
            said.append(caught.value)

    thread = threading.Thread(target=telling, daemon=True)
    thread.start()
    thread.join(timeout=120)
    assert len(said) == 3
    assert optimizer.evaluations == 12


@every_adapter
def test_fixed_coordinates_are_handed_out_and_not_searched(name):
    optimizer = make_optimizer(
        name, bounds=[(-1, 1), (2, 2), (-1, 1)], budget=40, seed=0, popsize=None, dtype="float64"
    )
    asked = run(optimizer)
    assert (asked[:, 1] == 2).all()
    assert (np.ptp(asked[:, [0, 2]], axis=0) > 0).all()
