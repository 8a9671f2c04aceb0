"""Labelled queries: what a router is trained and measured on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprompt.errors import UserError
from evoprompt.routing.lexicon import DATA
from evoprompt.routing.signals import UNKNOWN, Profile

UNSPECIFIC = "open"
"""The kind of a query that depends on culture without telling which."""
ELSEWHERE = "other"
"""The kind of a query about a culture that none of the labels stands for."""


@dataclass(frozen=True)
class Query:
    """A question with the cultures that it is about: none, one or several; `kind` says how it tells them."""

    text: str
    cultures: frozenset[str] = frozenset()
    kind: str = ""
    profile: Profile = UNKNOWN

    @property
    def cultural(self) -> bool:
        """Whether the answer depends on a culture at all."""
        return bool(self.cultures) or self.kind in (UNSPECIFIC, ELSEWHERE)

    @property
    def needs_experts(self) -> bool:
        """Whether experts should answer: not where the culture is one that nobody knows."""
        return bool(self.cultures) or self.kind == UNSPECIFIC


def bundled_queries() -> list[Query]:
    """The example queries that come with the package."""
    return load_queries(DATA / "queries.jsonl")


def load_queries(path: Path) -> list[Query]:
    """Queries from a file with a JSON object a line: `query`, `cultures`, and if wanted `kind`, `location`, `language`.

    Raises
    ------
    UserError
        The file cannot be read, or a line is something else; says which.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"queries {path} cannot be read: {error}") from None
    found = [_query(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UserError(f"{path}: there is no query in it")
    return found


def _query(line: str, where: str) -> Query:
    try:
        entry: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not JSON: {error}") from None
    text = entry.get("query") if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise UserError(f'{where}: {line[:60]!r} has no text under "query"')
    cultures = entry.get("cultures", [])
    if not isinstance(cultures, list) or not all(isinstance(key, str) for key in cultures):
        raise UserError(f'{where}: "cultures" must be a list of names, not {cultures!r}')
    told = {key: entry.get(key) for key in ("kind", "location", "language")}
    for key, value in told.items():
        if not isinstance(value, str | None):
            raise UserError(f'{where}: "{key}" must be a text, not {value!r}')
    return Query(text, frozenset(cultures), told["kind"] or "", Profile(told["location"], told["language"]))
