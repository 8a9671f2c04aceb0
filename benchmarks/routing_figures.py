"""Figures of routers on labelled queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import ndcg_score, precision_recall_fscore_support, roc_auc_score

from evoprompt.typing import Bools, Doubles

BINS = 10  # of the expected calibration error


@dataclass(frozen=True)
class RoutingFigures:
    """How well a router does on labelled queries.

    Attributes
    ----------
    precision, recall, f1
        Micro-averaged over (query, culture) pairs.
    ndcg
        At 3, over queries that have a label.
    calibration_error
        Expected calibration error of the pairs' probabilities, in 10 equal bins.
    abstention_auroc
        Of the probability that experts are needed, against whether they are.
    """

    precision: float
    recall: float
    f1: float
    ndcg: float
    calibration_error: float
    abstention_auroc: float


def routing_figures(
    labels: Bools,
    probabilities: Doubles,
    chosen: Bools,
    needed: Bools,
    needs: Doubles,
    specific: Bools,
) -> RoutingFigures:
    """Figures of n queries over c cultures.

    Parameters
    ----------
    labels, probabilities, chosen
        (n, c) which cultures a query is about, how likely the router thinks that, and which it chose.
    needed, needs
        (n,) whether experts should answer, and how likely the router thinks that.
    specific
        (n,) queries that count for the choice of cultures: all but those that depend on culture and tell none.
    """
    found = precision_recall_fscore_support(labels[specific], chosen[specific], average="micro", zero_division=0)
    told = labels.any(axis=1)
    precision, recall, f1 = (float(value) for value in found[:3])
    return RoutingFigures(
        precision,
        recall,
        f1,
        float(ndcg_score(labels[told], probabilities[told], k=3)),
        calibration_error(labels[specific].ravel(), probabilities[specific].ravel()),
        float(roc_auc_score(needed, needs)),
    )


def calibration_error(happened: Bools, probabilities: Doubles) -> float:
    """Expected calibration error: mean distance of probability and frequency over 10 equal bins, by their sizes.

    >>> calibration_error(np.array([True, False]), np.array([0.75, 0.75]))
    0.25
    """
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    sizes = np.bincount(bins, minlength=BINS)
    gaps = np.abs(
        np.bincount(bins, probabilities, minlength=BINS) - np.bincount(bins, happened.astype(float), minlength=BINS)
    )
    return float(gaps.sum() / sizes.sum())
