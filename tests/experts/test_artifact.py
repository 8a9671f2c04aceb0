"""The expert artifact: what PEFT makes of it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from evoprompt.errors import UserError
from evoprompt.experts import read_expert, write_expert
from evoprompt.llm import PLACEMENTS, FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.surveys import balanced_plan, vsm13

CULTURE = {"culture": {"key": "arab", "name": "Arab countries", "edition": "2015-12", "targets": {"pdi": 80}}}


@pytest.fixture
def prompt(pocket: FrozenModel) -> torch.Tensor:
    mean, spread = pocket.embedding_statistics
    return mean + 3 * spread * torch.randn(5, pocket.hidden, generator=torch.Generator().manual_seed(3))


def test_peft_gives_the_same_option_logits_as_our_scoring(
    pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path
) -> None:
    write_expert(tmp_path, prompt, pocket, CULTURE)
    plan = balanced_plan(vsm13())
    respondent = Respondent(pocket)
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    ours = np.log(respondent.answer(prompt[None], sheet)[0])
    tuned = PeftModel.from_pretrained(load_model(ModelSpec(device="cpu")).model, tmp_path).eval()
    for index in range(0, 96, 5):
        question, text = plan.questions[index], plan.texts()[index]
        with torch.inference_mode():
            logits = tuned(input_ids=pocket.tokenizer(text, return_tensors="pt").input_ids).logits[0, -1]
        labels = [pocket.tokenizer(f" {label}").input_ids[0] for label in question.labels]
        theirs = torch.log_softmax(logits[labels], dim=-1).numpy()
        np.testing.assert_allclose(ours[index], theirs, atol=1e-4)
    bare = respondent.answer(torch.zeros(1, 0, pocket.hidden), sheet)[0]
    assert np.abs(np.exp(ours) - bare).max() > 0.01, "the prompt must matter for this to be a test"


def test_an_expert_is_read_as_it_was_written(pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path) -> None:
    write_expert(tmp_path, prompt, pocket, CULTURE)
    expert = read_expert(tmp_path)
    assert torch.equal(expert.prompt, prompt)
    assert expert.culture == "arab"
    expert.check_base(pocket)


def test_the_card_of_an_expert_that_peft_serves_elsewhere_says_so(
    pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path
) -> None:
    for placement in PLACEMENTS:
        folder = tmp_path / placement
        write_expert(folder, prompt, pocket, CULTURE, placement)
        assert read_expert(folder).placement == placement
        card = (folder / "README.md").read_text()
        assert f"({placement} placement)" in card
        assert ("PEFT loads this folder, but its forward always puts a prompt before everything" in card) == (
            placement != "prefix"
        )
        assert ("Respondent(base_model, expert.placement)" in card) == (placement != "prefix")
        PeftModel.from_pretrained(load_model(ModelSpec(device="cpu")).model, folder)


def test_another_base_model_is_refused_with_both_names(
    pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path
) -> None:
    write_expert(tmp_path / "expert", prompt, pocket, CULTURE)
    other = load_model(ModelSpec(device="cpu"))
    other.model.get_input_embeddings().weight.data += 0.1
    other.model.save_pretrained(tmp_path / "other")
    pocket.tokenizer.save_pretrained(tmp_path / "other")
    base = load_model(ModelSpec(name=str(tmp_path / "other"), device="cpu"))
    with pytest.raises(UserError, match=r"evolved on 'pocket'.*not on '.*other'"):
        read_expert(tmp_path / "expert").check_base(base)


def test_a_damaged_or_incomplete_folder_is_refused(pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path) -> None:
    write_expert(tmp_path, prompt, pocket, CULTURE)
    provenance = tmp_path / "expert.json"
    good = provenance.read_text()
    provenance.write_text(good.replace(json.loads(good)["prompt_sha256"], "0" * 64))
    with pytest.raises(UserError, match="is not the prompt"):
        read_expert(tmp_path)
    provenance.write_text(good)
    weights = (tmp_path / "adapter_model.safetensors").read_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match="not a complete expert folder"):
        read_expert(tmp_path)


def test_shapes_that_do_not_fit_the_config_are_refused(
    pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path
) -> None:
    write_expert(tmp_path, prompt, pocket, CULTURE)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace('"num_virtual_tokens": 5', '"num_virtual_tokens": 6'))
    with pytest.raises(UserError, match=r"holds \(5, \d+\).*config says \(6, "):
        read_expert(tmp_path)
