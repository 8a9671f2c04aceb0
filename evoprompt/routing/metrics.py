"""Figures of routers and committees, by one definition for every arm; and the published ones, which are circular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.metrics import ndcg_score, precision_recall_fscore_support, roc_auc_score

from evoprompt.routing.text import words
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


def alignment(answer: Sequence[float], targets: Sequence[Sequence[float]]) -> float:
    """Agreement of an answer's distribution over options with the relevant cultures' mean target, 0..1.

    1 - Jensen-Shannon distance (the root of the divergence in bits; Endres and Schindelin 2003).

    >>> alignment([0.5, 0.5], [[0.5, 0.5]])
    1.0
    """
    return float(1.0 - jensenshannon(answer, np.mean(targets, axis=0), base=2))


def diversity(positions: Sequence[int]) -> float:
    """Entropy in bits over the distinct positions that answers take, whoever gave them.

    >>> diversity([0, 0, 1, 1]), diversity([2, 2])
    (1.0, 0.0)
    """
    return float(entropy(np.unique(np.asarray(positions), return_counts=True)[1], base=2))


def completeness(answer: str, aspects: Sequence[Sequence[str]]) -> float:
    """Share of the aspects that an answer addresses; an aspect is a set of words of which one must occur.

    >>> completeness("Bow, and bring a gift.", [["bow", "handshake"], ["shoes"]])
    0.5
    """
    said = {*words(answer)}
    return float(np.mean([any(said.issuperset(words(word)) for word in aspect) for aspect in aspects]))


def coverage(answers: Sequence[str], refused: Sequence[bool]) -> float:
    """Share of sensitive questions that got an answer at all."""
    return float(np.mean([bool(text.strip()) and not no for text, no in zip(answers, refused, strict=True)]))


def published_figures(
    selected: Sequence[AbstractSet[str]], answered: Sequence[AbstractSet[str]], words_per_answer: Sequence[int]
) -> Mapping[str, float]:
    """The figures of arXiv 2506.00242 by its authors' formulas (`metrics=as_published`).

    They are circular: alignment compares who answered with the router's own choice, so it is 1 whenever anybody
    answers, and diversity counts labels of those who answered, not what they said. For comparison with the published
    table only.

    Parameters
    ----------
    selected, answered
        For each query the cultures that the router chose and those that answered.
    words_per_answer
        Length of each final answer.
    """
    shares = [len(a & s) / len(a) if a else 0.0 for a, s in zip(answered, selected, strict=True)]
    entropies = [float(np.log2(len(a))) if a else 0.0 for a in answered]
    return {
        "cultural_alignment": float(np.mean(shares)),
        "diversity_entropy": float(np.mean(entropies)),
        "expert_responses": float(np.mean([len(a) for a in answered])),
        "unique_cultural_profiles": float(np.mean([len(a) for a in answered])),
        "response_completeness": float(np.mean([count > 0 for count in words_per_answer])),
    }
