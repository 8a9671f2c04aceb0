"""Measure the pocket model against the simulator: `python -m experiments.pocket_model.card` writes CARD.md."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model, neutral_texts, prompt_cost
from evoprompt.surveys import (
    Culture,
    Plan,
    anchored_constant,
    choose_anchors,
    full_plan,
    get_culture,
    l1_loss,
    raw_scores,
    vsm13,
)
from evoprompt.surveys.instrument import Instrument, Item
from evoprompt.typing import Doubles
from experiments.pocket_model.simulator import HELD_OUT_CULTURES, Simulator
from experiments.pocket_model.traits import TRAITS, trait_level

ANCHORS = ("germany", "japan", "brazil", "sweden", "turkey", "indonesia")


class Measured:
    """Item means of the model under a preface, by kind of wording."""

    def __init__(self, frozen: FrozenModel) -> None:
        self.frozen, self.respondent = frozen, Respondent(frozen)
        wordings = yaml.safe_load((Path(__file__).parent / "unseen_wordings.yaml").read_text(encoding="utf-8"))
        unseen = [Item(i.number, i.scale, i.searched, (wordings[i.number],)) for i in vsm13().items]
        self.plans: dict[str, Plan] = {
            "searched": full_plan(vsm13(), "searched"),
            "held out": full_plan(vsm13(), "held_out"),
            "in no training text": full_plan(_with(unseen), "held_out"),
        }

    def means(self, preface: str, kind: str = "searched") -> Doubles:
        """Item means (24,)."""
        plan = self.plans[kind]
        sheet = self.respondent.sheet(plan.texts(preface), [question.labels for question in plan.questions])
        return plan.item_means(self.respondent.answer(torch.zeros(1, 0, self.frozen.hidden), sheet))[0]


def _with(items: list[Item]) -> Instrument:
    return Instrument("part", vsm13().scales, tuple(items), "")


def by_culture(measured: Measured, simulator: Simulator) -> pd.DataFrame:
    """A row per culture: losses of the naive answer, the persona line and the trait line; item agreement."""
    known = {culture.key: culture for culture in simulator.known}
    means = {key: measured.means(culture.persona()) for key, culture in known.items()}
    naive = measured.means("")
    rows = []
    for key, culture in known.items():
        anchors = choose_anchors([get_culture(anchor) for anchor in ANCHORS], culture)
        raw = np.stack([raw_scores(means[anchor.key]) for anchor in anchors])
        constant = anchored_constant(anchors, raw).array
        truth = simulator.item_means(culture.target)
        rows.append(
            {
                "culture": key,
                "named in training": key not in HELD_OUT_CULTURES,
                "naive loss": _loss(naive, constant, culture),
                "persona loss": _loss(means[key], constant, culture),
                "trait line loss": _loss(measured.means(trait_line(culture)), constant, culture),
                "persona item error": float(np.abs(means[key] - truth).mean()),
                "persona item r": float(np.corrcoef(means[key] - naive, truth - naive)[0, 1]),
            }
        )
    return pd.DataFrame(rows)


def trait_line(culture: Culture) -> str:
    """The culture's nearest trait phrases, unnamed."""
    phrases = [TRAITS[name][trait_level(score)] for name, score in culture.targets.items()]
    return f"Where you live, {', '.join(phrases)}."


def _loss(means: Doubles, constant: Doubles, culture: Culture) -> float:
    return float(l1_loss(raw_scores(means) + constant, culture.target))


def by_wording(measured: Measured, simulator: Simulator) -> pd.DataFrame:
    """Item error and spread of scores between kinds of wording, over a few cultures' persona lines."""
    chosen = [culture for culture in simulator.trained if culture.key in ANCHORS]
    reference = {culture.key: raw_scores(measured.means(culture.persona())) for culture in chosen}
    rows = []
    for kind in measured.plans:
        found = {culture.key: measured.means(culture.persona(), kind) for culture in chosen}
        errors = [np.abs(found[c.key] - simulator.item_means(c.target)).mean() for c in chosen]
        shifts = [np.abs(raw_scores(found[c.key]) - reference[c.key]).mean() for c in chosen]
        rows.append({"wordings": kind, "item error": np.mean(errors), "score shift": np.mean(shifts)})
    return pd.DataFrame(rows)


def card(frozen: FrozenModel) -> str:
    """The card's text."""
    simulator, measured = Simulator(), Measured(frozen)
    cultures = by_culture(measured, simulator)
    groups = cultures.groupby("named in training").mean(numeric_only=True).reset_index()
    shown = cultures[cultures["culture"].isin([*HELD_OUT_CULTURES, "usa", "china", "japan", "germany", "brazil"])]
    perplexity = prompt_cost(frozen, torch.zeros(0, frozen.hidden)).perplexity
    naive_truth = simulator.mixture @ np.array([simulator.item_means(c.target) for c in simulator.trained])
    naive_error = float(np.abs(measured.means("") - naive_truth).mean())
    parameters = sum(parameter.numel() for parameter in frozen.model.parameters())
    return "\n\n".join(
        [
            "# The pocket model",
            "A simulator with a known truth, for first runs, tests and method checks. It was trained on text that "
            "`experiments/pocket_model/` generates and is never evidence about people.",
            f"- Llama architecture, {parameters / 1e6:.2f} M parameters, {len(frozen.tokenizer)} tokens\n"
            f"- Perplexity on the bundled neutral text ({len(neutral_texts())} paragraphs of the corpus's kind, "
            f"another seed): {perplexity:.2f}\n"
            f"- Naive answers against the simulator's mixture: mean item error {naive_error:.3f} answer steps\n"
            f"- Never in a persona line of the training text: {', '.join(HELD_OUT_CULTURES)}",
            "Losses are mean absolute distances to the published scores over the six dimensions, in points, on the "
            "searched wordings with C anchored. Item error is in answer steps (1..5); r is the correlation over items "
            "between what the persona line changed and what the simulator says it should change.",
            "## By whether the persona line was trained",
            _table(groups),
            "## Some cultures",
            _table(shown),
            "## By kind of wording (persona lines of the anchor cultures)",
            "The score shift is the mean absolute difference of raw scores from those on the searched wordings.",
            _table(by_wording(measured, simulator)),
            "## How near the naive answers are to each culture",
            _table(cultures[["culture", "naive loss", "persona loss"]].sort_values("naive loss")),
            "Made by `python -m experiments.pocket_model.train` and `python -m experiments.pocket_model.card`.",
            "",
        ]
    )


def _table(frame: pd.DataFrame) -> str:
    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    head = "| " + " | ".join(frame.columns) + " |\n|" + "---|" * len(frame.columns)
    return "\n".join([head, *("| " + " | ".join(map(cell, row)) + " |" for row in frame.itertuples(index=False))])


def main() -> None:
    """Write the card beside the recipe and into the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "CARD.md")
    args = parser.parse_args()
    args.out.write_text(card(load_model(ModelSpec(name=args.model))), encoding="utf-8")


if __name__ == "__main__":
    main()
