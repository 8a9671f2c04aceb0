"""Loading: what is refused, and what identifies a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, LlamaModel

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, load_model, neutral_texts, prompt_cost

TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}


def test_the_pocket_model_loads_in_float32_and_takes_no_gradient(pocket: FrozenModel) -> None:
    assert pocket.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in pocket.model.parameters())


def test_one_checkpoint_has_one_fingerprint_whatever_the_dtype(pocket: FrozenModel) -> None:
    assert load_model(ModelSpec(device="cpu", dtype="bfloat16")).fingerprint == pocket.fingerprint


def test_other_weights_have_another_fingerprint(pocket: FrozenModel, tmp_path: Path) -> None:
    changed = load_model(ModelSpec(device="cpu"))
    changed.model.get_input_embeddings().weight.data[0] += 0.5
    changed.model.save_pretrained(tmp_path)
    pocket.tokenizer.save_pretrained(tmp_path)
    assert load_model(ModelSpec(name=str(tmp_path), device="cpu")).fingerprint != pocket.fingerprint


@pytest.mark.parametrize("kind", [BertModel(BertConfig(**TINY)), LlamaModel(LlamaConfig(**TINY))])
def test_a_model_without_a_causal_head_is_refused(kind: torch.nn.Module, pocket: FrozenModel, tmp_path: Path) -> None:
    kind.save_pretrained(tmp_path)  # type: ignore[operator]
    pocket.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no causal language-model head"):
        load_model(ModelSpec(name=str(tmp_path)))


def test_a_model_that_lacks_weights_is_refused(pocket: FrozenModel, tmp_path: Path) -> None:
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    state = model.state_dict()
    del state["model.norm.weight"]
    model.save_pretrained(tmp_path, state_dict=state)
    pocket.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="lacks weights"):
        load_model(ModelSpec(name=str(tmp_path)))


def test_a_missing_folder_points_to_the_pocket_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot load model .* use model=pocket") as refused:
        load_model(ModelSpec(name=str(tmp_path / "none")))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("device", "said"), [("cuda:99", "is not there"), ("gpu", "is unknown"), ("cpux", "is unknown")]
)
def test_a_device_that_is_not_there_is_refused(device: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_model(ModelSpec(device=device))


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UserError, match="float32"):
        load_model(ModelSpec(dtype="fp12"))


def test_no_prompt_costs_nothing_and_noise_costs_something(pocket: FrozenModel) -> None:
    nothing = prompt_cost(pocket, torch.zeros(0, pocket.hidden), neutral_texts()[:4])
    assert nothing.perplexity_ratio == pytest.approx(1.0)
    assert nothing.kl == pytest.approx(0.0, abs=1e-6)
    noise = torch.randn(4, pocket.hidden, generator=torch.Generator().manual_seed(0))
    assert prompt_cost(pocket, noise, neutral_texts()[:4]).kl > 0.001
