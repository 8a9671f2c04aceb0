"""What the throughput benchmark runs on: the bundled model, and known shapes with random weights made on the spot."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from evoprompt.errors import UserError, unknown_name
from evoprompt.llm import FrozenModel, ModelSpec, load_model

__all__ = ["SHAPES", "build", "random_llama"]

CHAT = (
    "{% for turn in messages %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
LOGITS = 0.125  # rounding to bfloat16 in 32 layers then moves a log-probability by 0.002, one other token by 0.02


@dataclass(frozen=True)
class Shape:
    """A Llama architecture; `on_cpu` is how many candidates ours is timed on there, at most (0: not on a CPU)."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool
    on_cpu: int = 32

    @property
    def config(self) -> LlamaConfig:
        """The same as a configuration; 0 and 1 begin and end a text, as in the pocket tokenizer."""
        return LlamaConfig(
            hidden_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.intermediate,
            vocab_size=self.vocabulary,
            tie_word_embeddings=self.tied,
            max_position_embeddings=8192,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )


SHAPES = {
    "135m": Shape(576, 30, 9, 3, 1536, 49_152, tied=True),  # SmolLM2-135M
    "1b": Shape(2048, 16, 32, 8, 8192, 128_256, tied=True, on_cpu=2),  # Llama-3.2-1B
    "8b": Shape(4096, 32, 32, 8, 14_336, 128_256, tied=False, on_cpu=0),  # Llama-3-8B
}


def build(name: str, device: str, dtype: str = "auto", threads: int = 2, chat: bool = False) -> FrozenModel:
    """`pocket`, or a shape with random weights and the pocket tokenizer (its token ids are below every vocabulary).

    Raises
    ------
    UserError
        Unknown shape, or one that a CPU cannot run in reasonable time.
    """
    if name != "pocket" and name not in SHAPES:
        raise unknown_name("shape", name, ["pocket", *SHAPES])
    pocket = load_model(ModelSpec(device=device, dtype=dtype, threads=threads))
    if chat:
        pocket.tokenizer.chat_template = CHAT
    if name == "pocket":
        return pocket
    if pocket.device.type == "cpu" and not SHAPES[name].on_cpu:
        raise UserError(f"shape {name!r} is too large for a CPU; use --device cuda, or one of pocket, 135m, 1b")
    model = random_llama(SHAPES[name].config, pocket.device, pocket.dtype)
    return FrozenModel(replace(pocket.spec, name=f"random weights, {name}"), model, pocket.tokenizer)


def random_llama(config: LlamaConfig, device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    """A Llama whose weights are drawn where they stay: nothing is made on the CPU first or moved.

    Normal with deviation 0.02, and 0.02 / sqrt(2 layers) where a block writes into the residual stream (as GPT-2).
    Embeddings and head are smaller, so that logits have deviation `LOGITS` at any width.
    """
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(dtype)
    model = model.to_empty(device=device)
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to(device)
    model.tie_weights()
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim == 1:
            parameter.fill_(1.0)
        elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
            parameter.normal_(0.0, LOGITS / config.hidden_size**0.5, generator=generator)
        elif name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.normal_(0.0, 0.02 / (2 * config.num_hidden_layers) ** 0.5, generator=generator)
        else:
            parameter.normal_(0.0, 0.02, generator=generator)
    return model.eval()
