"""Every path of scoring against a literal pass, on every model family, placement and precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, every_family, family_tokenizer, opinionated
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, GPTNeoConfig

from evoprompt.llm import FrozenModel, ModelSpec, Respondent, Sheet, load_model
from evoprompt.llm.score.cascade import decoder
from evoprompt.llm.score.head import finish
from evoprompt.llm.score.respondent import PATHS
from evoprompt.llm.write.sheet import PLACEMENTS
from evoprompt.surveys import balanced_plan, sample_respondents, vsm13

ALIBI = {"falcon_alibi", "mpt", "bloom"}  # positions are not tokens' own: only a row a question can be right
OWN_ATTENTION = ALIBI | {"falcon", "mamba"}  # not through transformers' attention interface
ROWS_ONLY = {*ALIBI, "llama4", "mamba", "phi3_longrope"}  # chunks, states and a switch of the positions' frequencies
SERVED_BY = {
    **dict.fromkeys(FAMILIES, "cascade"),
    **dict.fromkeys(ROWS_ONLY, "padded"),
    "falcon": "padded",
    "phi3_longrope": "plain",
}
PRECISION = {"float32": 1e-4, "bfloat16": 2e-2}
ROUTED = 2  # times the tolerance in bfloat16, where rounding may send a token to another expert


def load(folder: Path, dtype: str = "float32") -> FrozenModel:
    """A family's model on the CPU."""
    return load_model(ModelSpec(name=str(folder), device="cpu", dtype=dtype))


def literal(frozen: FrozenModel, prompt: torch.Tensor, sheet: Sheet, question: int) -> np.ndarray:
    """One question: whole contexts, no cache, no batch, no padding, the model's own logits.

    Labels that differ in their last token alone are read in one pass.
    """
    embed = frozen.model.get_input_embeddings()
    steps: dict[tuple[int, ...], torch.Tensor] = {}  # what precedes a label's last token -> log-probabilities
    scores = []
    for label in sheet.options[question]:
        if label[:-1] not in steps:
            before = embed(torch.tensor(sheet.before[question], dtype=torch.long))
            after = embed(torch.tensor(sheet.after[question] + label[:-1], dtype=torch.long))
            inputs = torch.cat([before, prompt.to(frozen.dtype), after])[None]
            steps[label[:-1]] = torch.log_softmax(_logits(frozen, inputs), dim=-1)[-len(label) :]
        scores.append(steps[label[:-1]][torch.arange(len(label)), torch.tensor(label)].sum())
    return torch.log_softmax(torch.stack(scores), dim=-1).numpy()


@torch.inference_mode()
def _logits(frozen: FrozenModel, inputs: torch.Tensor) -> torch.Tensor:
    """The model's logits; in half precision by the head in float32, as everything here reads it, since its own rounding
    is as large as the tolerance."""
    if frozen.dtype == torch.float32:
        return frozen.model(inputs_embeds=inputs, use_cache=False).logits[0]
    states = decoder(frozen)(inputs_embeds=inputs, use_cache=False).last_hidden_state[0]
    head = frozen.model.get_output_embeddings()
    return finish(frozen, functional.linear(states.float(), head.weight.float(), _bias(head)))


def _bias(head: nn.Module) -> torch.Tensor | None:
    return None if getattr(head, "bias", None) is None else head.bias.float()


def asked(respondent: Respondent) -> Sheet:
    """Twenty questions of the survey, of two respondents."""
    plan = balanced_plan(vsm13(), respondents=sample_respondents(2, 0))
    texts, labels = plan.texts(), [question.labels for question in plan.questions]
    return respondent.sheet(texts[::5], labels[::5])


def soft(frozen: FrozenModel, count: int, tokens: int = 3) -> torch.Tensor:
    """Soft prompts (count, tokens, H) of the embeddings' size."""
    mean, spread = frozen.embedding_statistics
    noise = torch.randn(count, tokens, frozen.hidden, generator=torch.Generator().manual_seed(1))
    return mean + 2 * spread * noise


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("placement", PLACEMENTS)
@every_family
def test_answers_equal_a_literal_pass(
    name: str, placement: str, dtype: str, family: Callable[..., FrozenModel]
) -> None:
    frozen = family(name, dtype)
    respondent = Respondent(frozen, placement)
    sheet, prompts = asked(respondent), soft(frozen, 3)
    found = np.log(respondent.answer(prompts, sheet))
    tolerance = PRECISION[dtype] * (ROUTED if dtype == "bfloat16" and name in ("mixtral", "gpt_oss", "llama4") else 1)
    for question in range(0, len(sheet), 3):
        for index, prompt in enumerate(prompts):
            expected = literal(frozen, prompt, sheet, question)
            np.testing.assert_allclose(found[index, question], expected, atol=tolerance)
    assert found.std() > 0.05, "the model must have opinions for this to be a test"
    assert respondent.path == SERVED_BY[name]


@pytest.mark.parametrize("placement", PLACEMENTS)
@every_family
def test_every_path_that_can_serve_a_family_gives_the_same(
    name: str, placement: str, family: Callable[..., FrozenModel]
) -> None:
    frozen = family(name)
    respondent = Respondent(frozen, placement)
    sheet, prompts = asked(respondent), soft(frozen, 3)
    expected = torch.log_softmax(respondent._forward(prompts, sheet, "plain"), dim=-1)
    unfit = {"cascade"} if name in OWN_ATTENTION | ROWS_ONLY else set()
    unfit |= {"padded"} if name == "phi3_longrope" else set()
    for path in set(PATHS) - unfit:
        found = torch.log_softmax(respondent._forward(prompts, sheet, path), dim=-1)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0, msg=lambda text, at=path: f"{at}: {text}")


def test_local_attention_that_a_path_knows_nothing_of_is_noticed_on_the_sheets_own_questions(tmp_path: Path) -> None:
    """GPT-Neo takes a mask, and then sees only a few tokens before each in every other layer."""
    tokenizer = family_tokenizer(FAMILIES["gpt2"])
    size = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_layers": 2, "num_heads": 4}
    config = GPTNeoConfig(**size, attention_types=[[["global", "local"], 1]], window_size=24)
    opinionated(AutoModelForCausalLM.from_config(config)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    frozen = load(tmp_path)
    respondent = Respondent(frozen)
    sheet, prompts = asked(respondent), soft(frozen, 2)
    found = np.log(respondent.answer(prompts, sheet))
    for question in range(0, len(sheet), 3):
        np.testing.assert_allclose(found[1, question], literal(frozen, prompts[1], sheet, question), atol=1e-4)
    assert respondent.path == "padded"
