"""The arms of a study: the same questions under no, a persona, an in-context or an evolved prompt."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.stats import bootstrap

from evoprompt.files import replacing
from evoprompt.llm import FrozenModel, SampledRespondent, Sheet
from evoprompt.objectives import AnyRespondent, all_or_none, answers, make_questions
from evoprompt.study.run_info import versions
from evoprompt.surveys import Culture, Instrument, Plan, full_plan, l1_loss, raw_scores
from evoprompt.surveys.instrument import SPLITS
from evoprompt.surveys.questions import COMBINATIONS, ask
from evoprompt.surveys.vsm13 import DIMENSIONS, WEIGHTS
from evoprompt.typing import Doubles, Floats, Indices

RESAMPLES = 2000
EXPORTED = ("loss", "interval", "dimensions", "label_mass", "invalid_rate")  # what an expert tells of an arm
QUOTED = 200  # free-text answers of each arm and split that are kept word for word
ANSWERS = [f"answer_{value}" for value in range(1, 6)]

Given = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Option shares (Q, options) and the probability of answering with any label (Q,)."""


@dataclass(frozen=True)
class AnswerCache:
    """A folder of answers: the baselines and anchors of a sweep's jobs are mostly the same, and asked once.

    Answers are found by model, precision, device, package versions and the tokens of every question; a file that is
    damaged counts as none. Jobs on many machines may use the folder at once.
    """

    folder: Path

    def get(self, frozen: FrozenModel, sheet: Sheet, ask: Callable[[], Given]) -> Given:
        """The answers that are kept, or else those of `ask`, kept from now on."""
        asked = [
            [frozen.fingerprint, frozen.placed, frozen.spec.quantization, frozen.spec.attention],
            sorted(versions().items()),
            [sheet.before, sheet.after, sheet.options],
        ]
        path = self.folder / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]}.safetensors"
        try:
            found = load_file(path)
            return found["shares"], found["mass"]
        except (OSError, SafetensorError, KeyError):
            shares, mass = ask()
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file({"shares": np.ascontiguousarray(shares), "mass": np.ascontiguousarray(mass)}, partial)
        return shares, mass


@dataclass(frozen=True, eq=False)
class SurveyPanel:
    """The full plan of either split, asked under any arm; what was asked under a text before comes from `cache`."""

    respondent: AnyRespondent
    instrument: Instrument
    people: Sequence[str]
    cache: AnswerCache | None = None

    def plan(self, split: str) -> Plan:
        """Every wording of the split, counterbalanced, every respondent."""
        return full_plan(self.instrument, split, self.people)

    def answer(self, sheet: Sheet, prompt: torch.Tensor | None) -> Given:
        """Answers to a sheet under a soft prompt (tokens, hidden), if any; in free text the label mass is NaN."""
        respondent = self.respondent
        soft = torch.zeros(1, 0, respondent.frozen.hidden) if prompt is None else prompt[None]
        if isinstance(respondent, SampledRespondent):
            (shares,) = answers(respondent, soft, sheet)
            return shares, np.full(len(shares), np.nan, np.float32)

        def ask() -> Given:
            shares, mass = respondent.answer_with_mass(soft, sheet)
            return all_or_none(shares)[0], mass[0]

        return self.cache.get(respondent.frozen, sheet, ask) if self.cache and prompt is None else ask()

    def probabilities(self, split: str, preface: str = "", prompt: torch.Tensor | None = None) -> NDArray[np.float32]:
        """Answer distributions (Q, 5) under a textual preface or a soft prompt (tokens, hidden)."""
        return self.answer(make_questions(self.respondent, self.plan(split), preface), prompt)[0]

    def raw(self, preface: str) -> Doubles:
        """Raw scores (6,) on the searched wordings."""
        return raw_scores(self.plan("searched").item_means(self.probabilities("searched", preface)))


@dataclass(eq=False)
class Measurements:
    """What the arms of a study answered, arm after arm.

    `arms` holds what metrics.json shows of each arm and split; `people` a table of each respondent's answer
    distributions; `quotes` free-text answers word for word, where answers are free text.
    """

    panel: SurveyPanel
    culture: Culture
    constant: Doubles
    splits: Sequence[str] = SPLITS
    arms: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    people: list[pd.DataFrame] = field(default_factory=list, init=False)
    quotes: list[dict[str, Any]] = field(default_factory=list, init=False)

    def measure(self, arm: str, preface: str = "", prompt: torch.Tensor | None = None) -> dict[str, Any]:
        """Ask every split's full plan under one arm; its loss, interval, dimensions and answers by split."""
        respondent = self.panel.respondent
        found: dict[str, dict[str, Any]] = {}
        for split in self.splits:
            plan = self.panel.plan(split)
            sheet = make_questions(respondent, plan, preface)
            shares, mass = self.panel.answer(sheet, prompt)
            found[split] = summarise(plan, shares, self.culture.target, self.constant)
            if isinstance(respondent, SampledRespondent):
                invalid = respondent.invalid_shares[0]
                by_form = {form: float(invalid[places].mean()) for form, places in plan.forms.items()}
                found[split] |= {"invalid_rate": float(respondent.invalid_rates[0]), "invalid_by_form": by_form}
                self.quotes += [{"arm": arm, "split": split, **quote} for quote in quotes(respondent, plan, sheet)]
            else:
                found[split]["label_mass"] = float(mass.mean())
            self.people.append(people_table(arm, split, plan, shares))
        self.arms[arm] = found
        return found

    def save(self, people: Path, transcript: Path) -> None:
        """Write each respondent's answer distributions, and the quotes where there are any, a JSON object a line."""
        pd.concat(self.people, ignore_index=True).to_parquet(people, index=False)
        if self.quotes:
            lines = [json.dumps(quote, ensure_ascii=False) + "\n" for quote in self.quotes]
            transcript.write_text("".join(lines), encoding="utf-8")


def people_table(arm: str, split: str, plan: Plan, probabilities: Floats) -> pd.DataFrame:
    """Answer distributions by respondent and item, a row each; NaN where a respondent gave no valid answer."""
    shares = plan.respondent_answers(probabilities)
    items, people = np.tile(np.arange(1, 25), len(shares)), np.repeat(plan.respondents, 24)
    asked = {"arm": arm, "split": split, "respondent": people, "item": items}
    return pd.DataFrame(asked | dict(zip(ANSWERS, shares.reshape(-1, 5).T, strict=True)))


def quotes(respondent: SampledRespondent, plan: Plan, sheet: Sheet) -> list[dict[str, Any]]:
    """Some of what was said in the last call, spread over its questions: prompt, words, answer 1..5 or None."""
    said = respondent.transcript
    chosen = [said[i] for i in np.linspace(0, len(said) - 1, min(QUOTED, len(said)), dtype=int)]
    found = []
    for one in chosen:
        question = plan.questions[one.question]
        answer = None if one.option is None else question.values[one.option]
        found.append(
            {"item": question.item + 1, "prompt": sheet.texts[one.question], "said": one.text, "answer": answer}
        )
    return found


def summarise(plan: Plan, probabilities: Floats, target: Doubles, constant: Doubles) -> dict[str, Any]:
    """One arm on one split, from the answers to its plan (Q, 5), and target and constant (6,).

    A question that got no valid answer is NaN; scores are those of `Plan.respondent_means`.

    Returns
    -------
    dict
        `loss`; `interval` and `dimension_intervals` (95 %, percentile bootstrap over respondents); `dimensions`;
        `answers`, the mean of the valid answers' distributions of each item, shape (24, 5); `label_shares`;
        `form_inconsistency`, see `Plan.inconsistency`. NaN where an item got no valid answer at all.
    """
    answered = plan.respondent_answers(probabilities)  # (respondents, 24, 5)
    by_person = plan.respondent_means(probabilities)

    def statistic(people: Indices, axis: int = -1) -> Doubles:
        """Loss and dimensions (7, ...) of resampled respondents (..., people); scipy passes the last axis."""
        scores = raw_scores(np.nanmean(by_person[people], axis=-2)) + constant
        return np.concatenate([l1_loss(scores, target)[None], np.moveaxis(scores, -1, 0)])

    everybody = np.arange(len(by_person))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice|All-NaN slice", RuntimeWarning)
        loss, *scores = statistic(everybody).tolist()
        resampled = bootstrap(
            (everybody,),
            statistic,
            n_resamples=RESAMPLES,
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(0),
        ).bootstrap_distribution
        intervals = np.nanpercentile(resampled, [2.5, 97.5], axis=-1).T.tolist()
        mean_answers = np.nanmean(answered, axis=0)
    return {
        "loss": loss,
        "interval": intervals[0],
        "dimensions": dict(zip(DIMENSIONS, scores, strict=True)),
        "dimension_intervals": dict(zip(DIMENSIONS, intervals[1:], strict=True)),
        "answers": mean_answers.tolist(),
        "label_shares": label_shares(plan, probabilities),
        "form_inconsistency": float(plan.inconsistency(probabilities)),
    }


def exported(arms: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """What an expert tells of the measured arms, by arm and split."""
    return {
        arm: {split: {key: found[key] for key in EXPORTED if key in found} for split, found in splits.items()}
        for arm, splits in arms.items()
    }


def label_shares(plan: Plan, probabilities: Floats) -> dict[str, float]:
    """Mean probability of every label: what a prompt that pushes labels would move."""
    shares: dict[str, list[float]] = {}
    for question, shown in zip(plan.questions, probabilities, strict=True):
        for label, share in zip(question.labels, shown, strict=True):
            shares.setdefault(label, []).append(float(share))
    known = {label: [share for share in found if np.isfinite(share)] for label, found in shares.items()}
    return {label: float(np.mean(found)) if found else float("nan") for label, found in known.items()}


def icl_preface(culture: Culture, instrument: Instrument, means: Doubles, constant: Doubles, count: int) -> str:
    """Persona line and `count` solved questions, answered the way the culture's scores imply.

    Item means that score like the target and are nearest to the frozen model's own `means` (24,) are found by least
    squares; the items that they move most become the examples, in searched wordings, each answered by the option next
    to the model's own mean on the side that the culture lies.
    """
    if not np.isfinite(means).all():
        return culture.persona()
    known = np.isfinite(culture.target)
    gap = (culture.target - constant - raw_scores(means))[known]
    implied = np.clip(means + np.linalg.pinv(WEIGHTS[known]) @ gap, 1.0, 5.0)
    chosen = np.argsort(-np.abs(implied - means), kind="stable")[:count]
    lines = [culture.persona()]
    for turn, index in enumerate(chosen):
        item = instrument.items[index]
        order, labels = COMBINATIONS[turn % len(COMBINATIONS)]
        question = ask(instrument, int(index), item.searched[turn % len(item.searched)], order, labels)
        towards = np.floor(implied[index]) if implied[index] < means[index] else np.ceil(implied[index])
        answer = labels[question.values.index(int(towards))]
        lines.append(f"{question.text()} {answer}")
    return "\n".join(lines)
