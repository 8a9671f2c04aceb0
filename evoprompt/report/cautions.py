"""What limits what a run's numbers mean: pure functions of metrics and configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

_ANSWERS = {  # places that each label stands for when both orders are taken together
    label: {place, len(labels) - 1 - place} for labels in LABEL_SETS for place, label in enumerate(labels)
}

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Caution:
    """One thing a reader must know before believing the numbers; more of it is folded under a summary."""

    title: str
    text: str
    summary: str = ""
    each: tuple[str, ...] = ()


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
    return _contradicted(metrics.get("confirmation") or {})


def _contradicted(confirmation: Mapping[str, Any]) -> Doubt | None:
    """What a confirmation in free text takes back."""
    if not {"naive", "evolved"} <= set(confirmation):
        return None
    before, after = (finite(confirmation[arm]["loss"]) for arm in ("naive", "evolved"))
    rate = finite(confirmation["evolved"].get("invalid_rate")) or 0.0
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


def warnings(metrics: Metrics, config: Mapping[str, Any]) -> list[Caution]:
    """Everything that limits what the numbers mean, most important first."""
    return [
        *_of_answers(metrics),
        *_of_free_text(metrics.get("confirmation") or {}),
        *_of_losses(metrics),
        *_of_prompt(metrics),
        *_of_search(metrics, config),
    ]


def noted(info: RunInfo) -> list[Caution]:
    """What a run itself said that a reader should know, as sentences."""
    return [Caution("Noted by the run", f"{note[:1].upper()}{note[1:].rstrip('.')}.") for note in info.notes]


def _of_answers(metrics: Metrics) -> Iterator[Caution]:
    if metrics.get("model") == "pocket":
        yield Caution(
            "Made with the pocket model",
            "It is a simulator; it says nothing about people. Use it to check the method, not to describe a culture.",
        )
    masses, rates = _held_out(metrics, "label_mass"), _held_out(metrics, "invalid_rate")
    if min(masses.values(), default=1.0) < LABEL_MASS_LIMIT:
        yield Caution(
            "The model seldom answers with a label",
            f"It puts {_by_arm(masses)} of its probability on the option labels; the answer distributions are shares "
            "of that. A search can win by making the model say something else; free text (respondent=sampled) shows "
            "what.",
        )
    if max(rates.values(), default=0.0) > INVALID_LIMIT:
        yield Caution(
            "Many answers chose no option",
            f"{_by_arm(rates)} of the free-text answers were invalid and left out. Biases of labels and positions "
            "cancel only where all forms of a question are answered.",
        )


def _held_out(metrics: Metrics, key: str) -> dict[str, float]:
    """A number that was taken of naive's and the evolved prompt's held-out answers, by arm."""
    found = {arm: finite(metrics["arms"][arm]["held_out"].get(key)) for arm in ("naive", "evolved")}
    return {arm: value for arm, value in found.items() if value is not None}


def _by_arm(shares: Mapping[str, float]) -> str:
    return " and ".join(f"{share(one)} ({ARM_TITLES[arm]})" for arm, one in shares.items())


def _of_free_text(confirmation: Mapping[str, Any]) -> Iterator[Caution]:
    if not {"naive", "evolved"} <= set(confirmation):
        return
    naive, evolved = confirmation["naive"], confirmation["evolved"]
    figures = "the held-out loss could not be measured"
    if finite(evolved["loss"]) is not None:
        figures = f"held-out loss {number(evolved['loss'])} against {number(naive['loss'])} without a prompt"
    asked = f"Asked again in the model’s own words: {figures}"
    if _contradicted(confirmation) is not None:
        invalid = f"{share(evolved.get('invalid_rate'))} of the answers under the evolved prompt chose no option"
        yield Caution("Free text does not confirm it", f"{asked}; {invalid}.")
    elif relation(evolved, naive) != "lower":
        yield Caution("Free text confirms it only in part", f"{asked}; the intervals overlap.")


def gains(metrics: Metrics) -> dict[str, float]:
    """Points by which the evolved prompt lowered naive's loss, by split."""
    arms = metrics["arms"]
    return {split: arms["naive"][split]["loss"] - arms["evolved"][split]["loss"] for split in SPLITS}


def _of_losses(metrics: Metrics) -> Iterator[Caution]:
    lost = []
    for arm, splits in metrics["arms"].items():
        names = [split.replace("_", "-") for split in SPLITS if finite(splits[split]["loss"]) is None]
        lost += [f"{ARM_TITLES.get(arm, arm)} ({', '.join(names)})"] if names else []
    if lost:
        yield Caution(
            "A loss could not be measured",
            f"Some item got no valid answer at all, by arm and wordings: {'; '.join(lost)}.",
        )
    searched, held_out = (finite(gain) for gain in gains(metrics).values())
    if searched is None or held_out is None:
        return
    if searched <= 0:
        yield Caution(
            "The search found nothing",
            f"Even on the wordings it searched, the loss did not fall (change {number(-searched, 2)} points).",
        )
    elif held_out < CARRIED_LIMIT * searched:
        yield Caution(
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
        answers = _ANSWERS.get(label)
        kin = tuple(other for other in _ANSWERS if _ANSWERS[other] == answers and other != label and other in moved)
        if kin:
            own = change - fmean(moved[other] for other in kin)
            found.append(LabelShift(label, before[label], after[label], own, kin))
    return max(found, key=lambda one: (round(abs(one.own), 9), abs(one.after - one.before)), default=None)


def _of_prompt(metrics: Metrics) -> Iterator[Caution]:
    ratio, moved = finite((metrics.get("cost") or {}).get("perplexity_ratio")), label_shift(metrics)
    if ratio is None:
        yield Caution("Cost unknown", "The perplexity with the prompt is not a finite number.")
    elif ratio > PERPLEXITY_LIMIT:
        yield Caution(
            "The prompt harms the model's text",
            f"Perplexity on neutral text rose by {ratio - 1:.0%} (more than {PERPLEXITY_LIMIT - 1:.0%}).",
        )
    if moved is not None and round(abs(moved.own), 6) > LABEL_SHIFT_LIMIT:
        kin = " and ".join(filter(None, (", ".join(moved.kin[:-1]), moved.kin[-1])))
        yield Caution(
            "The prompt pushes an option label",
            f"Label “{moved.label}” went from {moved.before:.0%} to {moved.after:.0%} of the answers, whatever it "
            f"stood for: {100 * abs(moved.own):.0f} percentage points {'more' if moved.own > 0 else 'less'} than "
            f"{kin}, which a change of opinion moves alike. In counterbalanced orders such a push draws all answers to "
            "the middle of the scale, which can lower the loss without changing any opinion.",
        )


def _of_search(metrics: Metrics, config: Mapping[str, Any]) -> Iterator[Caution]:
    missing = [DIMENSION_NAMES[name] for name in DIMENSIONS if metrics["target"].get(name) is None]
    if missing:
        yield Caution(
            "The target is incomplete",
            f"No target score for {', '.join(missing)}; the loss is the mean over the other "
            f"{len(DIMENSIONS) - len(missing)} dimensions.",
        )
    failed, total = int(metrics.get("failed") or 0), int(metrics.get("evaluations") or 0)
    if failed:
        part = f" ({failed / total:.1%})" if total else ""
        yield Caution(
            "Some evaluations failed", f"{failed} of {total}{part} gave no finite loss and were never selected."
        )
    survey = config.get("survey")
    if isinstance(survey, Mapping) and survey.get("counterbalanced") is False:
        yield Caution(
            "The search was not counterbalanced",
            "It saw one option order and one label set only, and could gain by moving labels or positions.",
        )
