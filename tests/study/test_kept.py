"""What a sweep's jobs keep for each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.study.arms import SurveyPanel
from evoprompt.study.kept import Given, KeptAnswers
from evoprompt.surveys import sample_respondents, vsm13


@pytest.fixture
def panel(pocket: FrozenModel, tmp_path: Path) -> SurveyPanel:
    return SurveyPanel(Respondent(pocket), vsm13(), sample_respondents(1, 0), KeptAnswers(tmp_path / "answers"))


def never() -> Given:
    raise AssertionError("asked though the answers are kept")


def test_what_was_asked_is_not_asked_again(panel: SurveyPanel) -> None:
    plan, kept = panel.plan("held_out"), panel.kept
    assert kept is not None
    first = panel.probabilities("held_out", "You live in Kenya.")
    shares, mass = kept.get(panel.respondent, plan, "You live in Kenya.", never)
    assert (shares == first).all()
    bare = SurveyPanel(panel.respondent, panel.instrument, panel.people)
    assert (bare.probabilities("held_out", "You live in Kenya.") == first).all()
    assert mass.shape == (len(plan.questions),)
    for split, preface in (("held_out", "You live in Peru."), ("searched", "You live in Kenya.")):
        with pytest.raises(AssertionError, match="asked"):
            kept.get(panel.respondent, panel.plan(split), preface, never)


def test_another_precision_or_placement_is_asked(panel: SurveyPanel) -> None:
    plan, kept = panel.plan("held_out"), panel.kept
    assert kept is not None
    panel.probabilities("held_out")
    half = load_model(ModelSpec(device="cpu", dtype="bfloat16"))
    for other in (Respondent(half), Respondent(panel.respondent.frozen, "suffix")):
        with pytest.raises(AssertionError, match="asked"):
            kept.get(other, plan, "", never)


def test_a_damaged_file_is_asked_again(panel: SurveyPanel) -> None:
    kept = panel.kept
    assert kept is not None
    first = panel.probabilities("held_out")
    (file,) = kept.folder.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert (panel.probabilities("held_out") == first).all()
    assert (kept.get(panel.respondent, panel.plan("held_out"), "", never)[0] == first).all()


def test_a_soft_prompt_is_always_asked(panel: SurveyPanel, pocket: FrozenModel) -> None:
    assert panel.kept is not None
    prompt = pocket.embed("good work")
    assert np.isfinite(panel.probabilities("held_out", prompt=prompt)).all()
    assert not panel.kept.folder.exists()
