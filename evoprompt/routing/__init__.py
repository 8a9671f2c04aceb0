"""Routing: which experts answer a query, and how their answers become one."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from evoprompt.extras import require

if TYPE_CHECKING:
    from evoprompt.routing.committee import COMPOSITIONS, Committee, CommitteeAnswer, Opinion, Voice
    from evoprompt.routing.queries import Query, bundled_queries, load_queries
    from evoprompt.routing.router import Claim, Route, Router, load_router
    from evoprompt.routing.signals import Profile

__all__ = [
    "COMPOSITIONS",
    "Claim",
    "Committee",
    "CommitteeAnswer",
    "Opinion",
    "Profile",
    "Query",
    "Route",
    "Router",
    "Voice",
    "bundled_queries",
    "load_queries",
    "load_router",
]

_MODULES = {
    **dict.fromkeys(("Query", "bundled_queries", "load_queries"), "queries"),
    **dict.fromkeys(("Claim", "Route", "Router", "load_router"), "router"),
    "Profile": "signals",
}


def __getattr__(name: str) -> Any:
    """Load a part when it is first asked for; `python -m evoprompt.routing.train` can then say what is absent."""
    if name in __all__:
        require("evoprompt.routing", "lm")
        return getattr(import_module(f"evoprompt.routing.{_MODULES.get(name, 'committee')}"), name)
    raise AttributeError(f"module 'evoprompt.routing' has no attribute {name!r}")
