"""Simulated respondents: one line of demographics each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from evoprompt.errors import UserError, unknown_name

ATTRIBUTES = ("gender", "age", "education", "occupation")
DEFAULT_ATTRIBUTES = ("gender", "age", "occupation")  # the bundled pocket model never met a word on education
GENDERS = ("woman", "man")
AGES = (19, 27, 36, 45, 54, 63)
EDUCATIONS = ("primary school", "secondary school", "vocational training", "university degree", "doctorate")
OCCUPATIONS = ("teacher", "farmer", "nurse", "engineer", "shopkeeper", "clerk", "driver", "student")

_VALUES = dict(zip(ATTRIBUTES, (GENDERS, AGES, EDUCATIONS, OCCUPATIONS), strict=True))
_EARLIEST = dict(zip(EDUCATIONS, (19, 19, 19, 27, 36), strict=True))  # of AGES
_LATEST_STUDENT = 27
_SCHOOLED = {  # the educations usual in an occupation, from EDUCATIONS[first] to EDUCATIONS[last]
    "teacher": (3, 4),
    "farmer": (0, 2),
    "nurse": (2, 3),
    "engineer": (3, 4),
    "shopkeeper": (0, 2),
    "clerk": (1, 3),
    "driver": (0, 2),
    "student": (1, 3),
}


def sample_respondents(count: int, seed: int, attributes: Sequence[str] = DEFAULT_ATTRIBUTES) -> list[str]:
    """`count` respondent lines, no two alike and the same for the same seed; genders alternate.

    A line tells `attributes`, some of `ATTRIBUTES`, in that order. People are drawn alike from all combinations but
    implausible ones, such as a student of 63 or a driver with a doctorate.

    Raises
    ------
    UserError
        More are asked for than there are, or what `count_respondents` refuses.

    >>> sample_respondents(2, seed=0)
    ['Respondent: woman, 54, teacher.', 'Respondent: man, 36, shopkeeper.']
    >>> sample_respondents(1, seed=0, attributes=ATTRIBUTES)
    ['Respondent: woman, 19, secondary school, shopkeeper.']
    """
    available = count_respondents(attributes)
    if not 0 <= count <= available:
        raise UserError(f"{count} respondents were asked for; there are {available} that differ in {list(attributes)}")
    own = [name for name in attributes if name != "gender"]
    everybody = list(product(*(_VALUES[name] for name in own)))
    plausible = _plausible(own)
    genders = GENDERS if "gender" in attributes else ("",)
    lines: list[list[str]] = []
    for number, gender in enumerate(genders):
        shuffled = (everybody[i] for i in np.random.default_rng([seed, 13, number]).permutation(len(everybody)))
        people = ({"gender": gender, **dict(zip(own, p, strict=True))} for p in shuffled if p in plausible)
        lines.append([respondent_line(*(person[name] for name in attributes)) for person in people])
    return [lines[i % len(genders)][i // len(genders)] for i in range(count)]


def count_respondents(attributes: Sequence[str] = DEFAULT_ATTRIBUTES) -> int:
    """How many plausible people there are that differ in what a line tells, some of `ATTRIBUTES`.

    Raises
    ------
    UserError
        An attribute is unknown, given twice, or missing altogether.

    >>> count_respondents(["gender"]), count_respondents()
    (2, 84)
    """
    for name in attributes:
        if name not in ATTRIBUTES:
            raise unknown_name("respondent attribute", name, ATTRIBUTES)
    if not attributes or len(set(attributes)) < len(attributes):
        raise UserError(f"respondent attributes {list(attributes)} must be different ones of {', '.join(ATTRIBUTES)}")
    return (2 if "gender" in attributes else 1) * len(_plausible([name for name in attributes if name != "gender"]))


def _plausible(attributes: Sequence[str]) -> set[tuple[object, ...]]:
    """What people can be, gender aside, told by these attributes alone."""
    people: list[dict[str, object]] = [
        {"age": age, "education": education, "occupation": occupation}
        for age, education, (occupation, (first, last)) in product(AGES, EDUCATIONS, _SCHOOLED.items())
        if first <= EDUCATIONS.index(education) <= last
        and age >= _EARLIEST[education]
        and (occupation != "student" or age <= _LATEST_STUDENT)
    ]
    return {tuple(person[name] for name in attributes) for person in people}


def respondent_line(*values: object) -> str:
    """The line that introduces a respondent.

    >>> respondent_line("woman", 36, "secondary school", "teacher")
    'Respondent: woman, 36, secondary school, teacher.'
    """
    return f"Respondent: {', '.join(map(str, values))}."
