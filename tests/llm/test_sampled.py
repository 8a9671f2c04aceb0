"""Free-text answers: sampled reproducibly, parsed, counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, every_family, family_tokenizer, opinionated
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    BartConfig,
    CTRLConfig,
    FalconH1Config,
    OpenAIGPTConfig,
    RecurrentGemmaConfig,
    RwkvConfig,
)

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, Sheet, load_model
from evoprompt.llm.speak.check import rows_together
from evoprompt.llm.speak.decoding import DECODING
from evoprompt.llm.speak.noise import gumbel, step_keys
from evoprompt.llm.speak.sampled import TRANSCRIPT, Said, SampledRespondent
from evoprompt.llm.write.sheet import PLACEMENTS
from evoprompt.surveys import balanced_plan, vsm13

PLAN = balanced_plan(vsm13())
ASKED = (0, 30, 55, 90)
TOKENIZER = family_tokenizer(FAMILIES["gpt2"])
SIZES = {"vocab_size": len(TOKENIZER), "max_position_embeddings": 512}
STATES = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}


def ask(respondent: SampledRespondent, count: int = len(ASKED)) -> Sheet:
    """Questions of different lengths, both label sets and both orders."""
    questions = [PLAN.questions[index] for index in ASKED[:count]]
    texts = [PLAN.texts()[index] for index in ASKED[:count]]
    return respondent.sheet(texts, [q.labels for q in questions], [q.options for q in questions])


def noise(frozen: FrozenModel, count: int, tokens: int = 2) -> torch.Tensor:
    mean, spread = frozen.embedding_statistics
    return mean + spread * torch.randn(count, tokens, frozen.hidden, generator=torch.Generator().manual_seed(1))


def greedy(frozen: FrozenModel, prompt: torch.Tensor, sheet: Sheet, question: int, steps: int) -> str:
    """The likeliest tokens one after the other: no cache, no batch, no padding."""
    before, after = (torch.tensor(part[question], dtype=torch.long) for part in (sheet.before, sheet.spoken))
    said: list[int] = []
    with torch.inference_mode():
        for _ in range(steps):
            later = torch.tensor([*after.tolist(), *said], dtype=torch.long)
            inputs = torch.cat([frozen.embeddings(before), prompt, frozen.embeddings(later)])[None]
            said.append(int(frozen.model(inputs_embeds=inputs, use_cache=False).logits[0, -1].argmax()))
            if said[-1] == frozen.tokenizer.eos_token_id:
                break
    return str(frozen.tokenizer.decode(said, skip_special_tokens=True)).strip().partition("\n")[0]


@every_family
def test_greedy_answers_of_a_padded_batch_are_those_of_a_row_at_a_time_on_every_family(
    name: str, family: Callable[..., FrozenModel]
) -> None:
    frozen = family(name)
    prompts = noise(frozen, 2, tokens=3)
    switch = getattr(frozen.model.config, "original_max_position_embeddings", None) or 10**6
    for placement in PLACEMENTS:
        respondent = SampledRespondent(frozen, placement, temperature=0, max_new_tokens=5)
        sheet = ask(respondent)
        respondent.answer(prompts, sheet)
        for said in respondent.transcript:
            length = len(sheet.before[said.question]) + 3 + len(sheet.spoken[said.question])
            if length in range(switch - 5, switch + 1):
                continue  # positions change within the answer: a cache keeps the old ones
            assert said.text == greedy(frozen, prompts[said.candidate], sheet, said.question, 5)


@pytest.mark.parametrize(("temperature", "tokens"), [(1.0, 2), (0.5, 1)])
def test_frequencies_approach_the_probabilities_of_the_labels(
    pocket: FrozenModel, temperature: float, tokens: int
) -> None:
    count = 500
    sampled = SampledRespondent(pocket, temperature=temperature, samples=count, max_new_tokens=tokens, seed=3)
    sheet = ask(sampled, 1)
    prompts = noise(pocket, 1, tokens=1)
    found = sampled.answer(prompts, sheet)
    shares = Respondent(pocket).answer(prompts, sheet).astype(np.float64) ** (1 / temperature)
    shares /= shares.sum(axis=-1, keepdims=True)
    assert shares.max() < 0.95, "the model must be in doubt for this to be a test"
    assert (np.abs(found - shares) < 4 * np.sqrt(shares * (1 - shares) / count) + 2 / count).all()
    assert len(sampled.transcript) == min(count, TRANSCRIPT)
    assert sampled.invalid_rates[0] < 0.1


def test_an_answer_depends_on_neither_neighbours_nor_the_number_of_samples(pocket: FrozenModel) -> None:
    prompts = noise(pocket, 90)
    together = SampledRespondent(pocket, samples=2, seed=5)
    together.answer(prompts, ask(together))
    for candidate in (0, 41, 89):
        alone = SampledRespondent(pocket, samples=1, seed=5)
        alone.answer(prompts[candidate : candidate + 1], ask(alone))
        expected = [said[1:] for said in together.transcript if said.candidate == candidate][::2]
        assert [said[1:] for said in alone.transcript] == expected


def test_equal_candidates_meet_equal_noise_and_another_seed_another(pocket: FrozenModel) -> None:
    respondent = SampledRespondent(pocket, temperature=3.0)
    respondent.answer(noise(pocket, 1).repeat(2, 1, 1), ask(respondent))
    first, second = ([said[1:] for said in respondent.transcript if said.candidate == c] for c in (0, 1))
    assert first == second
    other = SampledRespondent(pocket, temperature=3.0, seed=1)
    other.answer(noise(pocket, 1), ask(other))
    assert [said[1:] for said in other.transcript] != first


def test_torchs_own_generator_is_neither_read_nor_moved(pocket: FrozenModel) -> None:
    texts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        respondent = SampledRespondent(pocket, temperature=3.0)
        respondent.answer(noise(pocket, 2), ask(respondent))
        texts.append(respondent.transcript)
        assert torch.equal(torch.get_rng_state(), before)
    assert texts[0] == texts[1]


def test_a_narrow_nucleus_says_what_the_likeliest_tokens_say(pocket: FrozenModel) -> None:
    transcripts = []
    for options in ({"top_p": 1e-6}, {"temperature": 0}, {"temperature": 0, "samples": 7}):
        respondent = SampledRespondent(pocket, **options)
        respondent.answer(noise(pocket, 2), ask(respondent))
        transcripts.append(respondent.transcript)
    assert transcripts[0] == transcripts[1] == transcripts[2]


def test_the_models_own_generation_habits_are_left_out(pocket: FrozenModel, tmp_path: Path) -> None:
    pocket.model.save_pretrained(tmp_path)
    pocket.tokenizer.save_pretrained(tmp_path)
    token, other = (pocket.tokenizer(text, add_special_tokens=False).input_ids for text in (" A", " B"))
    habits = {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "do_sample": True, "temperature": 0.1, "top_k": 1}
    habits |= {"min_new_tokens": 12, "suppress_tokens": token, "begin_suppress_tokens": token}
    habits |= {"bad_words_ids": [token], "forced_eos_token_id": other[0], "max_time": 1e-9, "guidance_scale": 3.0}
    habits |= {"encoder_repetition_penalty": 5.0, "exponential_decay_length_penalty": (1, 2.0)}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 1, "pad_token_id": 1, **habits}))
    strict = load_model(ModelSpec(name=str(tmp_path), device="cpu"))
    assert strict.model.generation_config.min_new_tokens == 12
    assert transcript(strict) == transcript(pocket)


def random_model(config: Any, **spec: Any) -> FrozenModel:
    """A model of a configuration with the tokenizer of its size."""
    model = opinionated(AutoModelForCausalLM.from_config(config)).eval().requires_grad_(False)
    return FrozenModel(ModelSpec(name=config.model_type, device="cpu", **spec), model, TOKENIZER)


def transcript(frozen: FrozenModel, **options: Any) -> list[Said]:
    respondent = SampledRespondent(frozen, temperature=2.0, max_new_tokens=6, **options)
    respondent.answer(noise(frozen, 2), ask(respondent))
    return respondent.transcript


@pytest.mark.parametrize(
    "config",
    [
        BartConfig(**SIZES, d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=64),
        RecurrentGemmaConfig(**SIZES, **LAYERS, lru_width=32, attention_window_size=40, num_key_value_heads=1),
        RwkvConfig(vocab_size=len(TOKENIZER), hidden_size=32, num_hidden_layers=2, attention_hidden_size=32),
    ],
    ids=lambda config: config.model_type,
)
def test_models_that_do_not_undo_padding_or_mix_rows_up_answer_as_if_asked_alone(
    config: Any, caplog: pytest.LogCaptureFixture
) -> None:
    frozen = random_model(config)
    for _ in range(2):
        together = transcript(frozen)
    alone = transcript(FrozenModel(replace(frozen.spec, token_budget=1), frozen.model, frozen.tokenizer))
    assert together == alone
    said = [
        record.message for record in caplog.records if "does not take questions of different lengths" in record.message
    ]
    assert len(said) == 1, "once, and not of the model that is asked one question at a time anyway"


def test_rows_that_a_model_takes_together_are_asked_together(pocket: FrozenModel) -> None:
    assert rows_together(pocket, 5, 60) == "padded"
    respondent = SampledRespondent(pocket, max_new_tokens=2)
    sheet, prompts, rows = ask(respondent), noise(pocket, 3), []
    respondent.answer(prompts, sheet)  # the model is checked
    hook = pocket.model.register_forward_pre_hook(
        lambda _, args, given: rows.append(len(given["inputs_embeds"])), with_kwargs=True
    )
    try:
        respondent.answer(prompts, sheet)
    finally:
        hook.remove()
    assert rows[0] == 3 * len(ASKED)
    assert len(rows) <= 2


@pytest.mark.parametrize(
    "config",
    [
        OpenAIGPTConfig(vocab_size=len(TOKENIZER), n_embd=32, n_layer=2, n_head=4, n_positions=512),
        CTRLConfig(vocab_size=len(TOKENIZER), n_embd=32, n_layer=2, n_head=4, dff=64, n_positions=512),
        FalconH1Config(vocab_size=len(TOKENIZER), **LAYERS, **STATES, num_key_value_heads=2, mamba_d_ssm=64),
        BambaConfig(vocab_size=len(TOKENIZER), **LAYERS, **STATES, num_key_value_heads=2, attn_layer_indices=[1]),
    ],
    ids=lambda config: config.model_type,
)
def test_models_with_caches_of_their_own_or_none_say_what_their_plain_calls_say(config: Any) -> None:
    frozen = random_model(config)
    respondent, prompts = SampledRespondent(frozen, temperature=0, max_new_tokens=4), noise(frozen, 2)
    sheet = ask(respondent)
    respondent.answer(prompts, sheet)
    for said in respondent.transcript:
        assert said.text == greedy(frozen, prompts[said.candidate], sheet, said.question, 4)


def test_a_model_that_cannot_write_after_embeddings_is_refused_at_once() -> None:
    frozen = load_model(ModelSpec(device="cpu"))

    def fail(_: Any, __: Any, given: dict[str, Any]) -> None:
        if given.get("past_key_values") is not None:
            raise NotImplementedError("no cache behind embeddings")

    frozen.model.register_forward_pre_hook(fail, with_kwargs=True)
    said = r"cannot write answers after a soft prompt \(NotImplementedError: no cache .*\); use respondent=options$"
    with pytest.raises(UserError, match=said):
        SampledRespondent(frozen)


def test_a_model_that_writes_something_else_than_its_plain_calls_say_is_refused() -> None:
    frozen = load_model(ModelSpec(device="cpu"))

    def forget(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**given, "inputs_embeds": given["inputs_embeds"] * (given.get("past_key_values") is None)}

    frozen.model.register_forward_pre_hook(forget, with_kwargs=True)
    with pytest.raises(UserError, match=r"does not write after a soft prompt what .*; use respondent=options$"):
        SampledRespondent(frozen)


def test_labels_that_begin_alike_are_said_from_their_beginning(pocket: FrozenModel) -> None:
    text = "Question: May I come a little late?\nAnswer:"
    none = torch.zeros(1, 0, pocket.hidden)
    respondent = SampledRespondent(pocket, temperature=0, max_new_tokens=2)
    respondent.answer(none, respondent.sheet([text], ["AB"]))
    said = respondent.transcript[0].text
    first, second = said.split()
    labels = (f"{first} {second}", f"{first} never", f"{first} always")
    sheet = respondent.sheet([text], [labels])
    assert pocket.tokenizer.decode(sheet.after[0]).endswith(first), "scored from where they differ"
    assert pocket.tokenizer.decode(sheet.spoken[0]).endswith("Answer:")
    assert respondent.answer(none, sheet).tolist() == [[[1.0, 0.0, 0.0]]]
    scored = Respondent(pocket).sheet([text], [labels])
    assert respondent.answer(none, scored).tolist() == [[[1.0, 0.0, 0.0]]], "the sheet of a respondent that scores"


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2"])
def test_what_is_asked_in_words_does_not_depend_on_the_labels(name: str, family: Callable[..., FrozenModel]) -> None:
    frozen = family(name)
    for placement in PLACEMENTS:
        respondent = SampledRespondent(frozen, placement)
        sets = ("12345", "ABCDE", [f"({n})" for n in range(5)], [f"Option {n}" for n in range(5)])
        asked = {respondent.sheet(["Question: Rain?\nAnswer:"], [labels]).spoken for labels in sets}
        assert len(asked) == 1


def test_an_answer_is_complete_where_more_tokens_would_not_change_it(pocket: FrozenModel) -> None:
    found: dict[int, list[tuple[str, bool]]] = {3: [], 24: []}
    prompts = noise(pocket, 2)
    for most, read in found.items():
        respondent = SampledRespondent(pocket, temperature=2.0, samples=20, max_new_tokens=most)
        sheet = respondent._opened(ask(respondent))
        for rows in respondent._batches(sheet, 2, prompts.shape[1]):
            read += respondent._say(prompts, sheet, rows)
    assert {complete for _, complete in found[3]} == {True, False}
    for (short, complete), (long, _) in zip(found[3], found[24], strict=True):
        assert short == long if complete else long.startswith(short.rstrip("�"))


def test_no_candidates_give_no_answers(pocket: FrozenModel) -> None:
    respondent = SampledRespondent(pocket)
    assert respondent.answer(noise(pocket, 0), ask(respondent)).shape == (0, len(ASKED), 5)
    assert (respondent.transcript, respondent.invalid_rates.shape) == ([], (0,))


def test_an_answer_ends_with_its_first_line_and_its_transcript_tells_what_was_read(pocket: FrozenModel) -> None:
    respondent = SampledRespondent(pocket, max_new_tokens=30)
    found = respondent.answer(noise(pocket, 3), ask(respondent))
    assert [said[:2] for said in respondent.transcript] == [(c, q) for c in range(3) for q in range(4)]
    for said in respondent.transcript:
        assert "\n" not in said.text
        row = found[said.candidate, said.question]
        assert np.isnan(row).all() if said.option is None else row[said.option] == 1.0


def test_a_transcript_is_bounded_and_spread_over_all_candidates(pocket: FrozenModel) -> None:
    respondent = SampledRespondent(pocket, samples=700, max_new_tokens=1)
    respondent.answer(noise(pocket, 3, tokens=1), respondent.sheet(["Answer:"], ["AB"]))
    kept = [said.candidate for said in respondent.transcript]
    assert len(kept) == TRANSCRIPT
    assert min(kept.count(candidate) for candidate in range(3)) > 600


def test_words_are_read_where_the_option_texts_are_known(pocket: FrozenModel) -> None:
    respondent = SampledRespondent(pocket, temperature=0, max_new_tokens=12)
    text = "Question: May I come a little late?\nAnswer:"
    unread = respondent.answer(torch.zeros(1, 0, pocket.hidden), respondent.sheet([text], ["AB"]))
    assert np.isnan(unread).all()
    assert respondent.invalid_rates.tolist() == [1.0]
    said = respondent.transcript[0].text
    read = respondent.answer(torch.zeros(1, 0, pocket.hidden), respondent.sheet([text], ["AB"], [(said, "never")]))
    assert read.tolist() == [[[1.0, 0.0]]]
    assert respondent.invalid_rates.tolist() == [0.0]


def test_nan_in_a_prompt_gives_nan_for_it_alone(pocket: FrozenModel) -> None:
    prompts = noise(pocket, 3)
    clean = SampledRespondent(pocket)
    expected = clean.answer(prompts, ask(clean))
    prompts[1] = torch.nan
    respondent = SampledRespondent(pocket)
    found = respondent.answer(prompts, ask(respondent))
    assert np.isnan(found[1]).all()
    assert respondent.invalid_rates.tolist() == [clean.invalid_rates[0], 1.0, clean.invalid_rates[2]]
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])


def test_memory_that_runs_out_makes_batches_smaller_and_changes_no_answer() -> None:
    frozen = load_model(ModelSpec(device="cpu"))
    large = SampledRespondent(frozen)
    large.answer(noise(frozen, 6), ask(large))
    for rows in (5, 0):  # that fit into memory

        def refuse(_: Any, args: Any, kwargs: dict[str, Any], most: int = rows) -> None:
            if len(kwargs["inputs_embeds"]) > most:
                raise torch.OutOfMemoryError("out of memory")

        frozen.model.register_forward_pre_hook(refuse, with_kwargs=True)
        small = SampledRespondent(frozen)
        if rows:
            small.answer(noise(frozen, 6), ask(small))
            assert small.budget.halved > 0
            assert small.budget.limit(DECODING) < large.budget.limit(DECODING)
            assert small.transcript == large.transcript
        else:
            with pytest.raises(UserError, match="runs out of memory on a single question"):
                small.answer(noise(frozen, 1), ask(small))


def test_a_context_that_is_too_long_names_the_lengths(pocket: FrozenModel) -> None:
    respondent = SampledRespondent(pocket, max_new_tokens=1020)
    with pytest.raises(UserError, match=r"needs \d+ tokens with its 2 soft tokens and an answer of 1020, .* 1024"):
        respondent.answer(noise(pocket, 1), ask(respondent))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -0.1}, "temperature must be a finite number >= 0, got -0.1"),
        ({"temperature": float("nan")}, "temperature must be a finite number >= 0, got nan"),
        ({"temperature": "hot"}, "temperature must be a finite number >= 0, got 'hot'"),
        ({"top_p": 0.0}, "top_p must be a number > 0 and <= 1, got 0.0"),
        ({"top_p": 1.5}, "top_p must be a number > 0 and <= 1, got 1.5"),
        ({"samples": 0}, "samples must be a whole number >= 1, got 0"),
        ({"samples": 1.5}, "samples must be a whole number >= 1, got 1.5"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number >= 1, got 0"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"placement": "sufix"}, "unknown placement 'sufix'; did you mean suffix"),
    ],
)
def test_parameters_out_of_range_are_named(pocket: FrozenModel, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        SampledRespondent(pocket, **options)
    assert said in str(refused.value)


def test_soft_prompts_of_another_width_are_refused(pocket: FrozenModel) -> None:
    respondent = SampledRespondent(pocket)
    with pytest.raises(ValueError, match=r"must be \(P, T, 128\), got \(1, 2, 7\)"):
        respondent.answer(torch.zeros(1, 2, 7), ask(respondent))


def test_noise_is_gumbel_and_a_function_of_its_key() -> None:
    keys = torch.arange(40)
    drawn = gumbel(keys, 5000)
    assert torch.equal(drawn[7:9, :100], gumbel(keys[7:9], 100))
    assert torch.isfinite(drawn).all()
    levels = torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99])
    quantiles = torch.quantile(torch.exp(-torch.exp(-drawn[:, :2000].reshape(-1).double())), levels.double())
    np.testing.assert_allclose(quantiles, levels, atol=0.01)
    assert float(torch.corrcoef(drawn).fill_diagonal_(0).abs().max()) < 0.08


def test_noise_follows_splitmix64_as_published() -> None:
    def splitmix64(state: int) -> int:
        z = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    seed = 2**63 + 12345
    expected = [splitmix64((seed + (at + 1) * 0x9E3779B97F4A7C15) % 2**64) >> 12 for at in range(50)]
    uniform = (np.array(expected, dtype=np.float64) + 0.5) * 2.0**-52
    found = gumbel(torch.tensor([seed - 2**64]), 50)[0]
    np.testing.assert_allclose(found, -np.log(-np.log(uniform)), rtol=1e-6)
    states = [splitmix64((seed + (at + 1) * 0x9E3779B97F4A7C15) % 2**64) for at in range(5)]
    assert [key % 2**64 for key in step_keys([seed - 2**64], 5)[0]] == states
