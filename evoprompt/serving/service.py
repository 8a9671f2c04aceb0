"""What the requests of one application share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from evoprompt.routing import Committee
from evoprompt.serving.engine import Engine
from evoprompt.serving.gate import Counts
from evoprompt.serving.limits import Limits


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
