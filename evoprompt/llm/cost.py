"""What a soft prompt costs: perplexity and next-token divergence on neutral text, against the base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from evoprompt.errors import UserError, unknown_name
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.write.conversation import Context
from evoprompt.llm.write.sheet import PLACEMENTS, Tokens, encode

BATCH_LOGITS = 2**26  # numbers in the logits of one forward pass: 512 tokens of a vocabulary of 128 k


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


def prompt_cost(
    frozen: FrozenModel, soft_prompt: torch.Tensor, texts: Sequence[str] | None = None, placement: str = "prefix"
) -> PromptCost:
    """Measure one soft prompt (T, H); see `prompt_costs`."""
    return prompt_costs(frozen, soft_prompt[None], texts, placement)[0]


@torch.inference_mode()
def prompt_costs(
    frozen: FrozenModel, soft_prompts: torch.Tensor, texts: Sequence[str] | None = None, placement: str = "prefix"
) -> list[PromptCost]:
    """Measure soft prompts in place on neutral text.

    Parameters
    ----------
    frozen, soft_prompts
        The model and (P, T, H) embeddings.
    texts
        What to predict; the bundled paragraphs unless given.
    placement
        `prefix`: before each text and what the tokenizer writes first. `system`: behind that beginning-of-text token,
        if there is one. `suffix`: behind the first half of a text's tokens.

    Returns
    -------
    list of PromptCost
        One a prompt. With the prompt and without, the same tokens are predicted: all but a text's first, and with
        `suffix` those of the second half.

    Raises
    ------
    UserError
        The placement is unknown, no text has a token to predict, or the longest does not fit with the prompt.
    ValueError
        Soft prompts are not (P, T, H).
    """
    if placement not in PLACEMENTS:
        raise unknown_name("placement", placement, PLACEMENTS)
    if soft_prompts.ndim != 3 or soft_prompts.shape[2] != frozen.hidden:
        raise ValueError(f"soft prompts must be (P, T, {frozen.hidden}), got {tuple(soft_prompts.shape)}")
    rows = [
        ids for text in (neutral_texts() if texts is None else texts) if len(ids := encode(frozen.tokenizer, text)) > 1
    ]
    if not rows:
        raise UserError("the cost of a prompt needs a text of at least two tokens")
    tokens, limit = int(soft_prompts.shape[1]), frozen.max_length
    longest = max(map(len, rows)) + tokens
    if limit and longest > limit:
        raise UserError(f"a text needs {longest} tokens with its {tokens} soft tokens, the model takes {limit}")
    prompts = soft_prompts.to(frozen.device, frozen.dtype)
    sums = torch.zeros(len(prompts), 3, dtype=torch.float64)  # base and prompted negative log-likelihood, divergence
    count = 0
    for batch in _batches(rows, tokens, BATCH_LOGITS // frozen.embeddings.weight.shape[0]):
        contexts = [_split(frozen, ids, placement) for ids in batch]
        base = _predictions(frozen, None, contexts)
        count += sum(len(row) for row in base)
        for number, prompt in enumerate(prompts):
            prompted = _predictions(frozen, prompt, contexts)
            sums[number] += torch.stack([_compared(*both) for both in zip(batch, base, prompted, strict=True)]).sum(0)
    without, prompted_nll, divergence = (sums / count).T
    found = torch.stack([prompted_nll.exp(), (prompted_nll - without).exp(), divergence], dim=1)
    return [PromptCost(*values) for values in found.tolist()]


def _batches(rows: list[Tokens], tokens: int, budget: int) -> list[list[Tokens]]:
    """Texts by length, in batches of at most `budget` tokens, padding and soft prompts included."""
    batches: list[list[Tokens]] = [[]]
    for row in sorted(rows, key=len):
        if batches[-1] and (len(batches[-1]) + 1) * (len(row) + tokens) > budget:
            batches.append([])
        batches[-1].append(row)
    return batches


def _split(frozen: FrozenModel, ids: Tokens, placement: str) -> Context:
    """A text's tokens on either side of the soft prompt."""
    begun = ids[0] == frozen.tokenizer.bos_token_id
    place = {"prefix": 0, "system": int(begun), "suffix": len(ids) // 2}[placement]
    return Context(ids[:place], ids[place:])


def _predictions(frozen: FrozenModel, prompt: torch.Tensor | None, batch: list[Context]) -> list[torch.Tensor]:
    """Logits by which each text's predicted tokens are predicted: (tokens, vocabulary) each, as views of one batch."""
    rows = [context.embedded(frozen, prompt) for context in batch]
    inputs = pad_sequence(rows, batch_first=True)  # on the right, where causal attention never looks
    logits = frozen.model(inputs_embeds=inputs, use_cache=False).logits
    predicted = [len(context) - max(1, len(context.before)) for context in batch]
    return [
        given[len(row) - 1 - count : len(row) - 1] for given, row, count in zip(logits, rows, predicted, strict=True)
    ]


def _compared(ids: Tokens, base: torch.Tensor, prompted: torch.Tensor) -> torch.Tensor:
    """Sums over one text: negative log-likelihood without and with the prompt, divergence; (3,) in float64."""
    following = torch.tensor(ids[len(ids) - len(base) :], device=base.device)[:, None]
    without, with_prompt = (functional.log_softmax(logits.float(), dim=-1) for logits in (base, prompted))
    likelihoods = [-steps.gather(1, following).double().sum() for steps in (without, with_prompt)]
    divergence = functional.kl_div(with_prompt, without, log_target=True, reduction="none").double().sum()
    return torch.stack([*likelihoods, divergence]).cpu()
