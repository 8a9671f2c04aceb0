"""Routing: which experts answer a query, and how their answers become one."""

from evoprompt.extras import require

require("evoprompt.routing", "lm")

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
