"""Ranks, errors, shares of targets."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import table
from benchmarks.counting import TARGETS
from benchmarks.problems import GROUPS


def frame(errors):
    """Rows from {(method, function): errors over seeds}."""
    rows = [
        {"suite": "bbob", "dim": 2, "budget": 100, "method": method, "function": function, "instance": 1, "seed": seed,
         "status": "ok", "error": error, "evaluations": 100, "seconds": 0.001, "hits": "1 10"}
        for (method, function), values in errors.items()
        for seed, error in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_ranks_are_by_the_median_over_seeds_and_shared_among_equals():
    rows = frame({("a", 1): [1, 5, 100], ("b", 1): [4, 4, 4], ("c", 1): [5, 5, 5]})
    assert table.ranks(table.problem_errors(rows)).iloc[0].to_dict() == {"a": 2.5, "b": 1.0, "c": 2.5}


def test_errors_below_the_floor_are_equal():
    rows = frame({("a", 1): [1e-12], ("b", 1): [1e-9], ("c", 1): [1e-7]})
    assert table.ranks(table.problem_errors(rows)).iloc[0].to_dict() == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_a_run_that_failed_without_any_error_is_last():
    rows = frame({("a", 1): [np.inf], ("b", 1): [1e9]})
    assert table.ranks(table.problem_errors(rows)).iloc[0].to_dict() == {"a": 2.0, "b": 1.0}


def test_a_method_that_did_not_run_everywhere_is_ranked_where_it_ran_and_the_table_says_so():
    rows = frame({("a", 1): [1], ("b", 1): [2], ("a", 2): [1], ("b", 2): [2], ("c", 1): [0.5]})
    text = table.markdown(rows, GROUPS["bbob"])
    assert "| 1 | c | 1.00 |" in text
    assert "c: 1 of 2 problems only" in text


def test_the_share_of_targets_counts_runs_that_reached_none():
    assert table.share(["1 10", ""]) == pytest.approx(1 / len(TARGETS))
    assert table.share(["1 10", ""], evaluations=5) == pytest.approx(0.5 / len(TARGETS))


def test_the_area_is_whole_for_targets_reached_at_once_and_half_for_the_geometric_middle():
    every = " ".join(["1"] * len(TARGETS))
    assert table.area([every], d=1, budget=100) == pytest.approx(1.0)
    assert table.area([every.replace("1", "10")], d=1, budget=100) == pytest.approx(0.5)
    assert table.area([""], d=1, budget=100) == 0.0
