"""Limits on what a server takes from its clients."""

from __future__ import annotations

from dataclasses import dataclass, fields

from evoprompt.checks import real_number


@dataclass(frozen=True)
class Limits:
    """The most that a server takes: of a request, of an answer, and of all at once.

    Attributes
    ----------
    body_bytes
        Of a request.
    requests
        Answered or waiting at once; the next is turned away with 429.
    seconds
        For one answer, waiting included.
    tokens
        Of one answer.
    text
        Characters of a conversation.
    """

    body_bytes: int = 256 * 1024
    requests: int = 64
    seconds: float = 120.0
    tokens: int = 512
    text: int = 32_768

    def __post_init__(self) -> None:
        for limit in fields(self):
            real_number(f"limit {limit.name}", getattr(self, limit.name), 0, above=True)


USUAL = Limits()
