"""Loading a frozen causal language model: bundled, from a local folder, or from the Hugging Face hub."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evoprompt.errors import UserError
from evoprompt.llm.load.fingerprint import fingerprint, stored_tensors
from evoprompt.llm.load.hub import Source, explain, find_model, require_safetensors, weight_files
from evoprompt.llm.load.numerics import (
    find_attention,
    find_device,
    find_dtype,
    keep_weights_as_they_are,
    placing_options,
)
from evoprompt.llm.load.servable import require_servable
from evoprompt.llm.load.spec import ModelSpec, check_spec

_CAUSAL = ("ForCausalLM", "LMHeadModel")
_LIMITS = ("max_position_embeddings", "max_seq_len")  # what configurations call the longest context


@dataclass(frozen=True, eq=False)
class FrozenModel:
    """A causal language model that nothing here ever changes, with its tokenizer and its weights' files."""

    spec: ModelSpec
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    files: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def device(self) -> torch.device:
        """The device that inputs are sent to."""
        return self.embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the embeddings, and so of soft prompts."""
        return self.embeddings.weight.dtype

    @property
    def placed(self) -> str:
        """In what it computes, and where, like "torch.float32 on cpu"."""
        return f"{self.dtype} on {self.device.type}"

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
        config = self.model.config.get_text_config()
        stated = [getattr(config, name, None) for name in _LIMITS]
        return next((limit for limit in stated if isinstance(limit, int) and limit > 0), None)

    def embed(self, text: str) -> torch.Tensor:
        """Embeddings of a text's tokens, without special tokens: (tokens, hidden).

        Raises
        ------
        UserError
            The tokenizer has a token for it that the model has no embedding of.
        """
        ids = self.tokenizer(text, add_special_tokens=False).input_ids
        require_known(self.tokenizer, ids, len(self.embeddings.weight))
        with torch.no_grad():
            embedded: torch.Tensor = self.embeddings(torch.tensor(ids, dtype=torch.long, device=self.device))
        return embedded

    @torch.no_grad()
    def token_embeddings(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, hidden) of token ids (n,) in float32 on the CPU, as the layer gives them: some scale there."""
        return self.embeddings(ids.to(self.device)).float().cpu()

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
        count, parts = len(self.text_tokens), self.text_tokens.split(8192)
        sums = [self.token_embeddings(part).double().sum(dim=0) for part in parts]
        mean = sum(sums, torch.zeros(self.hidden).double()) / count
        square = sum(float((self.token_embeddings(part).double() - mean).pow(2).sum()) for part in parts)
        return mean.float(), (square / (count * self.hidden)) ** 0.5

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the checkpoint: all that its files store, and what its configuration computes with it.

        The same in whichever dtype or on whichever device it is loaded; a checkpoint saved in another dtype is another,
        and so is a quantized model. A model that was not loaded is known by its weights as they are.
        """
        weights = stored_tensors(self.files) if self.files else sorted(self.model.state_dict().items())
        return fingerprint(self.model.config.get_text_config(), weights, self.spec.quantization)


def require_known(tokenizer: Any, ids: Iterable[int], vocabulary: int) -> None:
    """Raise the `UserError` that names the first token beyond a model's `vocabulary` of embeddings, if there is one."""
    beyond = min((id for id in ids if id >= vocabulary), default=None)
    if beyond is not None:
        raise UserError(
            f"the tokenizer writes {tokenizer.convert_ids_to_tokens(beyond)!r} as token {beyond}, the model has "
            f"{vocabulary} embeddings; leave this text out, or use the model's own tokenizer"
        )


def load_model(spec: ModelSpec) -> FrozenModel:
    """Load a model and its tokenizer for inference, in safetensors only.

    Raises
    ------
    UserError
        The model cannot be found or fetched, has no causal head or no safetensors, brings code that was not allowed,
        needs more than embeddings, looks at what follows, or its device, attention or quantization is not to be had
        here; or a value of `spec` makes no sense.
    """
    check_spec(spec)
    device = find_device(spec.device)
    dtype = find_dtype(spec.dtype, device)
    options = {"dtype": dtype, "attn_implementation": find_attention(spec.attention)}
    options |= placing_options(spec, device, dtype)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(spec.threads)
    _quiet()
    source = find_model(spec.name, spec.revision)
    try:
        model, tokenizer = _load(spec, source, options)
        if "device_map" not in options:  # otherwise placed already
            model = model.to(device)
        keep_weights_as_they_are(model)
        frozen = FrozenModel(spec, model.eval().requires_grad_(False), tokenizer, weight_files(source))
        require_servable(spec.name, model, frozen.text_tokens, spec.quantization is not None)
    except UserError:
        raise
    except Exception as error:  # a model's own code and files can raise anything
        raise explain(spec.name, source, error) from error
    return frozen


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
    require_causal(spec.name, config)
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


def require_causal(name: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    own = None if config.is_encoder_decoder else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    architectures = config.architectures or ([own] if own else [])
    endings: tuple[str, ...] = _CAUSAL
    if own:
        endings += ("ForConditionalGeneration",)  # text in, text out, and pictures that nobody sends
    if not any(kind.endswith(endings) for kind in architectures):
        shown = ", ".join(architectures) or config.model_type
        raise UserError(
            f"model {name!r} has no causal language-model head (it is {shown}); use one that generates text"
        )
