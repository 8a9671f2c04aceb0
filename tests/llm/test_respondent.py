"""Option probabilities: the packed path against a literal one, on several architectures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.surveys import Plan, balanced_plan, full_plan, sample_respondents, vsm13

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SMALL),
    "qwen2": Qwen2Config(**SMALL),
    "qwen3": Qwen3Config(**SMALL, head_dim=8),
    "mistral, short sliding window": MistralConfig(**SMALL, sliding_window=40),
    "gemma2, capped logits": Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=5.0),
    "phi3": Phi3Config(**SMALL, pad_token_id=0),
    "gpt2, learned positions": GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=512),
}


@pytest.fixture(params=FAMILIES, scope="module")
def family(
    request: pytest.FixtureRequest, pocket: FrozenModel, tmp_path_factory: pytest.TempPathFactory
) -> FrozenModel:
    """A small random model of each family, saved and loaded like a user's folder, with the pocket tokenizer."""
    config = FAMILIES[request.param]
    config.vocab_size = len(pocket.tokenizer)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():  # small random models answer all alike; make them opinionated
        parameter.data.mul_(3.0) if parameter.ndim == 2 else None
    folder: Path = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    pocket.tokenizer.save_pretrained(folder)
    return load_model(ModelSpec(name=str(folder), device="cpu"))


def literal(frozen: FrozenModel, prompt: torch.Tensor, plan: Plan, index: int) -> np.ndarray:
    """One question: the log-probability of each label's whole text, one label after the other, nothing shared."""
    question, text = plan.questions[index], plan.texts()[index]
    start = len(prompt) + len(frozen.tokenizer(text).input_ids)
    scores = []
    for label in question.labels:
        ids = torch.tensor(frozen.tokenizer(f"{text} {label}").input_ids)
        with torch.inference_mode():
            inputs = torch.cat([prompt, frozen.model.get_input_embeddings()(ids)])[None]
            steps = torch.log_softmax(frozen.model(inputs_embeds=inputs, use_cache=False).logits[0].float(), dim=-1)
        scores.append(sum(steps[at - 1, ids[at - len(prompt)]] for at in range(start, len(prompt) + len(ids))))
    return torch.log_softmax(torch.stack(scores), dim=-1).numpy()


def test_packed_rows_equal_a_literal_pass_on_every_family(family: FrozenModel) -> None:
    plan = balanced_plan(vsm13(), respondents=sample_respondents(2, 0))
    mean, spread = family.embedding_statistics
    prompts = mean + 2 * spread * torch.randn(2, 3, family.hidden, generator=torch.Generator().manual_seed(1))
    respondent = Respondent(family)
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    found = np.log(respondent.answer(prompts, sheet))
    for index in range(0, 96, 7):
        for p in range(2):
            np.testing.assert_allclose(found[p, index], literal(family, prompts[p], plan, index), atol=1e-4)
    assert found.std() > 0.05, "the model must have opinions for this to be a test"


def test_a_candidates_answers_do_not_depend_on_its_neighbours_by_more_than_rounding(pocket: FrozenModel) -> None:
    plan = balanced_plan(vsm13())
    respondent = Respondent(pocket)
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    prompts = torch.randn(3, 2, pocket.hidden, generator=torch.Generator().manual_seed(0)) * 0.1
    together = respondent.answer(prompts, sheet)
    alone = np.concatenate([respondent.answer(prompt[None], sheet) for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.array_equal(together, respondent.answer(prompts, sheet))


def test_a_bare_model_is_asked_with_no_soft_tokens(pocket: FrozenModel) -> None:
    plan = full_plan(vsm13(), "held_out")
    respondent = Respondent(pocket)
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    found = respondent.answer(torch.zeros(1, 0, pocket.hidden), sheet)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-5)
    expected = literal(pocket, torch.zeros(0, pocket.hidden), plan, 5)
    np.testing.assert_allclose(np.log(found[0, 5]), expected, atol=1e-4)


def test_nan_in_a_prompt_gives_nan_for_it_alone(pocket: FrozenModel) -> None:
    plan = balanced_plan(vsm13())
    respondent = Respondent(pocket)
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    prompts = torch.zeros(2, 2, pocket.hidden)
    prompts[1] = torch.nan
    found = respondent.answer(prompts, sheet)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_a_context_that_is_too_long_names_the_lengths(pocket: FrozenModel) -> None:
    respondent = Respondent(pocket)
    sheet = respondent.sheet(["word " * 1200 + "\nQuestion: what?\nAnswer:"], [("A", "B")])
    with pytest.raises(
        UserError, match=r"longest question needs \d+ tokens with its \d+ soft tokens, the model takes 1024"
    ):
        respondent.answer(torch.zeros(1, 0, pocket.hidden), sheet)


def test_labels_that_need_several_tokens_are_named(pocket: FrozenModel) -> None:
    with pytest.raises(UserError, match="does not tell the labels"):
        Respondent(pocket).sheet(["\nQuestion: what?\nAnswer:"], [("zzqx", "qqzv")])


def test_a_chat_template_wraps_the_question_and_adds_bos_once(pocket: FrozenModel, tmp_path: Path) -> None:
    pocket.model.save_pretrained(tmp_path)
    tokenizer = type(pocket.tokenizer).from_pretrained(pocket.tokenizer.name_or_path)
    tokenizer.chat_template = "<s>{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}[assistant]:"
    tokenizer.save_pretrained(tmp_path)
    chat = load_model(ModelSpec(name=str(tmp_path), device="cpu"))
    sheet = Respondent(chat).sheet(["\nQuestion: what?\nAnswer:"], [("A", "B")])
    text = chat.tokenizer.decode(sheet.ids[0])
    assert text.count("<s>") == 1
    assert text.index("[user]") < text.index("Question: what?") < text.index("[assistant]")
