"""What a soft prompt costs: perplexity and next-token divergence on neutral text, against the base model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources

import torch
from torch.nn import functional

from evoprompt.llm.model import FrozenModel
from evoprompt.llm.sheet import encode


@dataclass(frozen=True)
class PromptCost:
    """`perplexity_ratio` is prompted over base; `kl` the mean KL(base || prompted) a token, in nats."""

    perplexity: float
    perplexity_ratio: float
    kl: float


def neutral_texts() -> list[str]:
    """The bundled neutral paragraphs, written for this purpose."""
    file = resources.files("evoprompt.llm") / "data" / "neutral.txt"
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


@torch.inference_mode()
def prompt_cost(frozen: FrozenModel, soft_prompt: torch.Tensor, texts: list[str] | None = None) -> PromptCost:
    """Measure a soft prompt (T, H) placed before each text.

    The first token of a text is not predicted, with the prompt or without, so both sides predict the same tokens.
    """
    base_nll, prompted_nll, divergence, count = 0.0, 0.0, 0.0, 0
    for text in texts or neutral_texts():
        ids = torch.tensor(encode(frozen.tokenizer, text), device=frozen.device)
        base = _log_probabilities(frozen, soft_prompt[:0], ids)
        prompted = _log_probabilities(frozen, soft_prompt, ids)
        following = ids[1:, None]
        base_nll -= float(base.gather(1, following).sum())
        prompted_nll -= float(prompted.gather(1, following).sum())
        divergence += float(functional.kl_div(prompted, base, log_target=True, reduction="sum"))
        count += len(following)
    return PromptCost(
        perplexity=math.exp(prompted_nll / count),
        perplexity_ratio=math.exp((prompted_nll - base_nll) / count),
        kl=divergence / count,
    )


def _log_probabilities(frozen: FrozenModel, soft_prompt: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Next-token log-probabilities after each token but the last: (tokens - 1, vocabulary)."""
    prompt = soft_prompt.to(frozen.device, frozen.dtype)
    inputs = torch.cat([prompt, frozen.embeddings(ids)])[None]
    logits = frozen.model(inputs_embeds=inputs, use_cache=False).logits[0, len(prompt) : -1]
    return functional.log_softmax(logits.float(), dim=-1)
