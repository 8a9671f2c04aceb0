"""Loading: what is taken, what is refused, and what identifies a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, load_model, neutral_texts, prompt_cost

TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
GEMMA = {**TINY, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 1854}
PICTURES = {**TINY, "image_size": 8, "patch_size": 4}

Save = Callable[..., Path]


@pytest.fixture
def save(pocket: FrozenModel, tmp_path: Path) -> Save:
    """Save a model with the pocket model's tokenizer; returns the folder."""

    def save_it(model: PreTrainedModel, **options: object) -> Path:
        model.save_pretrained(tmp_path, **options)
        pocket.tokenizer.save_pretrained(tmp_path)
        return tmp_path

    return save_it


def load(folder: Path, **options: object) -> FrozenModel:
    """Load a folder on the CPU."""
    return load_model(ModelSpec(name=str(folder), device="cpu", **options))  # type: ignore[arg-type]


def refusal(folder: Path | str, **options: object) -> str:
    """What a model that is not loaded is refused with: one line."""
    with pytest.raises(UserError) as refused:
        load(Path(folder), **options)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def llama(**options: object) -> LlamaForCausalLM:
    """A small Llama with random weights."""
    return LlamaForCausalLM(LlamaConfig(**{**TINY, "vocab_size": 1854, **options}))


def test_the_pocket_model_loads_in_float32_and_takes_no_gradient(pocket: FrozenModel) -> None:
    assert pocket.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in pocket.model.parameters())


def test_one_checkpoint_has_one_fingerprint_whatever_the_dtype(pocket: FrozenModel) -> None:
    assert load_model(ModelSpec(device="cpu", dtype="bfloat16")).fingerprint == pocket.fingerprint


def test_other_weights_have_another_fingerprint(pocket: FrozenModel, save: Save) -> None:
    changed = load_model(ModelSpec(device="cpu"))
    changed.model.get_input_embeddings().weight.data[0] += 0.5
    assert load(save(changed.model)).fingerprint != pocket.fingerprint


def test_a_model_in_several_files_is_the_same_model(pocket: FrozenModel, save: Save) -> None:
    folder = save(pocket.model, max_shard_size="200KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert load(folder).fingerprint == pocket.fingerprint


@pytest.mark.parametrize(
    "model",
    [Gemma2ForCausalLM(Gemma2Config(**GEMMA)), Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA)), llama()],
    ids=["gemma2", "gemma3", "llama"],
)
def test_embedded_text_is_what_the_model_sees_wherever_it_scales(model: PreTrainedModel, save: Save) -> None:
    frozen = load(save(model))
    ids = torch.tensor([frozen.tokenizer("How important is it?", add_special_tokens=False).input_ids])
    embedded = frozen.embed("How important is it?")[None]
    torch.testing.assert_close(frozen.model(inputs_embeds=embedded).logits, frozen.model(ids).logits)
    mean, spread = frozen.embedding_statistics
    tokens = frozen.embeddings(frozen.text_tokens)
    torch.testing.assert_close(mean, tokens.mean(dim=0))
    assert spread == pytest.approx(float((tokens - mean).pow(2).mean().sqrt()))


def test_rows_that_pad_the_embeddings_and_special_tokens_do_not_enter_the_statistics(
    pocket: FrozenModel, save: Save
) -> None:
    model = llama(vocab_size=2048)
    model.get_input_embeddings().weight.data[len(pocket.tokenizer) :] = 1000.0
    model.get_input_embeddings().weight.data[pocket.tokenizer.all_special_ids] = -1000.0
    mean, spread = load(save(model)).embedding_statistics
    assert mean.abs().max() < 1
    assert spread < 1


def test_a_model_that_also_takes_pictures_is_loaded_for_its_text(save: Save) -> None:
    config = Gemma3Config(text_config=GEMMA, vision_config=PICTURES, mm_tokens_per_image=4)
    frozen = load(save(Gemma3ForConditionalGeneration(config)))
    assert frozen.hidden == GEMMA["hidden_size"]
    assert frozen.max_length
    embedded = frozen.embed("How important is it?")[None]
    assert frozen.model(inputs_embeds=embedded).logits.shape[-1] == GEMMA["vocab_size"]
    assert frozen.fingerprint


@pytest.mark.parametrize(
    "kind",
    [
        BertModel(BertConfig(**TINY, vocab_size=64)),
        LlamaModel(LlamaConfig(**TINY, vocab_size=64)),
        T5ForConditionalGeneration(T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=64)),
    ],
    ids=["bert", "llama without a head", "t5"],
)
def test_a_model_without_a_causal_head_is_refused(kind: PreTrainedModel, save: Save) -> None:
    assert "has no causal language-model head" in refusal(save(kind))


def test_a_model_that_lacks_weights_is_refused(save: Save) -> None:
    model = llama()
    state = model.state_dict()
    del state["model.norm.weight"]
    assert "lacks weights, among them 'model.norm.weight'" in refusal(save(model, state_dict=state))


def test_weights_of_another_shape_are_refused(save: Save) -> None:
    folder = save(llama())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    assert "'model.layers.0.mlp.down_proj.weight': its shape is (16, 16), not (16, 32)" in refusal(folder)


def test_pickled_weights_are_refused(save: Save) -> None:
    folder = save(llama())
    torch.save(llama().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "safetensors are required" in refusal(folder)


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"x" * 999])
def test_damaged_weights_are_refused(damage: Callable[[bytes], bytes], save: Save) -> None:
    weights = save(llama()) / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    assert "is damaged" in refusal(weights.parent)


def test_a_missing_file_of_several_is_named(save: Save) -> None:
    folder = save(llama(), max_shard_size="20KB")
    missing = sorted(folder.glob("model-*.safetensors"))[1]
    missing.unlink()
    assert missing.name in refusal(folder)


@pytest.mark.parametrize(("file", "said"), [("config.json", "config.json"), ("tokenizer.json", "its tokenizer")])
def test_a_file_that_is_not_json_is_refused(file: str, said: str, save: Save) -> None:
    folder = save(llama())
    (folder / file).write_text("{")
    assert said in refusal(folder)


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    assert "its tokenizer" in refusal(tmp_path)


def test_an_architecture_that_transformers_does_not_know_is_refused(save: Save) -> None:
    folder = save(llama())
    (folder / "config.json").write_text(json.dumps({"model_type": "nothing", "architectures": ["NothingForCausalLM"]}))
    assert "nothing" in refusal(folder)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    assert "has no config.json" in refusal(tmp_path)


def test_a_file_is_not_a_model(save: Save) -> None:
    assert "takes its folder" in refusal(save(llama()) / "model.safetensors")


@pytest.mark.parametrize("name", ["none", "~/no/such/folder", "./none", "~nobody-of-this-name/none"])
def test_a_missing_folder_points_to_the_pocket_model(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot load model .* use model=pocket") as refused:
        load_model(ModelSpec(name=str(tmp_path / name) if name == "none" else name))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"revision": "v2"}, "has no meaning for the folder"),
        ({"revision": 2}, "must be text"),
        ({"name": None}, "must be pocket, a folder or a name on the hub"),
        ({"trust_remote_code": "no"}, "must be true or false"),
    ],
)
def test_a_specification_that_makes_no_sense_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_model(ModelSpec(**options))  # type: ignore[arg-type]


def test_no_prompt_costs_nothing_and_noise_costs_something(pocket: FrozenModel) -> None:
    nothing = prompt_cost(pocket, torch.zeros(0, pocket.hidden), neutral_texts()[:4])
    assert nothing.perplexity_ratio == pytest.approx(1.0)
    assert nothing.kl == pytest.approx(0.0, abs=1e-6)
    noise = torch.randn(4, pocket.hidden, generator=torch.Generator().manual_seed(0))
    assert prompt_cost(pocket, noise, neutral_texts()[:4]).kl > 0.001
