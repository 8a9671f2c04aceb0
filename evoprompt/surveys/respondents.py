"""Simulated respondents: one line of demographics each."""

from __future__ import annotations

import numpy as np

from evoprompt.errors import UserError

GENDERS = ("woman", "man")
AGES = (19, 27, 36, 45, 54, 63)
OCCUPATIONS = ("teacher", "farmer", "nurse", "engineer", "shopkeeper", "clerk", "driver", "student")


def sample_respondents(count: int, seed: int) -> list[str]:
    """`count` respondent lines, no two alike and the same for the same seed; genders alternate.

    Raises
    ------
    UserError
        More are asked for than there are.

    >>> sample_respondents(1, seed=0)[0].startswith("Respondent: woman, ")
    True
    """
    people = [(age, job) for age in AGES for job in OCCUPATIONS]
    if not 0 <= count <= 2 * len(people):
        raise UserError(f"{count} respondents were asked for; there are {2 * len(people)} different ones")
    shuffled = [np.random.default_rng([seed, 13, gender]).permutation(len(people)) for gender in range(2)]
    return [respondent_line(GENDERS[i % 2], *people[shuffled[i % 2][i // 2]]) for i in range(count)]


def respondent_line(gender: str, age: int, occupation: str) -> str:
    """The line that introduces a respondent."""
    return f"Respondent: {gender}, {age}, {occupation}."
