"""The optimizer: whether it can be made, and how many workers it can keep busy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evoprompt.preflight.findings import Findings
from evoprompt.study.search import optimizer_of
from evoprompt.study.settings import Settings

__all__ = ["check_optimizer"]


def check_optimizer(settings: Settings, hidden: int, workers: int, findings: Findings) -> None:
    """Print what the optimizer asks for at a time, and note where workers would have nothing to do."""
    findings.section("search")
    d, batch = coordinates(settings.space, hidden), settings.executor.batch_size
    with findings.catching():
        optimizer = optimizer_of(settings, [(-1, 1)] * d)
        findings.line("space", f"{settings.space['kind']}, {d} coordinates")
        if settings.loop == "steady":
            findings.line("loop", f"steady: {batch} candidates for every {batch} results")
            return
        generation = len(optimizer.ask())
        parts = -(-generation // batch)
        findings.line("loop", f"generational: {generation} candidates at a time, {batch} of them a piece of work")
        if parts < workers:
            findings.note(
                f"that is work for {parts} of {workers} workers; a larger optimizer.popsize, a smaller "
                "executor.batch_size or loop=steady employs all"
            )


def coordinates(space: Mapping[str, Any], hidden: int) -> int:
    """The number of coordinates of a space.

    >>> coordinates({"kind": "low_rank", "tokens": 4, "rank": 2}, hidden=128)
    264
    """
    tokens = space["tokens"]
    if space["kind"] == "random_projection":
        return int(space["dimensions"])
    each = {"low_rank": tokens + hidden, "vocab_pca": tokens, "full": tokens * hidden}[space["kind"]]
    return int(each * space.get("rank", space.get("components", 1)))
