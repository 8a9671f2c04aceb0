"""A blend of experts, with its survey scores measured: a culture between others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from evoprompt.errors import UserError
from evoprompt.experts import Expert, blend, write_expert
from evoprompt.files import as_json
from evoprompt.llm import FrozenModel
from evoprompt.objectives import make_respondent
from evoprompt.study.arms import Measurements, SurveyPanel, exported
from evoprompt.study.run_info import versions
from evoprompt.study.settings import SEARCH_RESPONDENTS, SurveySettings, sample_people
from evoprompt.surveys import DIMENSIONS, Culture, load_instrument, vsm13


def measure_blend(
    frozen: FrozenModel, experts: Sequence[Expert], weights: Sequence[float], folder: Path, wordings: str | None = None
) -> tuple[Measurements, dict[str, float]]:
    """Blend experts of one base model as `blend` does, ask the blend the survey they were evolved on, and write it.

    The new expert goes to `folder`, which must not exist. `wordings` is the file of the instrument's wordings where it
    is not the bundled one.

    Returns
    -------
    Measurements, dict
        Of the arms naive, each expert by its culture, and evolved, which is the blend; and where this would be, held
        out, if scores were as linear as prompts: the experts' measured scores, averaged, by dimension.

    Raises
    ------
    UserError
        They cannot be blended, were evolved on other wordings or by free text, or the folder exists.
    """
    if folder.exists():
        raise UserError(f"{folder} exists; give a folder that does not")
    prompt = blend(experts, weights)
    instrument = load_instrument(wordings) if wordings else vsm13()
    for expert in experts:
        expert.check_base(frozen)
        if expert.provenance["instrument"]["sha256"] != instrument.sha256:
            raise UserError(f"expert {expert.culture!r} was evolved on other wordings; give their file")
        if expert.provenance["respondent"]["kind"] != "options":
            raise UserError(f"expert {expert.culture!r} was evolved in free text, whose answers are not measured here")
    share = np.array(weights) / np.sum(weights)
    culture = _culture(experts, share)
    constant = share @ np.array([expert.provenance["constant"]["values"] for expert in experts])
    people = sample_people(SurveySettings())[SEARCH_RESPONDENTS:]
    panel = SurveyPanel(make_respondent(frozen, experts[0].placement), instrument, people)
    measured = Measurements(panel, culture, constant)
    measured.measure("naive")
    for expert in experts:
        measured.measure(expert.culture, prompt=expert.prompt)
    measured.measure("evolved", prompt=prompt)
    scores = [measured.arms[expert.culture]["held_out"]["dimensions"] for expert in experts]
    provenance = {
        "culture": asdict(culture),
        "instrument": {"name": instrument.name, "sha256": instrument.sha256},
        "constant": {"values": constant.tolist(), "treatment": "blended", "anchors": []},
        "respondent": {"kind": "options"},
        "blended_from": [
            {"culture": expert.culture, "prompt_sha256": expert.provenance["prompt_sha256"], "weight": float(weight)}
            for expert, weight in zip(experts, share, strict=True)
        ],
        "arms": exported(measured.arms),
        "versions": versions(),
    }
    write_expert(folder, prompt, frozen, as_json(provenance), experts[0].placement)
    linear = {d: float(sum(w * s[d] for w, s in zip(share, scores, strict=True))) for d in DIMENSIONS}
    return measured, linear


def _culture(experts: Sequence[Expert], share: np.ndarray) -> Culture:
    """The culture that the weighted mean of the targets stands for, on the dimensions that all have."""
    targets = [expert.provenance["culture"]["targets"] for expert in experts]
    common = [d for d in DIMENSIONS if all(d in found for found in targets)]
    mixed = {d: float(sum(w * found[d] for w, found in zip(share, targets, strict=True))) for d in common}
    names = [expert.provenance["culture"]["name"] for expert in experts]
    shown = ", ".join(f"{weight:.0%} {name}" for weight, name in zip(share, names, strict=True))
    key = "-".join(expert.culture for expert in experts)
    return Culture(key, f"a blend of {shown}", f"a place between {' and '.join(names)}", mixed, "blended")
