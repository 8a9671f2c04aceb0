"""Loading: what is taken, what is refused, and what identifies a model."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import opinionated
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MixtralConfig,
    MixtralForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
)

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, load_model, neutral_texts, prompt_cost
from evoprompt.llm.load.fingerprint import SMALL
from evoprompt.llm.load.numerics import DTYPES

TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
GEMMA = {**TINY, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 1854}
PICTURES = {**TINY, "image_size": 8, "patch_size": 4}
T5 = T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=64)

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


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
def test_one_checkpoint_has_one_fingerprint_whatever_the_dtype(stored: torch.dtype, save: Save) -> None:
    model = llama(hidden_size=64)
    model.model.layers[0].mlp.up_proj.weight.data *= 1e-5  # below what float16 holds with all its digits
    folder = save(model.to(stored))
    assert len({load(folder, dtype=dtype).fingerprint for dtype in DTYPES}) == 1


def test_one_entry_of_a_checkpoint_makes_another_fingerprint(save: Save) -> None:
    model = llama(hidden_size=160)
    assert model.lm_head.weight.nbytes > SMALL
    first = load(save(model)).fingerprint
    assert load(save(model)).fingerprint == first
    model.lm_head.weight.data[5, 7] += 0.5
    assert load(save(model)).fingerprint != first


def test_rows_that_change_places_make_another_fingerprint(save: Save) -> None:
    model = llama(hidden_size=160)
    first = load(save(model)).fingerprint
    model.lm_head.weight.data[[5, 9]] = model.lm_head.weight.data[[9, 5]].clone()
    assert load(save(model)).fingerprint != first


@pytest.mark.parametrize(
    "change",
    [{"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, {"rms_norm_eps": 0.1}, {"hidden_act": "gelu"}],
    ids=["rope", "norm", "activation"],
)
def test_what_is_computed_with_the_weights_is_part_of_the_fingerprint(change: dict[str, object], save: Save) -> None:
    folder = save(llama())
    first = load(folder).fingerprint
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    assert load(folder).fingerprint != first


def test_a_model_that_was_not_loaded_is_known_by_its_weights(pocket: FrozenModel) -> None:
    one, same, other = (FrozenModel(pocket.spec, copy.deepcopy(pocket.model), pocket.tokenizer) for _ in range(3))
    other.model.get_output_embeddings().weight.data[5] += 1
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_model_in_several_files_is_the_same_model(save: Save) -> None:
    model = llama()
    whole = load(save(model)).fingerprint
    (save(model) / "model.safetensors").unlink()
    folder = save(model, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert load(folder).fingerprint == whole


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
        T5ForConditionalGeneration(T5),
    ],
    ids=["bert", "llama without a head", "t5"],
)
def test_a_model_without_a_causal_head_is_refused(kind: PreTrainedModel, save: Save) -> None:
    assert "has no causal language-model head" in refusal(save(kind))


NEEDS_IDS = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 1854, "num_kv_shared_layers": 0}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "model",
    [
        Gemma3nForCausalLM(Gemma3nTextConfig(**GEMMA, **NEEDS_IDS, laurel_rank=4, activation_sparsity_pattern=[0.0])),
        Gemma4ForCausalLM(Gemma4TextConfig(**GEMMA, **NEEDS_IDS, global_head_dim=8)),
    ],
    ids=["gemma3n", "gemma4"],
)
def test_a_model_that_reads_ids_beside_embeddings_is_refused(model: PreTrainedModel, dtype: str, save: Save) -> None:
    assert "reads token ids beside embeddings" in refusal(save(opinionated(model)), dtype=dtype)


ROBERTA = {**TINY, "hidden_size": 32, "num_hidden_layers": 3, "vocab_size": 1854}


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        (RobertaForCausalLM(RobertaConfig(**ROBERTA)), "float32"),
        (RobertaForCausalLM(RobertaConfig(**ROBERTA)), "bfloat16"),
        (XLNetLMHeadModel(XLNetConfig(vocab_size=1854, d_model=16, n_layer=1, n_head=2, d_inner=16)), "float32"),
    ],
    ids=["roberta", "roberta in bfloat16", "xlnet"],
)
def test_a_model_that_sees_what_follows_is_refused(model: PreTrainedModel, dtype: str, save: Save) -> None:
    assert "sees what follows a token" in refusal(save(opinionated(model)), dtype=dtype)


def test_an_encoder_that_is_configured_to_look_back_only_is_loaded(save: Save) -> None:
    model = RobertaForCausalLM(RobertaConfig(**ROBERTA, is_decoder=True))
    assert load(save(opinionated(model))).model.config.is_decoder


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"dtype": "bfloat16"}, {"quantization": "8bit"}])
def test_rounding_and_rows_of_padding_are_no_reason_to_refuse(options: dict[str, str], save: Save) -> None:
    sizes = {**TINY, "hidden_size": 64, "intermediate_size": 64, "num_key_value_heads": 2, "num_hidden_layers": 4}
    model = MixtralForCausalLM(MixtralConfig(**sizes, vocab_size=2048, num_local_experts=4))
    opinionated(model).lm_head.weight.data[1854:] = 1e4
    assert load(save(model), **options)


def test_a_model_is_taken_after_three_short_calls(save: Save) -> None:
    lengths = []

    def count(module: nn.Module, args: object, kwargs: dict[str, object], output: object) -> None:
        if isinstance(module, LlamaForCausalLM):
            lengths.extend(value.shape[:2] for value in kwargs.values() if isinstance(value, torch.Tensor))

    hook = register_module_forward_hook(count, with_kwargs=True)
    try:
        load(save(llama()))
    finally:
        hook.remove()
    assert lengths == [(2, 6), (2, 6), (1, 6)]


def test_a_configuration_that_names_no_architecture_goes_by_its_model_type(save: Save) -> None:
    for model, taken in ((llama(), True), (T5ForConditionalGeneration(T5), False)):
        folder = save(model)
        config = json.loads((folder / "config.json").read_text())
        del config["architectures"]
        (folder / "config.json").write_text(json.dumps(config))
        assert load(folder) if taken else "no causal language-model head (it is t5)" in refusal(folder)


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        (llama(max_position_embeddings=99), 99),
        (MptForCausalLM(MptConfig(d_model=16, n_layers=1, n_heads=2, max_seq_len=64, vocab_size=1854)), 64),
        (BloomForCausalLM(BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=1854)), None),
        (XLNetLMHeadModel(XLNetConfig(vocab_size=64, d_model=16, n_layer=1, n_head=2, d_inner=16)), None),
    ],
    ids=["llama", "mpt", "bloom", "xlnet"],
)
def test_the_longest_context_is_what_the_model_states(
    model: PreTrainedModel, limit: int | None, pocket: FrozenModel
) -> None:
    assert FrozenModel(pocket.spec, model, pocket.tokenizer).max_length == limit


def test_text_with_a_token_beyond_the_embeddings_is_refused_by_the_token(save: Save) -> None:
    folder = save(llama())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="writes '<new>' as token 1854, the model has 1854 embeddings"):
        load(folder).embed("Is it <new>?")


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
        *(
            ({"threads": value}, f"threads must be a whole number >= 1, got {value!r}")
            for value in (0, -1, "2", 2.0, True)
        ),
        *(
            ({"token_budget": value}, f"token_budget must be null or a whole number >= 1, got {value!r}")
            for value in (0, -5, "x", 10.5, True)
        ),
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
