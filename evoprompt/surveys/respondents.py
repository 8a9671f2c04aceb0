"""Simulated respondents: one line of demographics each."""

from __future__ import annotations

import numpy as np

GENDERS = ("woman", "man")
AGES = (19, 27, 36, 45, 54, 63)
OCCUPATIONS = ("teacher", "farmer", "nurse", "engineer", "shopkeeper", "clerk", "driver", "student")


def sample_respondents(count: int, seed: int) -> list[str]:
    """`count` respondent lines, the same for the same seed; genders alternate, ages and occupations are dealt
    without repetition as long as they last.

    >>> sample_respondents(1, seed=0)[0].startswith("Respondent: woman, ")
    True
    """
    rng = np.random.default_rng([seed, 13])
    ages = np.concatenate([rng.permutation(AGES) for _ in range(count // len(AGES) + 1)])
    jobs = np.concatenate([rng.permutation(OCCUPATIONS) for _ in range(count // len(OCCUPATIONS) + 1)])
    return [respondent_line(GENDERS[i % 2], int(ages[i]), str(jobs[i])) for i in range(count)]


def respondent_line(gender: str, age: int, occupation: str) -> str:
    """The line that introduces a respondent."""
    return f"Respondent: {gender}, {age}, {occupation}."
