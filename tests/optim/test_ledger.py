"""The accounts: what was handed out comes back once, in any order and any parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.optim import DifferentialEvolution, Evaluation, Trials
from evoprompt.optim.engine.box import Box
from evoprompt.optim.engine.ledger import Ledger
from evoprompt.optim.engine.stopwatch import Stopwatch


def ledger(budget=None, d=2):
    return Ledger(Box([(None, None)] * d), 4, budget=budget)


def points(n, start=0):
    return np.arange(start, start + 2.0 * n).reshape(n, 2)


@given(data=st.data())
def test_every_split_and_order_of_tells_adds_up(data):
    accounts = ledger()
    sizes = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=6))
    handed = [accounts.hand_out(points(n, 100 * k)) for k, n in enumerate(sizes)]
    whole = Trials(np.concatenate([t.ids for t in handed]), np.concatenate([t.x for t in handed]))
    order = data.draw(st.permutations(range(len(whole))))
    seen = []
    while order:
        k = data.draw(st.integers(1, len(order)))
        part, order = whole[np.array(order[:k])], order[k:]
        received = accounts.take(part, -part.ids.astype(float))
        for block, which, offsets in received.pieces:
            np.testing.assert_array_equal(block.ids[offsets], received.ids[which])
        for i in range(k):
            np.testing.assert_array_equal(received.row(i), part.x[i])
        seen += received.ids.tolist()
        assert accounts.in_flight == len(accounts.outstanding) == len(order)
    assert sorted(seen) == list(range(len(whole)))
    assert accounts.evaluations == len(whole)
    assert (accounts.best.id if accounts.best else -1) == len(whole) - 1


def test_a_trial_told_twice_is_refused_by_its_number_and_nothing_is_taken_in():
    accounts = ledger()
    first, second = accounts.hand_out(points(3)), accounts.hand_out(points(3, 50))
    accounts.take(first[1:2], [1.0])
    both = Trials(np.array([0, 1, 4]), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"\[1\] were told before"):
        accounts.take(both, np.zeros(3))
    with pytest.raises(ValueError, match=r"\[4\] were told before"):
        accounts.take(second[np.array([0, 1, 1])], np.zeros(3))
    accounts.take(first[np.array([0, 2])], np.zeros(2))
    with pytest.raises(ValueError, match=r"\[0, 2\] were told before"):
        accounts.take(first[np.array([0, 2])], np.zeros(2))
    assert accounts.evaluations == 3
    assert accounts.outstanding.tolist() == [3, 4, 5]


def test_plain_arrays_are_recognised_in_any_order_and_equal_points_one_after_the_other():
    accounts = ledger()
    accounts.hand_out(points(3))
    accounts.hand_out(np.ones((2, 2)))
    x = np.array([[1.0, 1.0], [4.0, 5.0], [7.0, 7.0], [1.0, 1.0], [1.0, 1.0]])
    received = accounts.take(x, np.arange(5.0))
    assert received.ids.tolist() == [3, 2, -1, 4, -1]
    assert accounts.foreign == 2
    assert accounts.outstanding.tolist() == [0, 1]


def test_failures_in_a_row_are_counted_in_the_order_told():
    accounts = ledger()
    trials = accounts.hand_out(points(6))
    accounts.take(trials[:3], [np.nan, 1.0, np.inf])
    assert (accounts.failed, accounts.failed_in_a_row) == (2, 1)
    accounts.take(trials[3:5], [np.nan, -np.inf])
    assert accounts.failed_in_a_row == 3
    accounts.take(trials[5:], [0.0])
    assert accounts.failed_in_a_row == 0


def test_of_equal_losses_the_lowest_number_is_best_whatever_comes_first():
    accounts = ledger()
    trials = accounts.hand_out(points(4))
    accounts.take(trials[np.array([3, 2])], [1.0, 1.0])
    assert accounts.best.id == 2
    accounts.take(trials[np.array([1, 0])], [1.0, 1.0])
    assert accounts.best.id == 0


def test_the_objective_and_the_engine_share_one_array_of_points():
    engine = DifferentialEvolution([(-1, 1)] * 3, popsize=6)
    trials = engine.ask()
    assert not trials.x.flags.writeable
    assert np.shares_memory(trials.x, np.asarray(trials))
    assert np.shares_memory(trials.x, next(iter(engine._ledger.blocks.values())).results(slice(None)).x)


def test_points_asked_ahead_are_kept_once():
    engine = DifferentialEvolution([(-1, 1)] * 3, popsize=6)
    engine.ask(9)
    blocks = list(engine._ledger.blocks.values())
    assert [len(block.ids) for block in blocks] == [6, 3]
    assert all(block.rounded_from is None for block in blocks)


@pytest.mark.parametrize("guest", [[[9.0, 0.0, 0.0]], [[np.nan, 0.0, 0.0]], [[0.0, 0.0]]])
def test_a_guest_outside_the_box_is_refused_and_nothing_is_taken_in(guest):
    engine = DifferentialEvolution([(-1, 1)] * 3, popsize=6)
    with pytest.raises(ValueError, match=r"within the bounds|finite|shape"):
        engine.tell(guest, [0.0])
    assert engine.evaluations == 0
    assert engine.best is None


def test_what_is_outstanding_can_be_asked_for_again():
    engine = DifferentialEvolution([(-1, 1)] * 3, popsize=6, variant="shade")
    trials = engine.ask()
    engine.tell(trials[np.array([1, 4])], [0.0, 0.0])
    np.testing.assert_array_equal(engine.outstanding.ids, [0, 2, 3, 5])
    np.testing.assert_array_equal(engine.outstanding.x, trials.x[[0, 2, 3, 5]])
    engine.tell(engine.outstanding, Evaluation(np.ones(4)))
    assert engine.generation == 1
    assert len(engine.outstanding) == 0


def test_a_run_is_as_far_as_the_more_spent_of_budget_and_time_says():
    accounts, now = Ledger(Box([(None, None)] * 2), 4, budget=10, seconds=1000.0), [0.0]
    accounts.watch = Stopwatch(lambda: now[0])
    accounts.tick()
    trials = accounts.hand_out(points(8))
    shares = []
    for now[0], told in ((300.0, trials[:0]), (310.0, trials), (900.0, trials[:0]), (2000.0, trials[:0])):
        accounts.take(told, np.zeros(len(told)))
        shares.append(accounts.progress)
    assert shares == [0.3, 0.8, 0.9, 1.0]
