"""What the requests of one application share: who answers, within which limits; and what is counted."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from evoprompt.checks import real_number
from evoprompt.routing import Committee
from evoprompt.serving.engine import Engine


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


class Counts:
    """What `/metrics` tells, in Prometheus' form."""

    def __init__(self) -> None:
        self.collectors = CollectorRegistry()
        own = {"registry": self.collectors}
        self.requests = Counter("evoprompt_requests", "Requests by path and status", ["path", "status"], **own)
        self.seconds = Histogram("evoprompt_answer_seconds", "Seconds from request to the answer's end", **own)
        self.tokens = Counter("evoprompt_tokens", "Tokens said", **own)
        self.chosen = Counter("evoprompt_chosen", "Answers by who spoke", ["expert"], **own)
        self.open = Gauge("evoprompt_open_requests", "Answers under way or waiting", **own)
        self.experts = Gauge("evoprompt_experts", "Experts that can be asked", **own)


@dataclass(eq=False)
class Service:
    """Who answers, within which limits, on which engine; and what is counted.

    Attributes
    ----------
    engine
        Runs as long as the application does.
    open
        Requests that are answered or wait.
    """

    committee: Committee
    limits: Limits
    engine: Engine = field(init=False)
    counts: Counts = field(default_factory=Counts)
    created: int = field(default_factory=lambda: int(time.time()))
    open: int = 0
