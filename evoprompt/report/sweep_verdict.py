"""What the runs of a sweep say together, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evoprompt.report.certainty import FEWEST_PAIRS, mean_interval, paired_p
from evoprompt.report.files import ARM_TITLES
from evoprompt.report.numbers import interval, number
from evoprompt.report.sweep_rows import Row, grouped
from evoprompt.report.verdict import TEXTUAL, Verdict

AGAINST = {"naive": ARM_TITLES["naive"], **TEXTUAL}


def sweep_verdict(rows: Sequence[Row]) -> Verdict:
    """In how many runs the held-out loss fell, against which baselines, and how certain that is over runs."""
    measured = [row for row in rows if row.gain is not None]
    fell = sum(row.gain is not None and row.gain > 0 and not row.doubtful for row in measured)
    means = {arm: differences(rows, arm) for arm in AGAINST}
    comparisons = [_comparison(arm, pairs) for arm, pairs in means.items() if pairs]
    lost = len(rows) - len(measured)
    if lost:
        comparisons.append(f"In {lost} of {len(rows)} runs the held-out loss could not be measured.")
    if not measured:
        return Verdict("The held-out loss could not be measured in any run.", tuple(comparisons), "", "bad")
    before, after = (float(np.mean([row.loss(arm) for row in measured])) for arm in ("naive", "evolved"))
    span = f"from {number(before)} to {number(after)} points"
    if len(measured) == 1:
        headline = f"The held-out loss {'fell' if fell else 'did not fall'} in the one run, {span}."
    else:
        count = f"all {fell}" if fell == len(measured) else f"{fell or 'none'} of {len(measured)}"
        headline = f"The held-out loss fell in {count} runs; its mean went {span}."
    tone = _tone(means["naive"], fell)
    ahead = [arm for arm in TEXTUAL if means[arm] and _bounds(means[arm])[0] > 0]
    if tone == "good" and ahead:
        doing = "does" if ahead == ["persona"] else "do"
        headline = f"{headline[:-1]}, but {' and '.join(TEXTUAL[arm] for arm in ahead)} {doing} better."
        tone = "flat"
    return Verdict(headline, tuple(comparisons), _method(rows), tone)


def differences(rows: Sequence[Row], arm: str) -> list[tuple[float, float]]:
    """Held-out loss of the evolved prompt and of an arm, of every run that has both."""
    both = [(row.loss("evolved"), row.loss(arm)) for row in rows]
    return [(ours, other) for ours, other in both if ours is not None and other is not None]


def _bounds(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The 95 % interval of the mean difference; NaN for a single run."""
    return mean_interval([ours - other for ours, other in pairs])[1:]


def _tone(pairs: Sequence[tuple[float, float]], fell: int) -> str:
    low, high = _bounds(pairs)
    if high < 0 and 2 * fell > len(pairs):
        return "good"
    return "bad" if low > 0 or not fell else "flat"


def _comparison(arm: str, pairs: Sequence[tuple[float, float]]) -> str:
    """The mean difference to an arm as a sentence."""
    ours, others = zip(*pairs, strict=True)
    mean, *bounds = mean_interval([one - other for one, other in pairs])
    said = f"Against {AGAINST[arm]}: {'+' if mean > 0 else ''}{number(mean)} points on average"
    lower = sum(one < other for one, other in pairs)
    count = f"lower in {lower} of {len(pairs)} runs"
    if len(pairs) < 2:
        return f"{said} ({count})."
    p = paired_p(ours, others)
    certain = f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}" if p is not None else "too few runs for a test"
    return f"{said} (95% interval {interval(bounds)}; {count}; {certain})."


def _method(rows: Sequence[Row]) -> str:
    """How the figures were taken."""
    said = "Held-out loss, in points; lower is better."
    if len(rows) > 1:
        said += " Intervals are bootstrap intervals over runs."
    if len(rows) >= FEWEST_PAIRS:
        said += " p: two-sided paired permutation test, not adjusted for the number of comparisons."
    if len(grouped(rows)) > 1:
        said += " All cultures and methods are taken together here; below they are apart."
    return said
