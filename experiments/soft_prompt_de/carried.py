"""What the main runs' prompts do to questions that no search has seen: a second questionnaire, and general ability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

import numpy as np
import pandas as pd

from evoprompt.experts import read_expert
from evoprompt.llm import ModelSpec, Respondent, load_model
from evoprompt.surveys import DIMENSIONS, get_culture
from evoprompt.typing import Doubles
from experiments.soft_prompt_de.results import Finished, by_culture
from experiments.soft_prompt_de.transfer import Arm, ability, agreement, choices, indices, second_questionnaire
from experiments.statistics import adjusted, paired


def respondent_of(run: Finished) -> Respondent:
    """The frozen model of a run, asked as the run asked it."""
    known = {field.name for field in fields(ModelSpec)}
    spec = {key: value for key, value in run.info.model.items() if key in known}
    return Respondent(load_model(ModelSpec(**spec)), str(run.info.placement))


def transfer(main: Sequence[Finished]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ask under no prompt, the persona line and every evolved prompt.

    Returns
    -------
    carried
        A row for each arm: does the second questionnaire move the way the targets ask, over regions and dimensions.
    able
        A row for each region and arm: accuracy on the ability questions, and its paired difference to no prompt; the
        evolved arm is the mean over seeds.
    """
    respondent = respondent_of(main[0])
    wanted: list[Doubles] = []
    moved: dict[str, list[Doubles]] = {"persona": [], "evolved": []}
    able: list[dict[str, object]] = []
    for culture, runs in by_culture(main).items():
        arms: dict[str, Arm] = {"naive": "", "persona": get_culture(culture).persona()}
        arms |= {f"evolved {run.seed}": read_expert(run.folder / "expert").prompt for run in runs}
        scores = indices(second_questionnaire(respondent, arms))
        naive = runs[0].metrics["arms"]["naive"]["held_out"]["dimensions"]
        wanted.append(runs[0].target - np.array([naive[name] for name in DIMENSIONS]))
        evolved = scores.loc[[arm for arm in arms if arm.startswith("evolved")]].to_numpy().mean(axis=0)
        bare = scores.loc["naive"].to_numpy()
        moved["persona"].append(scores.loc["persona"].to_numpy() - bare)
        moved["evolved"].append(evolved - bare)
        able += _ability(respondent, culture, arms)
    carried = pd.DataFrame(
        [
            {"arm": arm, **asdict(agreement(np.stack(wanted), np.stack(found))), "moved": np.abs(found).mean()}
            for arm, found in moved.items()
        ]
    )
    frame = pd.DataFrame(able)
    known = frame["p"].notna()
    frame.loc[known, "p_adjusted"] = adjusted(frame.loc[known, "p"].tolist())
    return carried, frame


def _ability(respondent: Respondent, culture: str, arms: dict[str, Arm]) -> list[dict[str, object]]:
    """Accuracy of each arm, question by question."""
    asked = choices(respondent, arms, ability())
    right = asked.pivot(index="question", columns="arm", values="correct").astype(float).dropna()
    seeds = [arm for arm in arms if arm.startswith("evolved")]
    found = {"naive": right["naive"], "persona": right["persona"], "evolved": right[seeds].mean(axis=1)}
    rows = []
    for arm, values in found.items():
        row = {"culture": culture, "arm": arm, "questions": len(values), "accuracy": float(values.mean())}
        if arm != "naive":
            against = paired(values.to_numpy(), found["naive"].to_numpy())
            row |= {"minus naive": against.difference, "low": against.low, "high": against.high, "p": against.p}
        rows.append(row)
    return rows
