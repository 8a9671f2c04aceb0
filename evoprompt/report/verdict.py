"""The verdict on a run, and on a sweep: what the numbers say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evoprompt.report.cautions import Metrics, doubt
from evoprompt.report.files import ARM_TITLES
from evoprompt.report.numbers import (
    FEWEST_PAIRS,
    digits_for,
    finite,
    interval,
    mean_interval,
    number,
    paired_p,
    relation,
)
from evoprompt.report.sweep_rows import Row

SMALL_CHANGE = 0.05  # share of naive's loss below which a change is called small
TEXTUAL = {"persona": "a plain persona line", "icl": "in-context examples"}  # the arms of written words
AGAINST = {"naive": ARM_TITLES["naive"], **TEXTUAL}

Pairs = list[tuple[float, float]]


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
    held_out = {arm: arms[arm]["held_out"] for arm in TEXTUAL if arm in arms}
    if against is not None:
        headline, tone = f"{headline[:-1]}, but {against.text}.", against.tone
    elif tone == "good":
        headline, tone = outdone(headline, [arm for arm in held_out if relation(evolved, held_out[arm]) == "higher"])
    comparisons = [_versus(TEXTUAL[arm], other, evolved, against is not None) for arm, other in held_out.items()]
    return Verdict(headline, tuple(comparisons), _cost(metrics.get("cost") or {}), tone)


def outdone(headline: str, ahead: Sequence[str]) -> tuple[str, str]:
    """A headline of success and its tone, with those of `TEXTUAL` that do even better."""
    if not ahead:
        return headline, "good"
    doing = "does" if ahead == ["persona"] else "do"
    return f"{headline[:-1]}, but {' and '.join(TEXTUAL[arm] for arm in ahead)} {doing} better.", "flat"


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
    verb, tone = ("fell", "good") if found == "lower" else ("rose", "bad")
    if share < SMALL_CHANGE:
        return f"The held-out loss {verb} only slightly, {span} ({share:.1%}).", "flat" if verb == "fell" else "bad"
    return f"The held-out loss {verb} by {share:.0%}, {span}.", tone


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


def sweep_verdict(rows: Sequence[Row]) -> Verdict:
    """In how many runs the held-out loss fell, how many of these are doubtful, against which baselines it is lower,
    and how certain that is over cultures or seeds.
    """
    measured = [(row, gain) for row in rows if (gain := row.gains["held_out"]) is not None]
    found = {arm: pairs(rows, arm) for arm in AGAINST}
    comparisons = [_comparison(arm, rows, found[arm]) for arm in AGAINST if found[arm]]
    lost = len(rows) - len(measured)
    if lost:
        comparisons.append(f"In {lost} of {len(rows)} runs the held-out loss could not be measured.")
    if not measured:
        return Verdict("The held-out loss could not be measured in any run.", tuple(comparisons), "", "bad")
    fell = [row for row, gain in measured if gain > 0]
    headline, tone = _sweep_headline(fell, len(measured), found["naive"]), _tone(fell, len(measured), found["naive"])
    if tone == "good":
        headline, tone = outdone(headline, [arm for arm in TEXTUAL if bounds(found[arm])[0] > 0])
    return Verdict(headline, tuple(comparisons), _method(rows, found), tone)


def unit(rows: Sequence[Row]) -> str:
    """Over what intervals and tests are: `culture`, or `seed` where all runs are of one culture."""
    return "culture" if len({row.name for row in rows}) > 1 else "seed"


def pairs(rows: Sequence[Row], arm: str) -> Pairs:
    """Held-out loss of the evolved prompt and of an arm, as means over the runs of each culture, or of each seed.

    The runs of a culture share what its baselines lost, so that they are no independent cases.
    """
    of_culture = unit(rows) == "culture"
    found: dict[Any, Pairs] = {}
    for row in rows:
        ours, other = row.losses["evolved"], row.losses[arm]
        if ours is not None and other is not None:
            found.setdefault(row.name if of_culture else row.seed, []).append((ours, other))
    return [(fmean(one for one, _ in both), fmean(other for _, other in both)) for both in found.values()]


def bounds(found: Pairs) -> tuple[float, float]:
    """The 95 % interval of the mean difference; NaN for a single pair."""
    return mean_interval([ours - other for ours, other in found])[1:]


def _sweep_headline(fell: Sequence[Row], measured: int, found: Pairs) -> str:
    """In how many runs the loss fell, with what doubt, and from what to what."""
    after, before = (fmean(losses) for losses in zip(*found, strict=True))
    span = f"from {number(before)} to {number(after)} points"
    doubted = sum(row.doubt is not None for row in fell)
    if measured == 1:
        verb = "fell" if fell else "did not fall"
        return f"The held-out loss {verb} in the one run{', with doubt' if doubted else ''}, {span}."
    count = f"all {measured}" if len(fell) == measured else f"{len(fell) or 'none'} of {measured}"
    which = "" if len(fell) == 1 else f"{'all' if doubted == len(fell) else doubted} of them "
    doubt = f", {which}with doubt" if doubted else ""
    return f"The held-out loss fell in {count} runs{doubt}; its mean went {span}."


def _tone(fell: Sequence[Row], measured: int, found: Pairs) -> str:
    low, high = bounds(found)
    if high < 0 and 2 * sum(row.doubt is None for row in fell) > measured:
        return "good"
    hopeless = all(row.doubt is not None and row.doubt.tone == "bad" for row in fell)
    return "bad" if low > 0 or hopeless else "flat"


def _comparison(arm: str, rows: Sequence[Row], found: Pairs) -> str:
    """The mean difference to an arm as a sentence."""
    both = [(row.losses["evolved"], row.losses[arm]) for row in rows]
    lower = [ours < other for ours, other in both if ours is not None and other is not None]
    count = f"lower in {sum(lower)} of {len(lower)} runs"
    ours, others = zip(*found, strict=True)
    mean = fmean(ours) - fmean(others)
    said = f"Against {AGAINST[arm]}: {'+' if mean > 0 else ''}{number(mean)} points on average"
    if len(found) < 2:
        return f"{said} ({count})."
    p = paired_p(ours, others)
    certain = f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}" if p is not None else f"too few {unit(rows)}s for a test"
    over = f"95% interval over {len(found)} {unit(rows)}s"
    return f"{said} ({over} {interval(bounds(found))}; {count}; {certain})."


def _method(rows: Sequence[Row], found: Mapping[str, Pairs]) -> str:
    """How the figures were taken."""
    said = "Held-out loss, in points; lower is better."
    most = max(map(len, found.values()))
    if most < 2:
        return said
    if unit(rows) == "culture":
        said += " A culture counts once, as the mean of its runs: these share their baselines."
    else:
        said += " All runs are of one culture: intervals and tests are over seeds and say nothing of other cultures."
    said += " Intervals are bootstrap intervals."
    if most >= FEWEST_PAIRS:
        said += " p: two-sided paired permutation test, not adjusted for the number of comparisons."
    if len({row.method for row in rows}) > 1:
        said += " All methods are taken together here; below they are apart."
    return said
