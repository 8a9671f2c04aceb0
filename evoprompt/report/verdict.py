"""What a run's numbers say, in words: the verdict and the warnings. Pure functions of metrics and configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS

SMALL_CHANGE = 0.05  # share of naive's loss below which a change is called small
PERPLEXITY_LIMIT = 1.2
CARRIED_LIMIT = 0.5  # share of the searched gain that held-out wordings should keep
LABEL_SHIFT_LIMIT = 0.1  # change of one option label's mean probability
LABEL_MASS_LIMIT = 0.5  # share of a model's next words that are option labels
INVALID_LIMIT = 0.1  # share of free-text answers that chose no option or several
ARM_TITLES = {
    "naive": "no prompt",
    "persona": "persona line",
    "icl": "in-context examples",
    "evolved": "evolved prompt",
}
TEXTUAL = {"persona": "a plain persona line", "icl": "in-context examples"}  # the arms of written words

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """A headline and the sentences below it; `tone` is `good`, `flat` or `bad`."""

    headline: str
    comparisons: tuple[str, ...]
    cost: str
    tone: str


@dataclass(frozen=True)
class Caution:
    """One thing a reader must know before believing the numbers."""

    title: str
    text: str


def number(value: Any, digits: int = 1) -> str:
    """A number with a true minus sign; a dash where there is none.

    >>> number(-1.25), number(None), number(float("nan"))
    ('−1.2', '–', '–')
    """
    if _finite(value) is None:
        return "–"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def interval(bounds: tuple[float, float] | list[float], digits: int = 1) -> str:
    """A 95% interval.

    >>> interval([1.0, 2.5])
    '1.0 to 2.5'
    """
    return f"{number(bounds[0], digits)} to {number(bounds[1], digits)}"


def verdict(metrics: Metrics) -> Verdict:
    """Whether the held-out loss fell, against which baselines, and at what cost."""
    arms = metrics["arms"]
    evolved = arms["evolved"]["held_out"]
    headline, tone = _headline(arms["naive"]["held_out"], evolved)
    ahead = [arm for arm in ("persona", "icl") if arm in arms and relation(evolved, arms[arm]["held_out"]) == "higher"]
    if tone == "good" and ahead:
        doing = "does" if ahead == ["persona"] else "do"
        headline, tone = f"{headline[:-1]}, but {' and '.join(TEXTUAL[arm] for arm in ahead)} {doing} better.", "flat"
    comparisons = [_versus(arm, arms[arm]["held_out"], evolved) for arm in ("persona", "icl") if arm in arms]
    return Verdict(headline, tuple(comparisons), _cost(metrics.get("cost") or {}), tone)


def digits_for(*values: float) -> int:
    """One digit after the point, two where one digit would show different values as equal.

    >>> digits_for(15.31, 15.34), digits_for(15.3, 12.0)
    (2, 1)
    """
    shown = [number(value, 1) for value in values]
    return 1 if len(set(shown)) == len(shown) else 2


def digits_of(measured: Sequence[Mapping[str, Any]]) -> int:
    """Digits that tell several arms' losses apart, and the two ends of each interval.

    >>> digits_of([{"loss": 15.3, "interval": [15.31, 15.34]}])
    2
    """
    ends = (digits_for(*one["interval"]) for one in measured)
    return max(digits_for(*(one["loss"] for one in measured)), *ends)


def relation(ours: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """`lower`, `higher` or `same`: how one loss stands to another; overlapping intervals count as the same.

    >>> relation({"interval": [1, 2]}, {"interval": [3, 4]})
    'lower'
    """
    if ours["interval"][1] < other["interval"][0]:
        return "lower"
    if ours["interval"][0] > other["interval"][1]:
        return "higher"
    return "same"


def _headline(naive: Mapping[str, Any], evolved: Mapping[str, Any]) -> tuple[str, str]:
    before, after = naive["loss"], evolved["loss"]
    if _finite(before) is None or _finite(after) is None:
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


def _versus(arm: str, other: Mapping[str, Any], evolved: Mapping[str, Any]) -> str:
    """One sentence that compares the evolved prompt with another arm."""
    digits = digits_for(other["loss"], evolved["loss"])
    figures = f"{number(evolved['loss'], digits)} against {number(other['loss'], digits)}"
    title = TEXTUAL[arm]
    found = relation(evolved, other)
    if found == "lower":
        return f"Better than {title} ({figures})."
    if found == "higher":
        return f"Worse than {title} ({figures})."
    return f"Not distinguishable from {title} ({figures}, intervals overlap)."


def _cost(cost: Mapping[str, Any]) -> str:
    ratio, kl = _finite(cost.get("perplexity_ratio")), _finite(cost.get("kl"))
    if ratio is None or kl is None:
        return "What the prompt costs on neutral text was not measured."
    size = abs(ratio - 1)
    change = (
        f"perplexity {'rose' if ratio > 1 else 'fell'} by {size:.0%}" if size >= 0.005 else "perplexity did not change"
    )
    return f"Cost on neutral text: {change} (×{ratio:.2f}), next-token divergence {kl:.3f} nats."


def warnings(metrics: Metrics, config: Mapping[str, Any]) -> list[Caution]:
    """Everything that limits what the numbers mean, most important first."""
    found = [
        _simulator(metrics),
        _carried(metrics),
        _perplexity(metrics),
        _labels(metrics),
        _label_mass(metrics),
        _invalid(metrics),
        _missing(metrics),
        _failed(metrics),
        _unbalanced(config),
    ]
    return [warning for warning in found if warning is not None]


def _simulator(metrics: Metrics) -> Caution | None:
    if metrics.get("model") != "pocket":
        return None
    return Caution(
        "Made with the pocket model",
        "It is a simulator; it says nothing about people. Use it to check the method, not to describe a culture.",
    )


def _perplexity(metrics: Metrics) -> Caution | None:
    ratio = _finite((metrics.get("cost") or {}).get("perplexity_ratio"))
    if ratio is None:
        return Caution("Cost unknown", "The perplexity with the prompt is not a finite number.")
    if ratio <= PERPLEXITY_LIMIT:
        return None
    return Caution(
        "The prompt harms the model's text",
        f"Perplexity on neutral text rose by {ratio - 1:.0%} (more than {PERPLEXITY_LIMIT - 1:.0%}).",
    )


def gains(metrics: Metrics) -> dict[str, float]:
    """Points by which the evolved prompt lowered naive's loss, by split."""
    arms = metrics["arms"]
    return {split: arms["naive"][split]["loss"] - arms["evolved"][split]["loss"] for split in ("searched", "held_out")}


def _carried(metrics: Metrics) -> Caution | None:
    gain = gains(metrics)
    searched, held_out = gain["searched"], gain["held_out"]
    if searched <= 0:
        return Caution(
            "The search found nothing",
            f"Even on the wordings it searched, the loss did not fall (change {number(-searched, 2)} points).",
        )
    if held_out >= CARRIED_LIMIT * searched:
        return None
    return Caution(
        "The gain does not carry over to new wordings",
        f"{number(searched, 2)} points on the searched wordings, {number(held_out, 2)} on held-out ones: "
        "less than half. Part of the effect hangs on how the questions were phrased.",
    )


def label_shift(metrics: Metrics) -> tuple[str, float, float] | None:
    """The option label whose mean probability moved most on held-out wordings: label, before, after."""
    arms = metrics["arms"]
    before, after = (arms[arm]["held_out"].get("label_shares") or {} for arm in ("naive", "evolved"))
    shared = [label for label in before if label in after]
    if not shared:
        return None
    label = max(shared, key=lambda name: abs(after[name] - before[name]))
    return label, before[label], after[label]


def _labels(metrics: Metrics) -> Caution | None:
    moved = label_shift(metrics)
    if moved is None or abs(moved[2] - moved[1]) <= LABEL_SHIFT_LIMIT:
        return None
    label, before, after = moved
    return Caution(
        "The prompt pushes an option label",
        f"Label “{label}” went from {before:.0%} to {after:.0%} of the answers, whatever it stood for. "
        "In counterbalanced orders such a push draws all answers to the middle of the scale, "
        "which can lower the loss without changing any opinion.",
    )


def _label_mass(metrics: Metrics) -> Caution | None:
    masses = _held_out(metrics, "label_mass")
    if not masses or min(masses.values()) >= LABEL_MASS_LIMIT:
        return None
    return Caution(
        "The model seldom answers with a label",
        f"It puts {_by_arm(masses)} of its probability on the option labels; the answer distributions are shares of "
        "that. In free text (respondent=sampled) it may say something else.",
    )


def _invalid(metrics: Metrics) -> Caution | None:
    rates = _held_out(metrics, "invalid_rate")
    if not rates or max(rates.values()) <= INVALID_LIMIT:
        return None
    return Caution(
        "Many answers chose no option",
        f"{_by_arm(rates)} of the free-text answers were invalid and left out. Biases of labels and positions cancel "
        "only where all forms of a question are answered.",
    )


def _held_out(metrics: Metrics, key: str) -> dict[str, float]:
    """A number that was taken of naive's and the evolved prompt's held-out answers, by arm."""
    found = {arm: _finite(metrics["arms"][arm]["held_out"].get(key)) for arm in ("naive", "evolved")}
    return {arm: value for arm, value in found.items() if value is not None}


def _by_arm(shares: Mapping[str, float]) -> str:
    return " and ".join(f"{share:.0%} ({ARM_TITLES[arm]})" for arm, share in shares.items())


def _missing(metrics: Metrics) -> Caution | None:
    missing = [DIMENSION_NAMES[name] for name in DIMENSIONS if metrics["target"].get(name) is None]
    if not missing:
        return None
    return Caution(
        "The target is incomplete",
        f"No target score for {', '.join(missing)}; the loss is the mean over the other "
        f"{len(DIMENSIONS) - len(missing)} dimensions.",
    )


def _failed(metrics: Metrics) -> Caution | None:
    failed, total = int(metrics.get("failed") or 0), int(metrics.get("evaluations") or 0)
    if not failed:
        return None
    share = f" ({failed / total:.1%})" if total else ""
    return Caution(
        "Some evaluations failed", f"{failed} of {total}{share} gave no finite loss and were never selected."
    )


def _unbalanced(config: Mapping[str, Any]) -> Caution | None:
    survey = config.get("survey")
    if not isinstance(survey, Mapping) or survey.get("counterbalanced") is not False:
        return None
    return Caution(
        "The search was not counterbalanced",
        "It saw one option order and one label set only, and could gain by moving labels or positions.",
    )


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
