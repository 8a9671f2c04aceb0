"""The cost of a prompt: batched as it would be computed a text at a time, wherever the prompt stands."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from families import every_family, opinionated
from transformers import LlamaConfig, LlamaForCausalLM

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, PromptCost, neutral_texts, prompt_cost
from evoprompt.llm.cost import prompt_costs
from evoprompt.llm.load.memory import peak_bytes
from evoprompt.llm.write.sheet import PLACEMENTS, encode


def noise(frozen: FrozenModel, count: int = 1, tokens: int = 3) -> torch.Tensor:
    mean, spread = frozen.embedding_statistics
    return mean + spread * torch.randn(count, tokens, frozen.hidden, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def literal(frozen: FrozenModel, prompt: torch.Tensor, texts: list[str], placement: str) -> PromptCost:
    """One text and one predicted token at a time: what stands before it goes through the model, and nothing else."""
    base_nll, prompted_nll, divergence, count = 0.0, 0.0, 0.0, 0
    for text in texts:
        ids = list(encode(frozen.tokenizer, text))
        begun = ids[0] == frozen.tokenizer.bos_token_id
        place = {"prefix": 0, "system": 1 if begun else 0, "suffix": len(ids) // 2}[placement]
        for at in range(max(1, place), len(ids)):
            embedded = frozen.embeddings(torch.tensor(ids[:at]))
            sides = []
            for inserted in (prompt[:0], prompt):
                inputs = torch.cat([embedded[:place], inserted, embedded[place:]])[None]
                logits = frozen.model(inputs_embeds=inputs, use_cache=False).logits[0, -1]
                sides.append(torch.log_softmax(logits.double(), dim=-1))
            base_nll -= float(sides[0][ids[at]])
            prompted_nll -= float(sides[1][ids[at]])
            divergence += float((sides[0].exp() * (sides[0] - sides[1])).sum())
            count += 1
    return PromptCost(math.exp(prompted_nll / count), math.exp((prompted_nll - base_nll) / count), divergence / count)


def close(found: PromptCost, expected: PromptCost) -> bool:
    return all(getattr(found, key) == pytest.approx(value, rel=1e-5) for key, value in vars(expected).items())


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_batch_costs_what_one_token_at_a_time_costs(pocket: FrozenModel, placement: str) -> None:
    texts = [neutral_texts()[0], "Rain fell.", "The road", *neutral_texts()[3:5]]
    prompt = noise(pocket)[0]
    assert close(prompt_cost(pocket, prompt, texts, placement), literal(pocket, prompt, texts, placement))


@every_family
def test_every_family_is_measured_right_in_every_place(name: str, family: Callable[..., FrozenModel]) -> None:
    frozen = family(name)
    texts, prompt = (
        ["The morning train left early.", "Rain fell.", "A dog slept near the old mill all day."],
        noise(frozen),
    )
    for placement in PLACEMENTS:
        assert close(prompt_cost(frozen, prompt[0], texts, placement), literal(frozen, prompt[0], texts, placement))


def test_a_large_vocabulary_is_measured_in_several_batches_of_bounded_memory(pocket: FrozenModel) -> None:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=128_256, **shape))
    frozen = FrozenModel(pocket.spec, opinionated(model).eval(), pocket.tokenizer)
    texts, prompt = neutral_texts()[:14], noise(frozen)[0]
    together = prompt_cost(frozen, prompt, texts)
    alone = [prompt_cost(frozen, prompt, [text]) for text in texts]
    tokens = [len(encode(pocket.tokenizer, text)) - 1 for text in texts]
    kl = sum(cost.kl * count for cost, count in zip(alone, tokens, strict=True)) / sum(tokens)
    assert together.kl == pytest.approx(kl, rel=1e-5)
    assert sum(tokens) * 128_256 > 2**26, "more than one batch"
    assert peak_bytes(frozen.device, lambda: prompt_cost(frozen, prompt, texts)) < 2**30


def test_many_prompts_at_once_cost_what_each_costs(pocket: FrozenModel) -> None:
    prompts = noise(pocket, count=3)
    texts = neutral_texts()[:4]
    together = prompt_costs(pocket, prompts, texts, "suffix")
    assert len(together) == 3
    for prompt, found in zip(prompts, together, strict=True):
        assert close(found, prompt_cost(pocket, prompt, texts, "suffix"))


def test_a_beginning_token_stays_in_front_of_a_system_prompt(family: Callable[..., FrozenModel]) -> None:
    frozen = family("llama")
    prefix, system = (prompt_cost(frozen, noise(frozen)[0], placement=where) for where in ("prefix", "system"))
    assert prefix.kl != pytest.approx(system.kl, rel=1e-3)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_no_prompt_costs_nothing_and_noise_costs_something(pocket: FrozenModel, placement: str) -> None:
    texts = neutral_texts()[:4]
    nothing = prompt_cost(pocket, torch.zeros(0, pocket.hidden), texts, placement)
    assert nothing.perplexity_ratio == pytest.approx(1.0)
    assert nothing.kl == pytest.approx(0.0, abs=1e-6)
    assert prompt_cost(pocket, noise(pocket)[0], texts, placement).kl > 0.001


def test_a_prompt_that_is_not_finite_has_no_finite_cost(pocket: FrozenModel) -> None:
    prompts = noise(pocket, count=2)
    prompts[0] = torch.nan
    spoilt, sound = prompt_costs(pocket, prompts, neutral_texts()[:2])
    assert math.isnan(spoilt.kl)
    assert math.isnan(spoilt.perplexity)
    assert math.isfinite(sound.kl)


def test_no_prompts_cost_nothing(pocket: FrozenModel) -> None:
    assert prompt_costs(pocket, torch.zeros(0, 3, pocket.hidden), neutral_texts()[:1]) == []


def test_what_cannot_be_measured_is_named(pocket: FrozenModel) -> None:
    with pytest.raises(UserError, match="at least two tokens"):
        prompt_cost(pocket, noise(pocket)[0], [])
    with pytest.raises(ValueError, match=r"must be \(P, T, 128\), got \(1, 2, 7\)"):
        prompt_costs(pocket, torch.zeros(1, 2, 7))
    with pytest.raises(UserError, match="unknown placement 'middle'"):
        prompt_cost(pocket, noise(pocket)[0], placement="middle")
    with pytest.raises(UserError, match="at least two tokens"):
        prompt_cost(pocket, noise(pocket)[0], ["a"])
    with pytest.raises(UserError, match=r"needs \d+ tokens with its 3 soft tokens, the model takes 1024"):
        prompt_cost(pocket, noise(pocket)[0], ["word " * 1100])
