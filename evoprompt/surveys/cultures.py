"""Cultures and their published scores on Hofstede's six dimensions."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import yaml

from evoprompt.checks import real_number
from evoprompt.errors import UserError, unknown_name
from evoprompt.surveys.vsm13 import DIMENSIONS
from evoprompt.typing import Doubles

MATRIX_EDITION = "2015-12"
TARGET_RANGE = (-100.0, 200.0)


@dataclass(frozen=True)
class Culture:
    """A culture: `place` completes "from ..."; `targets` holds only the dimensions it has scores for."""

    key: str
    name: str
    place: str
    targets: Mapping[str, float]
    edition: str
    note: str = ""

    @property
    def target(self) -> Doubles:
        """Scores in the order of `DIMENSIONS`, shape (6,), NaN where unpublished."""
        return np.array([self.targets.get(name, math.nan) for name in DIMENSIONS])

    @property
    def complete(self) -> bool:
        """Whether all six dimensions have a score."""
        return len(self.targets) == len(DIMENSIONS)

    def persona(self) -> str:
        """The persona line: a plain statement of origin."""
        return f"You are from {self.place}."


@lru_cache(maxsize=1)
def _extra() -> dict[str, Any]:
    file = resources.files("evoprompt.surveys") / "data" / "targets.yaml"
    loaded: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return loaded


@lru_cache(maxsize=1)
def cultures() -> Mapping[str, Culture]:
    """Every culture with at least one published score, by key; complete ones, documented ones and the rest."""
    named = _extra()["rows"]
    found: dict[str, Culture] = {}
    file = resources.files("evoprompt.surveys") / "data" / "hofstede_2015.csv"
    for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
        own = named.get(row["code"], {})
        key = own.get("key", row["name"].lower().replace(" ", "_"))
        targets = {name: float(row[name]) for name in DIMENSIONS if row[name]}
        if targets:
            found[key] = Culture(key, row["name"], own.get("place", row["name"]), targets, MATRIX_EDITION)
    for key, entry in _extra()["documented"].items():
        found[key] = Culture(key, entry["name"], entry["place"], entry["targets"], entry["edition"], entry["note"])
    return found


def committee() -> list[Culture]:
    """The twenty cultures of the published committee (arXiv 2506.00242)."""
    return [cultures()[key] for key in _extra()["committee"]]


def get_culture(key: str) -> Culture:
    """Look a culture up.

    Raises
    ------
    UserError
        No culture has this key; the closest ones are offered.

    >>> get_culture("arab").targets["pdi"]
    80.0
    """
    if key not in cultures():
        raise unknown_name("culture", key, [*cultures(), "custom"])
    return cultures()[key]


def custom_culture(name: str, place: str | None, targets: Mapping[str, Any]) -> Culture:
    """A culture of the user's own: any subset of the six dimensions, each a number within -100..200.

    Raises
    ------
    UserError
        No target, an unknown dimension, or a value that is not a number in range.
    """
    if not targets:
        raise UserError(
            "culture 'custom' has no targets; give some, with these quotes: 'culture.targets={pdi: 80, idv: 38}'"
        )
    checked: dict[str, float] = {}
    for dimension, value in targets.items():
        if dimension not in DIMENSIONS:
            raise unknown_name("dimension", dimension, DIMENSIONS)
        checked[dimension] = real_number(f"target {dimension}", value, *TARGET_RANGE)
    return Culture("custom", name, place or name, checked, "user")
