"""What a model takes, told before it is loaded: how many parameters it has, and how much memory they need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from evoprompt.errors import UserError
from evoprompt.llm.load.hub import Source, explain, find_model, require_safetensors
from evoprompt.llm.load.model import require_causal
from evoprompt.llm.load.spec import ModelSpec

QUANTIZED_BYTES = {"8bit": 1.0, "4bit": 0.5625}  # of an entry; NF4 keeps a float32 scale for each 64 of them


@dataclass(frozen=True)
class Footprint:
    """Parameters of a model, how many of them quantization shrinks, and the widths that a pass's memory grows with.

    Examples
    --------
    >>> shape = Footprint(parameters=8_000_000_000, quantizable=7_000_000_000, hidden=4096, intermediate=14_336)
    >>> shape.weights(torch.bfloat16) / 1e9, shape.weights(torch.bfloat16, "8bit") / 1e9
    (16.0, 9.0)
    """

    parameters: int
    quantizable: int
    hidden: int
    intermediate: int

    def weights(self, dtype: torch.dtype, quantization: str | None = None) -> int:
        """Bytes of the weights."""
        shrunk = self.quantizable if quantization else 0
        return round((self.parameters - shrunk) * dtype.itemsize + shrunk * QUANTIZED_BYTES.get(quantization or "", 0))

    def passing(self, tokens: int, dtype: torch.dtype) -> int:
        """Bytes that a pass of so many tokens takes above the weights, roughly.

        Found on Llama shapes from 128 to 4096 wide: the larger of what the MLP and what attention has alive at once,
        between 2 % below and 23 % above the peak measured.
        """
        return tokens * max(3 * self.intermediate + 4 * self.hidden, 15 * self.hidden) * dtype.itemsize


def locate(spec: ModelSpec) -> Source:
    """Where a model's files are. Raises `UserError` as loading it would."""
    source = find_model(spec.name, spec.revision)
    require_safetensors(source)
    return source


def footprint(spec: ModelSpec, source: Source) -> Footprint:
    """Count a model's parameters from its configuration; nothing is loaded.

    Raises
    ------
    UserError
        It is no causal language model, or its configuration cannot be read.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    trust = {"trust_remote_code": spec.trust_remote_code}
    offline = source.unreachable is not None
    try:
        config = AutoConfig.from_pretrained(source.path, revision=source.commit, local_files_only=offline, **trust)
        require_causal(spec.name, config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, **trust)
    except UserError:
        raise
    except Exception as error:  # a model's own code and files can raise anything
        raise explain(spec.name, source, error) from error
    hidden, head = model.get_input_embeddings().weight.shape[1], model.get_output_embeddings()
    shrinking = [
        module.weight.numel()
        for module in model.modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D") and module is not head
    ]
    return Footprint(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        quantizable=sum(shrinking),
        hidden=hidden,
        intermediate=getattr(model.config.get_text_config(), "intermediate_size", None) or 4 * hidden,
    )
