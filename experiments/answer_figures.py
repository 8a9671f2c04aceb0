"""Figures of answers by one definition for every arm; and the published ones, which are circular."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from evoprompt.routing.text import words


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
