"""The labelled queries of the study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evoprompt.routing import Profile
from evoprompt.surveys import vsm13
from experiments.committee.make_queries import FILE, make_queries

DEVELOPMENT_SEED = 1  # of the queries in searched wordings, on which choices are made


@dataclass(frozen=True)
class LabelledQuery:
    """What a user writes, and the cultures that it is about.

    Attributes
    ----------
    name, text, profile, cultures
        The router reads text and profile; the labels are the cultures, none for a question about no certain one.
    question
        The question in the text: what is asked in it, without what the user says of himself.
    item
        0-based item of the survey; None for an everyday question, answered in free text.
    aspects
        Of a free-text answer: lists of words of which one must occur.
    sensitive
        Whether a cautious model may refuse it.
    """

    name: str
    text: str
    profile: Profile
    cultures: tuple[str, ...]
    question: str
    item: int | None
    aspects: tuple[tuple[str, ...], ...]
    sensitive: bool

    @property
    def options(self) -> tuple[str, ...]:
        """The texts of answers 1..5 of a survey query."""
        assert self.item is not None
        return vsm13().scales[vsm13().items[self.item].scale]

    def read(self, part: str) -> str:
        """What is put to the model: the `question` alone, or all that the user wrote, the `query`."""
        return self.question if part == "question" else self.text


def study_queries(split: str = "held_out") -> list[LabelledQuery]:
    """Those of the committed file; for the split `searched` others, made by another seed in searched wordings."""
    if split == "held_out":
        return [_query(json.loads(line)) for line in FILE.read_text(encoding="utf-8").splitlines()]
    return [_query(entry) for entry in make_queries(split, DEVELOPMENT_SEED)]


def _query(entry: Mapping[str, Any]) -> LabelledQuery:
    return LabelledQuery(
        entry["id"],
        entry["query"],
        Profile(entry.get("location"), entry.get("language")),
        tuple(entry["cultures"]),
        entry["question"],
        entry["item"] - 1 if "item" in entry else None,
        tuple(tuple(words) for words in entry.get("aspects", ())),
        bool(entry.get("sensitive")),
    )


def in_two(queries: Sequence[LabelledQuery]) -> tuple[list[LabelledQuery], list[LabelledQuery]]:
    """Survey queries and everyday ones."""
    survey = [query for query in queries if query.item is not None]
    return survey, [query for query in queries if query.item is None]
