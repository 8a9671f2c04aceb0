"""The figures of routers, on cases whose value is known."""

from __future__ import annotations

import numpy as np

from benchmarks.routing_figures import calibration_error, routing_figures


def test_a_perfect_router_has_perfect_figures() -> None:
    labels = np.array([[True, False], [False, True], [True, True], [False, False]])
    needed = labels.any(axis=1)
    found = routing_figures(labels, labels.astype(float), labels, needed, needed.astype(float), np.ones(4, bool))
    assert (found.precision, found.recall, found.f1, found.ndcg, found.abstention_auroc) == (1, 1, 1, 1, 1)
    assert found.calibration_error == 0


def test_queries_that_tell_no_culture_do_not_count_for_the_choice() -> None:
    labels = np.array([[True, False], [False, False]])
    chosen = np.array([[True, False], [True, True]])
    needed, specific = np.array([True, True, False]), np.array([True, False, True])
    labels, chosen = np.vstack([labels, [False, False]]), np.vstack([chosen, [False, False]])
    found = routing_figures(labels, chosen.astype(float), chosen, needed, np.array([0.9, 0.8, 0.1]), specific)
    assert (found.precision, found.recall, found.abstention_auroc) == (1, 1, 1)


def test_the_calibration_error_is_how_far_frequency_is_from_probability() -> None:
    assert calibration_error(np.array([True, False]), np.array([0.75, 0.75])) == 0.25
