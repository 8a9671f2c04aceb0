"""Simulated respondents: who is sampled, and how they are introduced."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.errors import UserError
from evoprompt.surveys.respondents import (
    AGES,
    ATTRIBUTES,
    DEFAULT_ATTRIBUTES,
    EDUCATIONS,
    GENDERS,
    OCCUPATIONS,
    count_respondents,
    sample_respondents,
)

SETS = [subset for size in range(1, 5) for subset in combinations(ATTRIBUTES, size)]
VALUES = {"gender": GENDERS, "age": tuple(map(str, AGES)), "education": EDUCATIONS, "occupation": OCCUPATIONS}


def read(line: str, attributes: tuple[str, ...] = ATTRIBUTES) -> dict[str, str]:
    """What a line tells."""
    assert line.startswith("Respondent: ")
    assert line.endswith(".")
    return dict(zip(attributes, line[len("Respondent: ") : -1].split(", "), strict=True))


def everyone(attributes: tuple[str, ...], seed: int = 0) -> list[str]:
    """All respondents there are."""
    return sample_respondents(count_respondents(attributes), seed, attributes)


@given(count=st.integers(1, 60), seed=st.integers(0, 1000))
def test_no_two_are_alike_genders_alternate_and_a_seed_is_a_sample(count: int, seed: int) -> None:
    people = sample_respondents(count, seed, ATTRIBUTES)
    assert len(set(people)) == count
    assert [read(line)["gender"] for line in people] == [GENDERS[i % 2] for i in range(count)]
    assert people == sample_respondents(count, seed, ATTRIBUTES)
    assert people[: count // 2] == sample_respondents(count // 2, seed, ATTRIBUTES)


@pytest.mark.parametrize("attributes", SETS)
def test_a_line_tells_the_attributes_asked_for_in_their_order(attributes: tuple[str, ...]) -> None:
    for line in everyone(attributes, seed=3)[:6]:
        for name, value in read(line, attributes).items():
            assert value in VALUES[name]
    backwards = tuple(reversed(attributes))
    assert set(read(sample_respondents(1, 0, backwards)[0], backwards)) == set(attributes)


@pytest.mark.parametrize("attributes", SETS)
def test_as_many_can_be_sampled_as_are_counted_and_no_more(attributes: tuple[str, ...]) -> None:
    count = count_respondents(attributes)
    assert len(set(sample_respondents(count, 0, attributes))) == count
    with pytest.raises(UserError, match=f"there are {count} that differ"):
        sample_respondents(count + 1, 0, attributes)


def test_nobody_is_implausible() -> None:
    for line in everyone(ATTRIBUTES):
        person = read(line)
        age = int(person["age"])
        assert person["occupation"] != "student" or age <= 27
        assert person["education"] != "doctorate" or age >= 36
        assert person["education"] != "university degree" or age >= 27
        assert person["occupation"] not in ("engineer", "teacher") or person["education"] in EDUCATIONS[3:]
        assert person["occupation"] not in ("driver", "farmer") or person["education"] not in EDUCATIONS[3:]


def test_every_value_occurs() -> None:
    told = [read(line) for line in everyone(ATTRIBUTES)]
    for name, values in VALUES.items():
        assert {person[name] for person in told} == set(values)


def test_what_is_left_out_cannot_hide_an_implausible_person() -> None:
    pairs = {(read(line)["age"], read(line)["occupation"]) for line in everyone(ATTRIBUTES)}
    short = [read(line, DEFAULT_ATTRIBUTES) for line in everyone(DEFAULT_ATTRIBUTES)]
    assert {(person["age"], person["occupation"]) for person in short} == pairs


def test_another_seed_is_another_sample() -> None:
    assert sample_respondents(9, 4) != sample_respondents(9, 5)


@pytest.mark.parametrize(
    ("count", "attributes", "said"),
    [
        (99, DEFAULT_ATTRIBUTES, "99 respondents were asked for; there are 84"),
        (-1, DEFAULT_ATTRIBUTES, "-1 respondents were asked for"),
        (3, ("gender",), "there are 2 that differ in"),
        (1, ("gender", "job"), "unknown respondent attribute 'job'"),
        (1, ("age", "age"), "must be different ones of gender, age, education, occupation"),
        (1, (), "must be different ones of"),
    ],
)
def test_what_cannot_be_sampled_is_named(count: int, attributes: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError) as refused:
        sample_respondents(count, 0, attributes)
    assert said in str(refused.value)
