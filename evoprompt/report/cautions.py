"""What limits what a run's numbers mean: pure functions of metrics and configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from evoprompt.report.files import ARM_TITLES
from evoprompt.report.numbers import finite, number, relation, share
from evoprompt.study.run_info import RunInfo
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS
from evoprompt.surveys.instrument import SPLITS
from evoprompt.surveys.quality import INVALID_LIMIT, LABEL_MASS_LIMIT
from evoprompt.surveys.questions import LABEL_SETS

PERPLEXITY_LIMIT = 1.2
CARRIED_LIMIT = 0.5  # share of the searched gain that held-out wordings should keep
LABEL_SHIFT_LIMIT = 0.1  # change of one option label's mean probability that no change of opinion explains
SILENCE_LIMIT = 0.5  # share of invalid answers above which a model has stopped answering

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Caution:
    """One thing a reader must know before believing the numbers."""

    title: str
    text: str


@dataclass(frozen=True)
class Doubt:
    """Why a fallen loss is no success, as the end of a sentence, and the `tone` that it leaves, `flat` or `bad`."""

    text: str
    tone: str


def doubt(metrics: Metrics) -> Doubt | None:
    """The gravest reason not to take a lower held-out loss for a success; None where there is none on record."""
    masses, rates = _held_out(metrics, "label_mass"), _held_out(metrics, "invalid_rate")
    mass, rate = masses.get("evolved", 1.0), rates.get("evolved", 0.0)
    if mass < LABEL_MASS_LIMIT:
        tone = "bad" if masses.get("naive", 1.0) >= LABEL_MASS_LIMIT else "flat"
        return Doubt(f"the model then puts {share(mass)} of its words on the labels", tone)
    if rate > INVALID_LIMIT:
        return Doubt(f"{share(rate)} of the answers then choose no option", _silence(rate))
    return _contradicted(metrics)


def _contradicted(metrics: Metrics) -> Doubt | None:
    """What a confirmation in free text takes back."""
    found = _confirmation(metrics)
    if found is None:
        return None
    naive, evolved = found
    before, after, rate = finite(naive["loss"]), finite(evolved["loss"]), finite(evolved.get("invalid_rate")) or 0.0
    if rate > INVALID_LIMIT:
        return Doubt(f"asked in free text {share(rate)} of the answers then choose no option", _silence(rate))
    if after is None:
        return Doubt("asked in free text the model then gives some item no valid answer", "bad")
    if before is None:
        return Doubt("free text could not confirm it: without a prompt some item got no valid answer", "flat")
    if after >= before:
        return Doubt(f"asked in free text it did not fall: {number(after)} against {number(before)} points", "flat")
    return None


def _silence(rate: float) -> str:
    return "bad" if rate > SILENCE_LIMIT else "flat"


def _confirmation(metrics: Metrics) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Naive and the evolved prompt as asked again in free text; None where they were not."""
    found = metrics.get("confirmation") or {}
    return (found["naive"], found["evolved"]) if {"naive", "evolved"} <= set(found) else None


def warnings(metrics: Metrics, config: Mapping[str, Any]) -> list[Caution]:
    """Everything that limits what the numbers mean, most important first."""
    found = [
        _simulator(metrics),
        _label_mass(metrics),
        _invalid(metrics),
        _confirmed(metrics),
        _unmeasured(metrics),
        _carried(metrics),
        _perplexity(metrics),
        _labels(metrics),
        _missing(metrics),
        _failed(metrics),
        _unbalanced(config),
    ]
    return [warning for warning in found if warning is not None]


def noted(info: RunInfo) -> list[Caution]:
    """What a run itself said that a reader should know, as sentences."""
    return [Caution("Noted by the run", f"{note[:1].upper()}{note[1:].rstrip('.')}.") for note in info.notes]


def _simulator(metrics: Metrics) -> Caution | None:
    if metrics.get("model") != "pocket":
        return None
    return Caution(
        "Made with the pocket model",
        "It is a simulator; it says nothing about people. Use it to check the method, not to describe a culture.",
    )


def _perplexity(metrics: Metrics) -> Caution | None:
    ratio = finite((metrics.get("cost") or {}).get("perplexity_ratio"))
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
    return {split: arms["naive"][split]["loss"] - arms["evolved"][split]["loss"] for split in SPLITS}


def _carried(metrics: Metrics) -> Caution | None:
    gain = gains(metrics)
    searched, held_out = gain["searched"], gain["held_out"]
    if finite(searched) is None or finite(held_out) is None:
        return None
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


class LabelShift(NamedTuple):
    """Mean probability of an option label before and after, and the part of its change that its `kin` do not share."""

    label: str
    before: float
    after: float
    own: float
    kin: tuple[str, ...]


def label_shift(metrics: Metrics) -> LabelShift | None:
    """The option label that moved most by itself on held-out wordings.

    Options are asked in both orders and with either label set, so the label in place j stands for answer j as often as
    for answer 6 - j, and a change of opinion moves it by as much as its kin: its mirror image and the labels in these
    two places of the other set. What a label moves beyond the mean of its kin is a push of the label or its place.
    A push that all kin share, of the middle of both sets for example, cannot be told from a change of opinion.
    """
    arms = metrics["arms"]
    before, after = (arms[arm]["held_out"].get("label_shares") or {} for arm in ("naive", "evolved"))
    moved = {
        label: after[label] - before[label]
        for label in before
        if finite(before[label]) is not None and finite(after.get(label)) is not None
    }
    found = []
    for label, change in moved.items():
        kin = tuple(other for other in _kin(label) if other in moved)
        if kin:
            own = change - fmean(moved[other] for other in kin)
            found.append(LabelShift(label, before[label], after[label], own, kin))
    return max(found, key=lambda one: (round(abs(one.own), 9), abs(one.after - one.before)), default=None)


def _kin(label: str) -> list[str]:
    """The labels that stand for the same answers as `label` when both orders and both sets are taken together."""
    places = {one: place for labels in LABEL_SETS for place, one in enumerate(labels)}
    same = {places.get(label), len(LABEL_SETS[0]) - 1 - places[label]} if label in places else set()
    return [other for other, place in places.items() if place in same and other != label]


def _labels(metrics: Metrics) -> Caution | None:
    moved = label_shift(metrics)
    if moved is None or round(abs(moved.own), 6) <= LABEL_SHIFT_LIMIT:
        return None
    kin = " and ".join(filter(None, (", ".join(moved.kin[:-1]), moved.kin[-1])))
    return Caution(
        "The prompt pushes an option label",
        f"Label “{moved.label}” went from {moved.before:.0%} to {moved.after:.0%} of the answers, whatever it stood "
        f"for: {100 * abs(moved.own):.0f} percentage points {'more' if moved.own > 0 else 'less'} than {kin}, which a "
        "change of opinion moves alike. "
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
        "that. A search can win by making the model say something else; free text (respondent=sampled) shows what.",
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


def _confirmed(metrics: Metrics) -> Caution | None:
    found, against = _confirmation(metrics), _contradicted(metrics)
    if found is None:
        return None
    naive, evolved = found
    figures = f"held-out loss {number(evolved['loss'])} against {number(naive['loss'])} without a prompt"
    if finite(evolved["loss"]) is None:
        figures = "the held-out loss could not be measured"
    invalid = f"{share(evolved.get('invalid_rate'))} of the answers under the evolved prompt chose no option"
    if against is not None:
        return Caution("Free text does not confirm it", f"Asked again in the model’s own words: {figures}; {invalid}.")
    if relation(evolved, naive) == "lower":
        return None
    return Caution(
        "Free text confirms it only in part", f"Asked again in the model’s own words: {figures}; the intervals overlap."
    )


def _unmeasured(metrics: Metrics) -> Caution | None:
    arms = metrics["arms"]
    lost = [
        f"{ARM_TITLES.get(arm, arm)} ({', '.join(splits)})"
        for arm in arms
        if (splits := [split.replace("_", "-") for split in SPLITS if finite(arms[arm][split]["loss"]) is None])
    ]
    if not lost:
        return None
    return Caution(
        "A loss could not be measured", f"Some item got no valid answer at all, by arm and wordings: {'; '.join(lost)}."
    )


def _held_out(metrics: Metrics, key: str) -> dict[str, float]:
    """A number that was taken of naive's and the evolved prompt's held-out answers, by arm."""
    found = {arm: finite(metrics["arms"][arm]["held_out"].get(key)) for arm in ("naive", "evolved")}
    return {arm: value for arm, value in found.items() if value is not None}


def _by_arm(shares: Mapping[str, float]) -> str:
    return " and ".join(f"{share(one)} ({ARM_TITLES[arm]})" for arm, one in shares.items())


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
