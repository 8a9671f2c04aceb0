"""The constant C of the VSM 2013: none, fixed, or anchored on cultures asked by persona."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evoprompt.errors import UserError
from evoprompt.surveys.cultures import Culture
from evoprompt.surveys.vsm13 import DIMENSIONS
from evoprompt.typing import Doubles

TREATMENTS = ("none", "fixed", "anchors")
FIXED = 50.0


@dataclass(frozen=True)
class Constant:
    """The constant added to the raw scores, shape (6,), and where it comes from."""

    values: tuple[float, ...]
    treatment: str
    anchors: tuple[str, ...] = ()

    @property
    def array(self) -> Doubles:
        """Shape (6,), in the order of `DIMENSIONS`."""
        return np.array(self.values)


def fixed_constant(treatment: str) -> Constant:
    """`none` (0) or `fixed` (50 on every dimension)."""
    value = FIXED if treatment == "fixed" else 0.0
    return Constant((value,) * len(DIMENSIONS), treatment)


def choose_anchors(anchors: Sequence[Culture], tuned: Culture) -> list[Culture]:
    """The anchor cultures without the one being tuned, nor any with the same place.

    Raises
    ------
    UserError
        Nothing is left, or an anchor's scores are incomplete.
    """
    chosen = [anchor for anchor in anchors if anchor.key != tuned.key and anchor.place != tuned.place]
    if not chosen:
        raise UserError(f"survey.anchors must name a culture other than the tuned one, {tuned.key!r}")
    for anchor in chosen:
        if not anchor.complete:
            raise UserError(f"anchor {anchor.key!r} has no complete scores; choose one that has all six")
    return chosen


def anchored_constant(anchors: Sequence[Culture], raw: Doubles) -> Constant:
    """C such that the mean score over the anchors equals their mean published score.

    The anchors were asked by persona line; `raw` has their raw scores from the frozen model, shape (anchors, 6).

    >>> from evoprompt.surveys.cultures import get_culture
    >>> anchored_constant([get_culture("japan")], np.zeros((1, 6))).values
    (54.0, 46.0, 95.0, 92.0, 88.0, 42.0)
    """
    published = np.mean([anchor.target for anchor in anchors], axis=0)
    values = published - np.asarray(raw).mean(axis=0)
    return Constant(tuple(float(v) for v in values), "anchors", tuple(anchor.key for anchor in anchors))
