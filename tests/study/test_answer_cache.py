"""What a sweep's jobs keep for each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.objectives import make_questions
from evoprompt.study.arms import AnswerCache, Given, SurveyPanel
from evoprompt.surveys import sample_respondents, vsm13


@pytest.fixture
def panel(pocket: FrozenModel, tmp_path: Path) -> SurveyPanel:
    return SurveyPanel(Respondent(pocket), vsm13(), sample_respondents(1, 0), AnswerCache(tmp_path / "answers"))


def cached_for(panel: SurveyPanel, split: str, preface: str = "", respondent: Respondent | None = None) -> Given:
    """The answers in the cache; an error where there are none."""

    def never() -> Given:
        raise AssertionError("asked though the answers should be in the cache")

    asked = respondent or panel.respondent
    assert panel.cache is not None
    return panel.cache.get(asked.frozen, make_questions(asked, panel.plan(split), preface), never)


def test_what_was_asked_is_not_asked_again(panel: SurveyPanel) -> None:
    first = panel.probabilities("held_out", "You live in Kenya.")
    shares, mass = cached_for(panel, "held_out", "You live in Kenya.")
    assert (shares == first).all()
    bare = SurveyPanel(panel.respondent, panel.instrument, panel.people)
    assert (bare.probabilities("held_out", "You live in Kenya.") == first).all()
    assert mass.shape == (len(panel.plan("held_out").questions),)
    for split, preface in (("held_out", "You live in Peru."), ("searched", "You live in Kenya.")):
        with pytest.raises(AssertionError, match="asked though"):
            cached_for(panel, split, preface)
    assert [file.suffix for file in panel.cache.folder.iterdir()] == [".safetensors"]


def test_another_precision_or_chat_template_is_asked(panel: SurveyPanel) -> None:
    panel.probabilities("held_out")
    half = load_model(ModelSpec(device="cpu", dtype="bfloat16"))
    templated = load_model(ModelSpec(device="cpu"))
    templated.tokenizer.chat_template = "{% for message in messages %}User: {{ message['content'] }}{% endfor %}"
    for other in (half, templated):
        with pytest.raises(AssertionError, match="asked though"):
            cached_for(panel, "held_out", respondent=Respondent(other))
    cached_for(panel, "held_out", respondent=Respondent(load_model(ModelSpec(device="cpu"))))


def test_a_damaged_file_is_asked_again(panel: SurveyPanel) -> None:
    first = panel.probabilities("held_out")
    (file,) = panel.cache.folder.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(AssertionError, match="asked though"):
        cached_for(panel, "held_out")
    assert (panel.probabilities("held_out") == first).all()
    assert (cached_for(panel, "held_out")[0] == first).all()


def test_a_soft_prompt_is_always_asked(panel: SurveyPanel, pocket: FrozenModel) -> None:
    prompt = pocket.embed("good work")
    assert np.isfinite(panel.probabilities("held_out", prompt=prompt)).all()
    assert not panel.cache.folder.exists()
