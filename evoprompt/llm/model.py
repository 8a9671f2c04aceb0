"""Loading a frozen causal language model: bundled, from a local folder, or from the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evoprompt.errors import UserError

POCKET = "pocket"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_FINGERPRINT_FIELDS = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class ModelSpec:
    """What to load and where to put it; plain values, so that it travels to workers.

    `name` is `pocket`, a local folder or a hub name. `auto` means: for `dtype`, float32 on CPU and bfloat16 on CUDA;
    for `device`, CUDA where there is one; for `attention`, what the architecture prefers. `threads` is the number of
    CPU threads of one evaluation: a part of the configuration and never taken from the machine, so that rounding does
    not depend on it.
    """

    name: str = POCKET
    revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    attention: str = "auto"
    trust_remote_code: bool = False
    threads: int = 2


@dataclass(frozen=True, eq=False)
class FrozenModel:
    """A causal language model that nothing here ever changes, with its tokenizer."""

    spec: ModelSpec
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the embeddings, and so of soft prompts."""
        return self.embeddings.weight.dtype

    @property
    def hidden(self) -> int:
        """Width of an embedding."""
        return int(self.embeddings.weight.shape[1])

    @property
    def embeddings(self) -> nn.Embedding:
        """The input embedding layer."""
        layer: nn.Embedding = self.model.get_input_embeddings()
        return layer

    @property
    def max_length(self) -> int | None:
        """Longest context in tokens, where the model states one."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def embed(self, text: str) -> torch.Tensor:
        """Embeddings of a text's tokens, without special tokens: (tokens, hidden)."""
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids[0]
        with torch.inference_mode():
            embedded: torch.Tensor = self.embeddings(ids.to(self.device))
        return embedded.clone()

    @cached_property
    def embedding_statistics(self) -> tuple[torch.Tensor, float]:
        """Mean embedding (hidden,) and the root mean square of the entries' distance from it, in float32."""
        ids = torch.arange(self.embeddings.weight.shape[0], device=self.device)
        with torch.inference_mode():  # through the layer: some architectures scale there
            weight = torch.cat([self.embeddings(part).float().cpu() for part in ids.split(8192)]).clone()
        mean = weight.mean(dim=0)
        return mean, float((weight - mean).pow(2).mean().sqrt())

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the weights: shape of the architecture and a sample of every parameter, as bfloat16.

        The same for one checkpoint in whichever dtype or on whichever device it is loaded.
        """
        config = self.model.config.get_text_config()
        digest = hashlib.sha256(json.dumps([str(getattr(config, f, None)) for f in _FINGERPRINT_FIELDS]).encode())
        for name, parameter in sorted(self.model.named_parameters()):
            flat = parameter.detach().reshape(-1)
            sample = flat[:: max(1, flat.numel() // 64)][:64]
            digest.update(f"{name}{tuple(parameter.shape)}".encode())
            digest.update(sample.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
        return digest.hexdigest()[:32]


def load_model(spec: ModelSpec) -> FrozenModel:
    """Load a model and its tokenizer for inference, in safetensors only.

    Raises
    ------
    UserError
        The model cannot be found or fetched, has no causal head, or its device is not there.
    """
    device = _device(spec.device)
    dtype = _dtype(spec.dtype, device)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(spec.threads)
    source = str(resources.files("evoprompt.llm") / "pocket") if spec.name == POCKET else spec.name
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    where = {"revision": spec.revision, "trust_remote_code": spec.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source, **where)
        _require_causal(spec.name, config)
        model, info = AutoModelForCausalLM.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            attn_implementation=None if spec.attention == "auto" else spec.attention,
            use_safetensors=True,
            output_loading_info=True,
            **where,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
    except UserError:
        raise
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise _not_loaded(spec.name, error) from error
    if info["missing_keys"]:
        raise UserError(f"model {spec.name!r} lacks weights, among them {sorted(info['missing_keys'])[0]!r}")
    return FrozenModel(spec, model.to(device).eval().requires_grad_(False), tokenizer)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is unknown; use auto, cpu, cuda or cuda:<number>") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise UserError(
                f"device {name!r} is not there: this machine shows {count} CUDA devices; use model.device=cpu"
            )
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is unknown; use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _require_causal(name: str, config: Any) -> None:
    architectures = config.architectures or []
    if not any(kind.endswith(_CAUSAL) for kind in architectures):
        shown = ", ".join(architectures) or config.model_type
        raise UserError(
            f"model {name!r} has no causal language-model head (it is {shown}); use one that generates text"
        )


def _not_loaded(name: str, error: Exception) -> UserError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "gated" in str(error).lower():
        return UserError(
            f"model {name!r} is gated: accept its licence at https://huggingface.co/{name}, then run `hf auth login`"
        )
    kind = "folder" if Path(name).exists() or name.startswith(("/", ".")) else "hub name, which may be offline here,"
    return UserError(
        f"cannot load model {name!r} as a {kind} ({reason}); "
        "use model=pocket, which is bundled, or model.name=<folder of a downloaded model>"
    )
