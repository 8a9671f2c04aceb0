"""The answers under each arm, item by item, and how much of a change carried over to new wordings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evoprompt.report.files import Run
from evoprompt.report.items import ITEM_LABELS
from evoprompt.report.numbers import number
from evoprompt.surveys.instrument import SPLITS
from evoprompt.typing import Doubles

COMPARED = ("naive", "evolved")
STILL = 0.02  # steps of the scale: root mean square shift below which there is nothing to carry over


def has_answers(run: Run) -> bool:
    """Whether answer distributions of all items were stored for the two arms that the plots compare."""
    return all(
        len(run.measured(arm, split).get("answers") or ()) == len(ITEM_LABELS) for arm in COMPARED for split in SPLITS
    )


def answer_shares(run: Run, arm: str, split: str = "held_out") -> Doubles:
    """Share of each of the five answers to each item, shape (24, 5); NaN where an item got no valid answer."""
    return np.array(run.measured(arm, split)["answers"], dtype=np.float64)


def mean_answers(run: Run, arm: str, split: str = "held_out") -> Doubles:
    """Mean answer of each item, 1..5, shape (24,)."""
    shares = answer_shares(run, arm, split)
    return shares @ np.arange(1, shares.shape[1] + 1)


def shifts(run: Run, split: str) -> Doubles:
    """By how much the evolved prompt moved each item's mean answer, in steps of the scale, shape (24,)."""
    return mean_answers(run, "evolved", split) - mean_answers(run, "naive", split)


@dataclass(frozen=True)
class Carried:
    """The least-squares line of held-out shifts over searched ones: its slope, and the correlation of the two."""

    slope: float
    intercept: float
    correlation: float


def carried(run: Run) -> Carried | None:
    """How held-out shifts follow the searched ones; None where too few items moved to say."""
    from scipy.stats import linregress

    searched, held_out = (shifts(run, split) for split in SPLITS)
    known = np.isfinite(searched) & np.isfinite(held_out)
    x, y = searched[known], held_out[known]
    if len(x) < 3 or np.sqrt(np.mean(x**2)) < STILL or np.ptp(x) < STILL or np.ptp(y) < 1e-9:
        return None
    found = linregress(x, y)
    return Carried(float(found.slope), float(found.intercept), float(found.rvalue))


def carried_words(found: Carried | None) -> str:
    """What carried over, as a sentence."""
    if found is None:
        return "Too few answers moved on the searched wordings to say how much carries over."
    figures = f"(slope {number(found.slope, 2)}, correlation {number(found.correlation, 2)} over the items)"
    if found.slope < 0.1 or found.correlation < 0.3:
        return f"The shifts did not carry over to new wordings {figures}."
    size = f"Shifts on held-out wordings were {found.slope:.0%} as large as on the searched ones"
    return f"{size}, {'in the same items' if found.correlation >= 0.8 else 'but not item by item'} {figures}."
