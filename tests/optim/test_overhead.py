"""What the optimizer itself costs: memory in high dimension, and short cuts that must not change anything."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.optim import DifferentialEvolution, make_optimizer
from evoprompt.optim.de.papers import VARIANTS
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.ledger import Ledger
from evoprompt.optim.engine.rng import TrialStreams
from evoprompt.optim.engine.rows import blend, is_run, scratch

SOFT_PROMPT, POPSIZE = 40_960, 100
ONE_COPY = POPSIZE * SOFT_PROMPT * 4


def bounds(d):
    return np.tile([-5.0, 5.0], (d, 1))


def archive_after(generations, d, **options):
    """The archive's capacity and content when every trial has beaten its parent."""
    optimizer = DifferentialEvolution(bounds(d), budget=100_000, popsize=POPSIZE, seed=1, dtype="float32", **options)
    for generation in range(generations):
        optimizer.tell(optimizer.ask(), np.full(POPSIZE, -float(generation)))
    archive = optimizer.state_dict()["generations"]["algorithm"]["archive"]
    return archive["capacity"], len(archive["x"])


@pytest.mark.parametrize("name", ["rand/1/bin", "rand/2/exp", "jde", "jade", "shade", "lshade", "jso"])
def test_a_run_over_a_long_soft_prompt_fits_into_four_populations(name):
    tracemalloc.start()
    try:
        optimizer = make_optimizer(
            name, bounds=bounds(SOFT_PROMPT), budget=10_000, seed=1, popsize=POPSIZE, dtype="float32"
        )
        for generation in range(4):
            trials = optimizer.ask()  # those of the last generation are still held here
            optimizer.tell(trials, np.full(len(trials), -float(generation)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * ONE_COPY


def test_the_archive_is_the_papers_where_memory_does_not_matter():
    assert archive_after(3, d=8, variant="shade") == (100, 100)
    assert archive_after(4, d=8, variant="lshade")[0] > 200


def test_the_archive_of_a_large_population_holds_half_of_it_unless_a_size_is_asked_for():
    assert archive_after(3, d=21_000, variant="shade") == (50, 50)
    assert archive_after(3, d=20_900, variant="shade") == (100, 100)
    assert archive_after(2, d=21_000, variant="shade", archive=1.0) == (100, 100)


def test_a_success_history_run_does_without_scipy():
    run = (
        "import sys, numpy as np; from evoprompt.optim import make_optimizer\n"
        "de = make_optimizer('shade', bounds=[(-1, 1)] * 3, budget=300, seed=0, popsize=20)\n"
        "while de.should_stop() is None: t = de.ask(); de.tell(t, (t.x**2).sum(axis=1))\n"
        "print(de.evaluations, [name for name in sys.modules if name.startswith('scipy')])"
    )
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, timeout=600)
    assert done.stdout.split(maxsplit=1) == ["300", "[]\n"], done.stderr


@pytest.mark.parametrize("name", ["jade", "shade", "lshade"])
def test_crossover_rates_follow_the_normal_distribution(name):
    from scipy.special import ndtri

    u = np.random.default_rng(0).random((2000, 4))
    u[0, 2] = 0.0  # the lowest uniform there is
    adaptation = VARIANTS[name].adaptation(f=0.5, cr=0.4, memory=5, popsize=10)
    rates = adaptation.draw(u, np.zeros(2000, dtype=np.int64), 0.0)[1]
    np.testing.assert_allclose(rates, np.clip(0.4 + 0.1 * ndtri(u[:, 2]), 0, 1), rtol=1e-12, atol=1e-14)


@given(
    seed=st.integers(0, 10**6),
    reach=st.sampled_from([0.5, 3.0, 1e3, np.inf, np.nan]),
    repair=st.sampled_from(["midpoint", "reflect", "resample", "clip"]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_a_box_of_equal_sides_repairs_as_any_other(seed, reach, repair, dtype):
    rng = np.random.default_rng(seed)
    equal, unequal = Box([(-1, 2)] * 7, dtype), Box([(-1, 2)] * 7 + [(-3, 1)], dtype)
    parents, donors = rng.uniform(-1, 1, (9, 8)).astype(dtype), rng.uniform(-2, 3, (9, 8)).astype(dtype)
    donors[4, 3] = reach
    donors[:, 7] = 0.0
    ids, streams = np.arange(9), TrialStreams(seed)
    ours = equal.repair(donors[:, :7].copy(), parents[:, :7].copy(), repair, ids, streams)
    theirs = unequal.repair(donors.copy(), parents, repair, ids, streams, np.empty((2, 9, 8), dtype))
    np.testing.assert_array_equal(ours, theirs[:, :7])
    assert ((ours >= equal.low) & (ours <= equal.high)).all()


def test_halfway_between_bound_and_parent_is_the_same_in_a_box_so_wide_that_sums_overflow():
    for dtype in ("float32", "float64"):
        most = np.finfo(dtype).max
        box = Box([(-most, most), (most / 2, most)], dtype)
        parents = np.array([[most / 2, most * 0.75], [-most, most]], dtype)
        donors = np.array([[np.inf, 0.0], [np.nan, np.inf]], dtype)
        box.repair(donors, parents, "midpoint", np.arange(2), TrialStreams(0))
        expected = [[most * 0.75, most * 0.625], [-most, most]]
        np.testing.assert_allclose(donors, np.array(expected, dtype), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blending_takes_the_marked_numbers_bit_by_bit(dtype):
    rng = np.random.default_rng(0)
    target, source = rng.normal(size=(2, 6, 50)).astype(dtype)
    source[0, :4] = [np.nan, np.inf, -0.0, 1e-310]
    where = rng.random((6, 50)) < 0.5
    expected = np.where(where, source, target)
    room = scratch(50, np.dtype(dtype))[:, :6]
    again = target.copy()
    blend(target, source, where)
    blend(again, source, where, room[0])
    assert target.tobytes() == again.tobytes() == expected.tobytes()


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6))
def test_a_run_is_successive_numbers(values):
    successive = values == list(range(values[0], values[0] + len(values)))
    assert is_run(np.array(values)) == successive


def test_one_by_one_and_together_the_accounts_agree():
    rng = np.random.default_rng(3)
    for _ in range(30):
        losses, excess = rng.integers(0, 4, 12).astype(float), rng.integers(0, 2, 12).astype(float)
        losses[rng.random(12) < 0.3] = np.nan
        accounts = []
        for step in (1, 12):
            ledger = Ledger(Box([(None, None)] * 2), 4)
            trials = ledger.hand_out(np.arange(24.0).reshape(12, 2))
            for start in range(0, 12, step):
                part = slice(start, start + step)
                ledger.take(trials[part], losses[part], excess[part])
            accounts.append(
                (ledger.evaluations, ledger.failed, ledger.failed_in_a_row, ledger.best_violation, ledger.best[1:])
            )
        assert accounts[0] == accounts[1]


@pytest.mark.parametrize("noise", ["auto", 0.1])
def test_lsrtde_says_that_it_cannot_handle_noise(noise):
    with pytest.raises(ValueError, match="does not evaluate members again, so noise must be None, got"):
        DifferentialEvolution([(-1, 1)] * 3, budget=200, variant="lsrtde", noise=noise)
