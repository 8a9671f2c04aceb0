"""Short names of the survey's items, for plots and tables where a whole wording has no room."""

from __future__ import annotations

from evoprompt.surveys.vsm13 import FORMULAS

ITEM_LABELS = (
    "time for private life",
    "a boss to respect",
    "recognition for good work",
    "job security",
    "pleasant colleagues",
    "interesting work",
    "being consulted by the boss",
    "a desirable place to live",
    "a job family and friends respect",
    "chances of promotion",
    "time free for fun",
    "moderation, few desires",
    "doing a friend a service",
    "thrift",
    "feeling nervous or tense",
    "being a happy person",
    "held back by others",
    "own state of health",
    "pride in one's country",
    "staff afraid to contradict",
    "manager need not know all",
    "effort is the way to results",
    "avoid having two bosses",
    "never break the rules",
)


def feeds(item: int) -> str:
    """The dimension that a 0-based item counts for, and the sign of a higher answer.

    >>> feeds(6)
    '+PDI'
    """
    for dimension, terms in FORMULAS.items():
        for _, plus, minus in terms:
            if item + 1 in (plus, minus):
                return f"{'+' if item + 1 == plus else '−'}{dimension.upper()}"
    raise ValueError(f"item {item} is not one of the 24 items 0..23")
