"""What identifies a model: every number its checkpoint stores, and what its configuration makes of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

SMALL = 2**20  # bytes: tensors up to here are hashed as they are
FIELDS = (  # of a configuration: what is computed with the weights
    *("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "hidden_act", "hidden_activation", "tie_word_embeddings", "layer_types", "is_decoder"),
    *("rope_parameters", "rope_theta", "rope_scaling", "partial_rotary_factor", "max_position_embeddings"),
    *("sliding_window", "use_sliding_window", "attention_chunk_size", "attn_logit_softcapping", "alibi"),
    *("query_pre_attn_scalar", "attention_multiplier", "embedding_multiplier", "residual_multiplier"),
    *("logit_scale", "logits_scaling", "final_logit_softcapping"),
    *("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "num_experts_per_tok"),
)


def fingerprint(config: Any, weights: Iterable[tuple[str, torch.Tensor]], quantization: str | None) -> str:
    """Hash a model in 32 hexadecimal digits, at the speed at which memory is read.

    Parameters
    ----------
    config
        Its text configuration; a field that it lacks counts as None.
    weights
        Names and tensors, in a fixed order.
    quantization
        How they are quantized when they are loaded: the model is another then.
    """
    known = [getattr(config, name, None) for name in FIELDS]
    digest = hashlib.sha256(json.dumps([quantization, *known], sort_keys=True, default=str).encode())
    for name, tensor in weights:
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(_digested(tensor))
    return digest.hexdigest()[:32]


def stored_tensors(files: Sequence[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of safetensors files by name, mapped into memory one at a time."""
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(file, "pt")) for file in files]
        where = {name: file for file in opened for name in file.keys()}  # noqa: SIM118, no mapping
        for name in sorted(where):
            yield name, where[name].get_tensor(name)


def _digested(tensor: torch.Tensor) -> bytes:
    """The bytes of a small tensor; of a large one the sum of each row, its bytes read as 64-bit integers."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8)
    if len(flat) <= SMALL or tensor.shape[-1] * tensor.element_size() % 8:
        return flat.numpy().tobytes()
    if flat.storage_offset() % 8:
        flat = flat.clone()
    rows = flat.view(torch.int64).view(-1, tensor.shape[-1] * tensor.element_size() // 8)
    return rows.sum(dim=1).numpy().tobytes()
