"""What every optimizer promises, whichever engine is behind it."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evoprompt.optim import OPTIMIZERS, Optimizer, Trials, make_optimizer
from evoprompt.optim.state import load_state, save_state

BOUNDS = [(-3.0, 3.0), (-1.0, 4.0), (0.0, 0.5), (-10.0, 10.0)]
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VARIANTS = [(name, {}) for name in OPTIMIZERS] + [
    ("de", {"strategy": "rand/1/bin"}),
    ("de", {"strategy": "best/1/bin", "repair": "reflect"}),
    ("de", {"updating": "immediate", "repair": "resample", "dtype": "float64"}),
    ("cma", {"variant": "separable"}),
]
every_optimizer = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=[f"{n}-{o}" for n, o in VARIANTS])


def make(name: str, options: dict, *, budget: int | None = 60, seed: int = 3, popsize: int | None = 8) -> Optimizer:
    return make_optimizer(name, bounds=BOUNDS, budget=budget, seed=seed, popsize=popsize, **options)


def sphere(x: np.ndarray) -> np.ndarray:
    return ((np.asarray(x, dtype=np.float64) - 0.2) ** 2).sum(axis=1)


def run(optimizer: Optimizer, objective=sphere) -> np.ndarray:
    asked = []
    while not optimizer.should_stop():
        trials = optimizer.ask()
        asked.append(trials.x)
        optimizer.tell(trials, objective(trials.x))
    return np.concatenate(asked)


@every_optimizer
def test_it_is_an_optimizer(name, options):
    assert isinstance(make(name, options), Optimizer)


@every_optimizer
def test_equal_seeds_give_equal_runs_and_others_do_not(name, options):
    first, again = run(make(name, options)), run(make(name, options))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, run(make(name, options, seed=4)))


@every_optimizer
def test_trials_stay_in_the_box_and_have_the_dtype_asked_for(name, options):
    asked = run(make(name, options))
    low, high = np.array(BOUNDS).T
    assert ((asked >= low) & (asked <= high)).all()
    assert asked.dtype == options.get("dtype", "float32")


@every_optimizer
def test_the_budget_is_never_exceeded_and_is_used_up(name, options):
    optimizer = make(name, options, budget=29)
    asked = run(optimizer)
    assert len(asked) == optimizer.asked == optimizer.evaluations == 29
    assert optimizer.should_stop() == "budget"
    assert len(optimizer.ask()) == len(optimizer.ask(5)) == 0


@every_optimizer
def test_asking_for_more_than_the_budget_gives_no_more(name, options):
    optimizer = make(name, options, budget=20)
    handed = [len(optimizer.ask(7)) for _ in range(6)]
    assert sum(handed) <= 20


def test_a_budget_below_the_population_is_refused_with_both_numbers():
    for name in OPTIMIZERS:
        with pytest.raises(ValueError, match=r"20.*32|32.*20"):
            make(name, {}, budget=20, popsize=32)


@every_optimizer
def test_numpys_global_random_state_is_untouched_and_unread(name, options):
    np.random.seed(11)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    first = run(make(name, options))
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    np.random.seed(12)  # noqa: NPY002
    np.testing.assert_array_equal(first, run(make(name, options)))


@every_optimizer
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_failures_are_counted_and_never_best(name, options, bad):
    optimizer = make(name, options)
    calls = 0

    def sometimes(x):
        nonlocal calls
        loss = sphere(x)
        for i in range(len(loss)):
            calls += 1
            if calls % 3 == 1:
                loss[i] = bad
        return loss

    run(optimizer, sometimes)
    assert optimizer.failed == 20
    assert np.isfinite(optimizer.best.loss)
    assert optimizer.evaluations == 60


@every_optimizer
def test_a_population_without_one_finite_loss_is_named_and_can_go_on(name, options):
    optimizer = make(name, options)
    trials = optimizer.ask(8)
    optimizer.tell(trials, np.full(8, np.nan))
    assert optimizer.should_stop() == "failed"
    assert optimizer.best is None
    trials = optimizer.ask()
    optimizer.tell(trials, sphere(trials.x))
    assert optimizer.should_stop() is None
    assert optimizer.best.loss == sphere(trials.x).min()


@every_optimizer
def test_ties_everywhere_do_no_harm(name, options):
    optimizer = make(name, options)
    seen = 0
    while not optimizer.should_stop() and seen < 60:
        trials = optimizer.ask()
        seen += len(trials)
        optimizer.tell(trials, np.ones(len(trials)))
    assert optimizer.best.loss == 1.0
    assert optimizer.best.id == 0


@pytest.mark.parametrize("name", OPTIMIZERS)
@QUICK
@given(data=st.data())
def test_neither_the_order_of_tells_nor_the_size_of_asks_changes_a_generation(name, data):
    plain, shuffled = make(name, {}), make(name, {})
    for _ in range(4):
        whole = plain.ask()
        plain.tell(whole, sphere(whole.x))
        split = data.draw(st.integers(1, len(whole) - 1))
        parts = [shuffled.ask(split), shuffled.ask()]
        together = Trials(np.concatenate([p.ids for p in parts]), np.concatenate([p.x for p in parts]))
        np.testing.assert_array_equal(together.x, whole.x)
        order = data.draw(st.permutations(range(len(whole))))
        for i in order:
            one = together[i : i + 1]
            shuffled.tell(one, sphere(one.x))
    np.testing.assert_array_equal(plain.ask().x, shuffled.ask().x)


def follow(optimizer: Optimizer, steps: list[tuple[str, int]], waiting: list[Trials]) -> list[np.ndarray]:
    """Ask and tell as ``steps`` say, with failures and guests; the trials that were handed out."""
    handed = []
    for action, k in steps:
        if action == "ask":
            trials = optimizer.ask(k)
            handed.append(trials.x)
            waiting.extend(trials[i : i + 1] for i in range(len(trials)))
        elif action == "guest":
            optimizer.tell(np.full((1, 4), 0.01 * k), [float(k)])
        elif waiting:
            trials = waiting.pop(k % len(waiting))
            optimizer.tell(trials, [np.nan] if k == 5 else sphere(trials.x))
    return handed


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "tell", "tell", "tell", "tell", "guest"]), st.integers(1, 6)), max_size=40
)


@every_optimizer
@QUICK
@given(before=STEPS, after=STEPS)
def test_a_state_saved_at_any_moment_continues_identically(tmp_path_factory, name, options, before, after):
    optimizer, waiting = make(name, options, budget=None), []
    follow(optimizer, before, waiting)
    folder = tmp_path_factory.mktemp("state")
    save_state(folder, optimizer.state_dict())
    copy = make(name, options, budget=None)
    copy.load_state_dict(load_state(folder))
    rest, rest_copy = follow(optimizer, after, list(waiting)), follow(copy, after, list(waiting))
    for mine, theirs in zip(rest, rest_copy, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for field in ("asked", "evaluations", "failed", "generation"):
        assert getattr(optimizer, field) == getattr(copy, field)
    for mine, theirs in zip(optimizer.population, copy.population, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (optimizer.best is None) == (copy.best is None)
    if optimizer.best is not None:
        assert optimizer.best[1:] == copy.best[1:]
        np.testing.assert_array_equal(optimizer.best.x, copy.best.x)
    np.testing.assert_array_equal(optimizer.ask(3).x, copy.ask(3).x)


@every_optimizer
def test_a_snapshot_does_not_change_when_the_optimizer_goes_on(name, options):
    optimizer = make(name, options)
    trials = optimizer.ask()
    optimizer.tell(trials[:5], sphere(trials.x[:5]))
    state = optimizer.state_dict()
    optimizer.tell(trials[5:], sphere(trials.x[5:]))
    following = optimizer.ask().x
    copy = make(name, options)
    copy.load_state_dict(state)
    copy.tell(trials[5:], sphere(trials.x[5:]))
    np.testing.assert_array_equal(copy.ask().x, following)


@every_optimizer
def test_a_state_of_other_settings_is_refused_by_name(name, options):
    state = make(name, options).state_dict()
    with pytest.raises(ValueError, match=r"seed is 3 in the state and 4 here"):
        make(name, options, seed=4).load_state_dict(state)


@every_optimizer
def test_points_never_asked_count_and_can_be_best(name, options):
    optimizer = make(name, options)
    optimizer.tell(np.full((2, 4), 0.2), [1e-9, 5.0])
    assert optimizer.evaluations == 2
    assert optimizer.best.loss == 1e-9
    assert optimizer.best.id == -1
    run(optimizer)
    assert optimizer.asked == 58


@every_optimizer
def test_a_plain_array_of_asked_points_is_recognised(name, options):
    by_array, by_trials = make(name, options), make(name, options)
    for _ in range(3):
        x = np.asarray(by_array.ask())
        by_array.tell(x, sphere(x))
        trials = by_trials.ask()
        by_trials.tell(trials, sphere(trials.x))
    assert by_array.evaluations == by_array.asked == 24
    np.testing.assert_array_equal(by_array.ask().x, by_trials.ask().x)


@every_optimizer
def test_telling_twice_or_in_the_wrong_shape_is_refused_and_changes_nothing(name, options):
    optimizer = make(name, options)
    trials = optimizer.ask()
    optimizer.tell(trials[:2], [1.0, 2.0])
    for bad_trials, bad_losses in [(trials, np.zeros(8)), (trials[2:], [0.0]), (np.zeros((1, 3)), [0.0])]:
        with pytest.raises(ValueError, match=r"told|need|shape"):
            optimizer.tell(bad_trials, bad_losses)
    assert optimizer.evaluations == 2
    optimizer.tell(trials[2:], sphere(trials.x[2:]))
    assert optimizer.evaluations == 8


@every_optimizer
def test_given_points_come_first(name, options):
    x0 = np.array([[0.1, 0.1, 0.1, 0.1], [0.3, 0.3, 0.3, 0.3]])
    optimizer = make_optimizer(name, bounds=BOUNDS, budget=60, seed=1, popsize=8, x0=x0, **options)
    np.testing.assert_allclose(optimizer.ask(3).x[:2], x0, rtol=1e-6)


@every_optimizer
def test_a_target_stops(name, options):
    optimizer = make(name, {**options, "target": 1e6})
    trials = optimizer.ask(1)
    optimizer.tell(trials, sphere(trials.x))
    assert optimizer.should_stop() == "target"


@pytest.mark.parametrize("name", ["de", "cma", "scipy", "nevergrad"])
def test_it_beats_random_search_on_the_sphere(name):
    best = [np.median([_best(n, seed) for seed in range(3)]) for n in (name, "random")]
    assert best[0] < best[1] / 3


def _best(name: str, seed: int) -> float:
    optimizer = make_optimizer(name, bounds=[(-5, 5)] * 8, budget=600, seed=seed)
    run(optimizer)
    return optimizer.best.loss


def test_unknown_names_and_options_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="closest: cma"):
        make_optimizer("cmaes", bounds=BOUNDS, budget=10, seed=0)
    with pytest.raises(ValueError, match="no option popsise"):
        make_optimizer("de", bounds=BOUNDS, budget=10, seed=0, popsise=4)
