"""Loading a frozen causal language model: bundled, from a local folder, or from the Hugging Face hub."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

import torch
from torch import nn

from evoprompt.errors import UserError
from evoprompt.llm.hub import Source, explain, find_model, require_safetensors
from evoprompt.llm.numerics import (
    DTYPES,
    find_attention,
    find_device,
    find_dtype,
    keep_weights_as_they_are,
    quantization_options,
)

__all__ = ["DTYPES", "POCKET", "FrozenModel", "ModelSpec", "load_model"]

POCKET = "pocket"
POCKET_FOLDER = resources.files("evoprompt.llm") / "pocket"
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_FINGERPRINT_FIELDS = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")


@dataclass(frozen=True)
class ModelSpec:
    """What to load and where to put it; plain values, so that it travels to workers.

    `name` is `pocket`, a local folder or a hub name. `auto` means: for `dtype`, float32 on CPU and bfloat16 on CUDA;
    for `device`, CUDA where there is one; for `attention`, what the architecture prefers. `threads` is the number of
    CPU threads of one evaluation: a part of the configuration and never taken from the machine, so that rounding does
    not depend on it. `quantization` is `8bit` (LLM.int8: a row's answer depends a little on the rows beside it) or
    `4bit` (NF4: it does not). `token_budget` is the number of tokens in one forward pass at most; None: as many as the
    free memory takes.
    """

    name: str = POCKET
    revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    attention: str = "auto"
    trust_remote_code: bool = False
    threads: int = 2
    quantization: str | None = None
    token_budget: int | None = None


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
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        with torch.no_grad():
            embedded: torch.Tensor = self.embeddings(torch.tensor(ids, dtype=torch.long, device=self.device))
        return embedded

    @cached_property
    def text_tokens(self) -> torch.Tensor:
        """Ids of the tokens that stand for text: no special ones, no rows that only pad the matrix."""
        special = {id for id, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        known = {*self.tokenizer.get_vocab().values()} - special - {*self.tokenizer.all_special_ids}
        return torch.tensor(sorted(id for id in known if id < len(self.embeddings.weight)))

    @cached_property
    def embedding_statistics(self) -> tuple[torch.Tensor, float]:
        """Mean embedding (hidden,) of the tokens that stand for text, and the root mean square of the entries'
        distance from it, in float32."""
        count = len(self.text_tokens)
        mean = sum((part.sum(dim=0) for part in self._embedded()), torch.zeros(self.hidden).double()) / count
        square = sum(float((part - mean).pow(2).sum()) for part in self._embedded())
        return mean.float(), (square / (count * self.hidden)) ** 0.5

    def _embedded(self) -> Iterator[torch.Tensor]:
        """Embeddings of the tokens that stand for text, a part at a time, as the layer gives them: some scale there."""
        with torch.no_grad():
            for part in self.text_tokens.split(8192):
                yield self.embeddings(part.to(self.device)).cpu().double()

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the weights: shape of the architecture and a sample of every parameter, as bfloat16.

        The same for one checkpoint in whichever dtype or on whichever device it is loaded; quantized weights are
        another model and have another fingerprint.
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
        The model cannot be found or fetched, has no causal head or no safetensors, brings code that was not allowed,
        or its device, attention or quantization is not to be had here.
    """
    _check(spec)
    device = find_device(spec.device)
    dtype = find_dtype(spec.dtype, device)
    options = {"dtype": dtype, "attn_implementation": find_attention(spec.attention)}
    options |= quantization_options(spec.quantization, device, dtype)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(spec.threads)
    _quiet()
    source = find_model(str(POCKET_FOLDER) if spec.name == POCKET else spec.name, spec.revision)
    try:
        model, tokenizer = _load(spec, source, options)
        if spec.quantization is None:  # otherwise placed already
            model = model.to(device)
        keep_weights_as_they_are(model)
    except UserError:
        raise
    except Exception as error:  # a model's own code and files can raise anything
        raise explain(spec.name, source, error) from error
    return FrozenModel(spec, model.eval().requires_grad_(False), tokenizer)


def _check(spec: ModelSpec) -> None:
    if not isinstance(spec.name, str) or not spec.name:
        raise UserError(f"model.name={spec.name!r} must be pocket, a folder or a name on the hub")
    if not isinstance(spec.revision, str | None):
        raise UserError(f"model.revision={spec.revision!r} must be text: put it in quotes")
    if not isinstance(spec.trust_remote_code, bool):
        raise UserError(f"model.trust_remote_code={spec.trust_remote_code!r} must be true or false")


def _quiet() -> None:
    """No warnings and no progress bars, but of downloads on a terminal: they take long. The hub's retries are told."""
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if sys.stderr.isatty():
        enable_progress_bars()


def _load(spec: ModelSpec, source: Source, options: dict[str, Any]) -> tuple[Any, Any]:
    """The model and its tokenizer; what can be refused is refused before the weights are fetched."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    trust = {"trust_remote_code": spec.trust_remote_code}
    where = {"revision": source.commit, "local_files_only": source.unreachable is not None, **trust}
    config = AutoConfig.from_pretrained(source.path, **where)
    _require_causal(spec.name, config)
    require_safetensors(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path, **where)
    except Exception as error:
        raise OSError(f"its tokenizer: {error}") from error
    if spec.attention != "auto":
        try:
            with torch.device("meta"):
                AutoModelForCausalLM.from_config(
                    copy.deepcopy(config), attn_implementation=spec.attention, dtype=options["dtype"], **trust
                )
        except (ValueError, ImportError) as error:
            raise UserError(f"model {spec.name!r} does not work with attention {spec.attention!r}; use auto") from error
    model, info = AutoModelForCausalLM.from_pretrained(
        source.path,
        config=config,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
        **options,
        **where,
    )
    if info["missing_keys"]:
        raise UserError(f"model {spec.name!r} lacks weights, among them {min(info['missing_keys'])!r}")
    if info["mismatched_keys"]:
        name, found, wanted = min(info["mismatched_keys"])
        raise UserError(
            f"weights of model {spec.name!r} do not fit its config.json, among them {name!r}: its shape is "
            f"{tuple(found)}, not {tuple(wanted)}"
        )
    return model, tokenizer


def _require_causal(name: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    architectures = config.architectures or []
    endings: tuple[str, ...] = _CAUSAL
    if config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not config.is_encoder_decoder:
        endings += ("ForConditionalGeneration",)  # text in, text out, and pictures that nobody sends
    if not any(kind.endswith(endings) for kind in architectures):
        shown = ", ".join(architectures) or config.model_type
        raise UserError(
            f"model {name!r} has no causal language-model head (it is {shown}); use one that generates text"
        )
