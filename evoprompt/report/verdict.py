"""The verdict on a run: what its numbers say, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evoprompt.report.cautions import Metrics, doubt
from evoprompt.report.numbers import digits_for, finite, number, relation

SMALL_CHANGE = 0.05  # share of naive's loss below which a change is called small
TEXTUAL = {"persona": "a plain persona line", "icl": "in-context examples"}  # the arms of written words


@dataclass(frozen=True)
class Verdict:
    """A headline and the sentences below it; `tone` is `good`, `flat` or `bad`."""

    headline: str
    comparisons: tuple[str, ...]
    cost: str
    tone: str


def verdict(metrics: Metrics) -> Verdict:
    """Whether the held-out loss fell, what speaks against believing it, against which baselines, and at what cost."""
    arms = metrics["arms"]
    naive, evolved = arms["naive"]["held_out"], arms["evolved"]["held_out"]
    headline, tone = _headline(naive, evolved)
    against = doubt(metrics) if relation(evolved, naive) == "lower" else None
    ahead = [arm for arm in TEXTUAL if arm in arms and relation(evolved, arms[arm]["held_out"]) == "higher"]
    if against is not None:
        headline, tone = f"{headline[:-1]}, but {against.text}.", against.tone
    elif tone == "good" and ahead:
        doing = "does" if ahead == ["persona"] else "do"
        headline, tone = f"{headline[:-1]}, but {' and '.join(TEXTUAL[arm] for arm in ahead)} {doing} better.", "flat"
    held_out = {arm: arms[arm]["held_out"] for arm in TEXTUAL if arm in arms}
    comparisons = [_versus(TEXTUAL[arm], other, evolved, against is not None) for arm, other in held_out.items()]
    return Verdict(headline, tuple(comparisons), _cost(metrics.get("cost") or {}), tone)


def _headline(naive: Mapping[str, Any], evolved: Mapping[str, Any]) -> tuple[str, str]:
    before, after = naive["loss"], evolved["loss"]
    if finite(before) is None or finite(after) is None:
        return "The held-out loss could not be measured.", "bad"
    digits = digits_for(before, after)
    span = f"from {number(before, digits)} to {number(after, digits)} points"
    share = abs(after - before) / before if before else 0.0
    found = relation(evolved, naive)
    if found == "same":
        return f"No clear change on held-out wordings: the loss went {span}, and the intervals overlap.", "flat"
    verb = "fell" if found == "lower" else "rose"
    if share < SMALL_CHANGE:
        return f"The held-out loss {verb} only slightly, {span} ({share:.1%}).", "flat" if verb == "fell" else "bad"
    if verb == "fell":
        return f"The held-out loss fell by {share:.0%}, {span}.", "good"
    return f"The held-out loss rose by {share:.0%}, {span}.", "bad"


def _versus(title: str, other: Mapping[str, Any], evolved: Mapping[str, Any], doubtful: bool) -> str:
    """One sentence that compares the evolved prompt with another arm; a doubtful lower loss is not called better."""
    digits = digits_for(other["loss"], evolved["loss"])
    figures = f"{number(evolved['loss'], digits)} against {number(other['loss'], digits)}"
    if finite(other["loss"]) is None or finite(evolved["loss"]) is None:
        return f"Not comparable with {title} ({figures}): one of the two could not be measured."
    found = relation(evolved, other)
    if found == "lower":
        return f"Lower than {title}, but no better ({figures})." if doubtful else f"Better than {title} ({figures})."
    if found == "higher":
        return f"Worse than {title} ({figures})."
    return f"Not distinguishable from {title} ({figures}, intervals overlap)."


def _cost(cost: Mapping[str, Any]) -> str:
    ratio, kl = finite(cost.get("perplexity_ratio")), finite(cost.get("kl"))
    if ratio is None or kl is None:
        return "What the prompt costs on neutral text was not measured."
    size = abs(ratio - 1)
    change = (
        f"perplexity {'rose' if ratio > 1 else 'fell'} by {size:.0%}" if size >= 0.005 else "perplexity did not change"
    )
    return f"Cost on neutral text: {change} (×{ratio:.2f}), next-token divergence {kl:.3f} nats."
