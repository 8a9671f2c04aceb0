"""What a model takes is known before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.llm.load.footprint import footprint, locate
from evoprompt.llm.load.hub import missing_weights
from evoprompt.llm.load.memory import peak_bytes
from evoprompt.surveys import balanced_plan, sample_respondents, vsm13

LLAMA = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 500}
SHAPES = {
    "tied": LlamaConfig(**LLAMA, intermediate_size=96, num_key_value_heads=2, tie_word_embeddings=True),
    "untied": LlamaConfig(**LLAMA, intermediate_size=96, tie_word_embeddings=False),
    "experts": MixtralConfig(**LLAMA, intermediate_size=96, num_key_value_heads=2, num_local_experts=2),
    "conv1d": GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=500),
}
WHOLE_LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_parameters_are_counted_without_loading(config: LlamaConfig, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    for weights in tmp_path.glob("*.safetensors"):
        weights.write_bytes(b"")  # whoever reads it fails
    spec = ModelSpec(str(tmp_path))
    found = footprint(spec, locate(spec))
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.weights(torch.float32) == 4 * found.parameters
    assert found.hidden == 64


def test_a_model_of_eight_billion_parameters_takes_sixteen_gigabytes_in_bfloat16(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(WHOLE_LLAMA_8B))
    (tmp_path / "model.safetensors").write_bytes(b"")
    spec = ModelSpec(str(tmp_path))
    found = footprint(spec, locate(spec))
    assert found.parameters == 8_030_261_248
    assert found.weights(torch.bfloat16) == 16_060_522_496
    assert found.weights(torch.bfloat16, "4bit") < 0.4 * found.weights(torch.bfloat16)
    assert 1e9 < found.passing(16_384, torch.bfloat16) < 3e9


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_a_quantized_models_weights_are_foreseen(quantization: str) -> None:
    spec = ModelSpec(device="cpu", quantization=quantization)
    loaded = load_model(spec).model.get_memory_footprint()
    assert footprint(spec, locate(spec)).weights(torch.float32, quantization) == pytest.approx(loaded, rel=0.1)


def test_what_a_pass_takes_is_foreseen_to_a_quarter(pocket: FrozenModel) -> None:
    plan = balanced_plan(vsm13(), "searched", sample_respondents(4, 0))
    respondent = Respondent(pocket)
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    prompts = torch.randn(8, 4, pocket.hidden, generator=torch.Generator().manual_seed(0)) * 0.1
    respondent.answer(prompts, sheet)
    found = peak_bytes(pocket.device, lambda: respondent.answer(prompts, sheet))
    tokens = respondent.pass_tokens(sheet, 4, 8)
    expected = footprint(pocket.spec, locate(pocket.spec)).passing(tokens, torch.float32)
    assert expected == pytest.approx(found, rel=0.25)


def test_a_folder_without_all_of_its_weights_is_told_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(WHOLE_LLAMA_8B))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    assert list(missing_weights(locate(ModelSpec(str(tmp_path))))) == ["model-2.safetensors"]
    (tmp_path / "model-2.safetensors").write_bytes(b"")
    assert missing_weights(locate(ModelSpec(str(tmp_path)))) == {}


def test_what_is_no_causal_model_is_refused_without_its_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    spec = ModelSpec(str(tmp_path))
    with pytest.raises(UserError, match="no causal language-model head"):
        footprint(spec, locate(spec))
