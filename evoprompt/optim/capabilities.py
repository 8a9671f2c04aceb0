"""What an optimizer can be asked to do, as data: refusals, the table in the docs and the tests all read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["CAPABILITIES", "Capabilities", "refusal", "supported", "table"]


def _can(label: str, phrase: str) -> Any:
    return field(default=True, metadata={"label": label, "phrase": phrase})


@dataclass(frozen=True)
class Capabilities:
    """What an optimizer can do beyond asking, telling, stopping at its budget and surviving failures.

    What it cannot do it refuses, unless it says here what it does instead.
    """

    popsize: bool = _can("`popsize=`", "a population size")
    """``popsize=`` sets how many candidates a batch has."""
    infinite_bounds: bool = _can("half-open and infinite bounds", "infinite bounds")
    """Half-open and missing bounds are searched."""
    one_coordinate: bool = _can("a single coordinate", "a single coordinate")
    """Works with a single coordinate."""
    integrality: bool = _can("`integrality=`", "whole-number coordinates (integrality)")
    """``integrality=`` (d,) makes coordinates whole numbers."""
    constraints: bool = _can("constraints: `tell(..., violation=)`", "constraints (violation)")
    """``tell(trials, losses, violation=...)`` prefers feasible points."""
    noise: bool = _can("`noise=`", "noise handling (noise)")
    """``noise=`` re-evaluates candidates of a noisy objective."""
    seconds: bool = _can("`seconds=` (deadline)", "a deadline (seconds)")
    """``seconds=`` is a deadline."""
    steady_state: bool = _can('`updating="immediate"`', "steady-state updating (updating='immediate')")
    """``updating="immediate"`` learns from each result when it is told."""
    warm_start: bool = _can("`warm_start(x, losses)`", "warm starts (warm_start)")
    """``warm_start(x, losses)`` takes known points in without counting them."""
    asks_ahead: bool = _can("`ask(n)` beyond an outstanding batch", "asking ahead")
    """``ask(n)`` gives trials while a whole batch is outstanding. Otherwise it gives none."""
    learns_from_guests: bool = _can("learns from points it never proposed", "guests")
    """Points told without being asked steer the search. Otherwise they only count, and can be best."""
    replays: bool = field(default=False, metadata={"label": "a reload repeats the whole run", "phrase": "replay"})
    """Loading a state repeats every ask and tell, instead of restoring what they led to."""


_OPTIONS = {"noise": ("noise", None), "integrality": ("integrality", None), "seconds": ("seconds", None),
            "updating": ("steady_state", "deferred")}  # fmt: skip
"""Options that stand for a capability, and the value that asks for nothing."""


def supported(name: str, capabilities: Capabilities, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that ask for nothing, where the optimizer does not have them.

    Raises
    ------
    ValueError
        If an option asks for what the optimizer cannot do.
    """
    kept = {}
    for option, value in options.items():
        capability, nothing = _OPTIONS.get(option, (None, None))
        if capability is None or getattr(capabilities, capability):
            kept[option] = value
        elif not (value is nothing or (isinstance(value, str) and value == nothing)):
            raise refusal(name, capability)
    return kept


CAPABILITIES: Mapping[str, Capabilities] = {
    "auto": Capabilities(),
    "de": Capabilities(),
    "lsrtde": Capabilities(noise=False),
    "cma": Capabilities(
        one_coordinate=False, integrality=False, constraints=False, noise=False, steady_state=False, warm_start=False,
        replays=True,
    ),
    "nevergrad": Capabilities(
        infinite_bounds=False, integrality=False, constraints=False, noise=False, warm_start=False, replays=True,
    ),
    "scipy": Capabilities(
        infinite_bounds=False, constraints=False, noise=False, steady_state=False, warm_start=False, asks_ahead=False,
        learns_from_guests=False, replays=True,
    ),
    "dual_annealing": Capabilities(
        popsize=False, infinite_bounds=False, integrality=False, constraints=False, noise=False, steady_state=False,
        warm_start=False, asks_ahead=False, learns_from_guests=False, replays=True,
    ),
    "random": Capabilities(
        constraints=False, noise=False, steady_state=False, warm_start=False, learns_from_guests=False, replays=True,
    ),
}  # fmt: skip
"""Of every optimizer by its name; variants of differential evolution that are not here have those of "de"."""


def refusal(name: str, capability: str) -> ValueError:
    """The error for asking an optimizer for what it cannot do; it names those that can.

    Examples
    --------
    >>> str(refusal("random", "noise"))
    "'random' does not support noise handling (noise); supported by: 'auto', 'de'"
    """
    able = (other for other, can in CAPABILITIES.items() if getattr(can, capability) and other != "lsrtde")
    phrase = next(one for one in fields(Capabilities) if one.name == capability).metadata["phrase"]
    return ValueError(f"{name!r} does not support {phrase}; supported by: {', '.join(map(repr, able))}")


def table() -> str:
    """Every optimizer's capabilities as a Markdown table.

    Examples
    --------
    >>> table().splitlines()[0]
    '| | `auto` | `de` | `lsrtde` | `cma` | `nevergrad` | `scipy` | `dual_annealing` | `random` |'
    """
    lines = ["| | " + " | ".join(f"`{name}`" for name in CAPABILITIES) + " |", "|---" * (len(CAPABILITIES) + 1) + "|"]
    for one in fields(Capabilities):
        cells = ["yes" if getattr(can, one.name) else "no" for can in CAPABILITIES.values()]
        lines.append(f"| {one.metadata['label']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
