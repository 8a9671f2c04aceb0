"""The expert artifact: what PEFT makes of it, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from evoprompt.errors import UserError
from evoprompt.experts import read_expert, served_by_peft, write_expert
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


def code_of(card: str) -> list[str]:
    """The Python code of a model card."""
    return re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)


def test_the_card_of_an_expert_that_peft_serves_elsewhere_begins_with_that(
    pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path
) -> None:
    for placement in PLACEMENTS:
        folder = tmp_path / placement
        write_expert(folder, prompt, pocket, CULTURE, placement)
        expert = read_expert(folder)
        assert expert.placement == placement
        assert expert.served_by_peft == (placement != "suffix"), "nothing stands before a system prompt of this model"
        first = (folder / "README.md").read_text().split("# Soft prompt for Arab countries\n\n")[1].splitlines()[0]
        assert ("PEFT serves this prompt as a prefix" in first) == (placement == "suffix")
    card = (tmp_path / "system" / "README.md").read_text()
    assert "before everything else in the context: this model has neither a chat template" in card
    assert "(system placement)" in card


def test_a_chat_template_or_a_beginning_token_stands_before_a_system_prompt(pocket: FrozenModel) -> None:
    chatting = load_model(ModelSpec(device="cpu"))
    chatting.tokenizer.chat_template = "{% for turn in messages %}[{{ turn.role }}]\n{{ turn.content }}\n{% endfor %}"
    assert [served_by_peft(pocket, placement) for placement in PLACEMENTS] == [True, True, False]
    assert [served_by_peft(chatting, placement) for placement in PLACEMENTS] == [True, False, False]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("local", [False, True])
def test_the_code_of_the_card_runs_in_its_folder(
    placement: str, local: bool, pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path, monkeypatch: Any
) -> None:
    frozen = pocket
    if local:
        pocket.model.save_pretrained(tmp_path / "model")
        pocket.tokenizer.save_pretrained(tmp_path / "model")
        frozen = load_model(ModelSpec(name=str(tmp_path / "model"), device="cpu"))
    write_expert(tmp_path / "expert", prompt, frozen, CULTURE, placement)
    monkeypatch.chdir(tmp_path / "expert")
    asking, *peft = code_of(Path("README.md").read_text(encoding="utf-8"))
    said: dict[str, Any] = {}
    exec(asking, said)
    assert said["probabilities"].shape == (1, 2)
    respondent = Respondent(frozen, placement)
    expected = respondent.answer(prompt[None], respondent.sheet(said["questions"], said["labels"]))[0]
    np.testing.assert_allclose(said["probabilities"], expected, atol=1e-5)
    assert len(peft) == (placement != "suffix")
    for code in peft:
        loaded: dict[str, Any] = {}
        exec(code, loaded)
        text = pocket.tokenizer(said["questions"], return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = loaded["model"](input_ids=text).logits[0, -1]
        labels = [pocket.tokenizer(f" {label}").input_ids[0] for label in said["labels"][0]]
        np.testing.assert_allclose(torch.softmax(logits[labels], -1).numpy(), expected[0], atol=1e-4)


def test_the_card_says_where_the_losses_stand_for_little(
    pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path
) -> None:
    arms = {"evolved": {split: {"loss": None, "label_mass": 0.004} for split in ("searched", "held_out")}}
    write_expert(tmp_path, prompt, pocket, {**CULTURE, "arms": arms})
    card = (tmp_path / "README.md").read_text()
    assert "Under this prompt the model puts under 1% of its words on the labels" in card
    assert "| evolved | - | - |" in card


def test_a_number_that_json_cannot_hold_is_refused_before_anything_is_written(
    pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_expert(tmp_path / "expert", prompt, pocket, {**CULTURE, "loss": float("nan")})
    assert not (tmp_path / "expert").exists()


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


def test_an_expert_whose_fingerprint_is_of_another_kind_is_read_and_its_base_not_compared(
    pocket: FrozenModel, prompt: torch.Tensor, tmp_path: Path
) -> None:
    write_expert(tmp_path, prompt, pocket, CULTURE)
    provenance = tmp_path / "expert.json"
    provenance.write_text(provenance.read_text().replace('"schema_version": 2', '"schema_version": 1'))
    expert = read_expert(tmp_path)
    assert torch.equal(expert.prompt, prompt)
    with pytest.raises(UserError, match=r"schema version 1, whose fingerprint of 'pocket' cannot be compared"):
        expert.check_base(pocket)


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
