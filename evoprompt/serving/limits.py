"""What a server takes from its clients."""

from __future__ import annotations

from dataclasses import dataclass, fields

from evoprompt.errors import UserError


@dataclass(frozen=True)
class Limits:
    """Most of everything.

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
            if not getattr(self, limit.name) > 0:
                raise UserError(f"limit {limit.name}={getattr(self, limit.name)!r} must be greater than 0")


USUAL = Limits()
