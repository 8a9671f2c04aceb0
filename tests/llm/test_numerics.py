"""Device, dtype, attention and quantization: what the machine has is used, what it lacks is refused by name."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, load_model

REPOSITORY = Path(__file__).parents[2]
QUESTION = "How important is it to you to have security of employment?"


def logits(frozen: FrozenModel) -> torch.Tensor:
    """The model's outputs for a question, (tokens, vocabulary)."""
    with torch.inference_mode():
        output: torch.Tensor = frozen.model(torch.tensor([frozen.tokenizer(QUESTION).input_ids])).logits[0]
    return output


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda:99", "is not there"),
        *(
            (kind, "is not served; use auto, cpu, cuda, cuda:<number> or sharded")
            for kind in ("gpu", "mps", "xpu", "meta", 0)
        ),
    ],
)
def test_a_device_that_is_not_there_is_refused(device: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_model(ModelSpec(device=device))


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(UserError, match="float32"):
        load_model(ModelSpec(dtype="fp12"))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations_give_one_answer(attention: str, pocket: FrozenModel) -> None:
    asked = load_model(ModelSpec(device="cpu", attention=attention))
    assert asked.model.config._attn_implementation == attention
    torch.testing.assert_close(logits(asked), logits(pocket), rtol=1e-4, atol=1e-4)


def test_an_unknown_attention_is_refused_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"unknown attention 'sdp'; did you mean sdpa.* eager, .*flash_attention_2"):
        load_model(ModelSpec(attention="sdp"))


def test_an_attention_that_is_not_installed_is_refused_with_what_there_is() -> None:
    with pytest.raises(UserError, match=r"'flash_attention_3' is not installed here; available: auto, eager, sdpa"):
        load_model(ModelSpec(attention="flash_attention_3"))


def test_soft_capping_is_never_dropped_for_a_faster_attention(pocket: FrozenModel, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    Gemma2ForCausalLM(Gemma2Config(**sizes, num_key_value_heads=1, head_dim=8)).save_pretrained(tmp_path)
    pocket.tokenizer.save_pretrained(tmp_path)
    assert load_model(ModelSpec(name=str(tmp_path))).model.config._attn_implementation == "eager"
    with pytest.raises(UserError, match="does not work with attention 'sdpa'; use auto"):
        load_model(ModelSpec(name=str(tmp_path), attention="sdpa"))


def test_an_unknown_quantization_is_refused() -> None:
    with pytest.raises(UserError, match=r"unknown quantization '3bit'.*4bit, 8bit"):
        load_model(ModelSpec(quantization="3bit"))


@pytest.fixture(scope="module", params=["8bit", "4bit"])
def quantized(request: pytest.FixtureRequest) -> FrozenModel:
    """The pocket model with 8-bit and with 4-bit weights."""
    return load_model(ModelSpec(device="cpu", quantization=request.param))


def test_quantized_weights_are_small_and_the_embeddings_stay(quantized: FrozenModel, pocket: FrozenModel) -> None:
    small = quantized.model.model.layers[0].mlp.up_proj.weight
    large = pocket.model.model.layers[0].mlp.up_proj.weight
    assert small.numel() * small.element_size() <= large.numel() * int(quantized.spec.quantization[0]) / 8
    assert quantized.dtype == torch.float32
    assert torch.equal(quantized.embed(QUESTION), pocket.embed(QUESTION))


def test_a_quantized_model_answers_as_one_with_its_weights_rounded(quantized: FrozenModel, pocket: FrozenModel) -> None:
    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    rounded = FrozenModel(pocket.spec, copy.deepcopy(pocket.model), pocket.tokenizer)
    answers = logits(quantized)
    for plain, small in zip(rounded.model.modules(), quantized.model.modules(), strict=True):
        if type(small).__name__ == "Linear4bit":
            plain.weight.data = dequantize_4bit(small.weight.data, small.weight.quant_state)
        elif type(small).__name__ == "Linear8bitLt":
            plain.weight.data = int8_vectorwise_dequant(small.weight.data, small.state.SCB)
    off = (answers - logits(rounded)).abs().mean() / logits(pocket).std()
    assert off < (0.02 if quantized.spec.quantization == "8bit" else 1e-5)  # 8-bit also rounds what flows through


def test_a_quantized_model_has_a_fingerprint_of_its_own_that_use_does_not_change(
    quantized: FrozenModel, pocket: FrozenModel
) -> None:
    logits(quantized)
    fresh = load_model(quantized.spec)
    assert quantized.fingerprint == fresh.fingerprint != pocket.fingerprint


def test_quantization_without_its_packages_names_the_extra(tmp_path: Path) -> None:
    folders = [Path(folder) for folder in sys.path if folder.endswith("site-packages")]
    for entry in {entry.name: entry for folder in folders for entry in folder.iterdir()}.values():
        if not entry.name.startswith("bitsandbytes"):
            (tmp_path / entry.name).symlink_to(entry)
    code = "from evoprompt.llm import ModelSpec, load_model; load_model(ModelSpec(quantization='4bit'))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "needs bitsandbytes and accelerate; install evoprompt with the extra 'quant'" in done.stderr.splitlines()[-1]
