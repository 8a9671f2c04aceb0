"""Free-text answers: sampled reproducibly, parsed, counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, build
from transformers import GenerationConfig

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model
from evoprompt.llm.sampled import TRANSCRIPT, OpenSheet, SampledRespondent, gumbel
from evoprompt.llm.sheet import PLACEMENTS
from evoprompt.surveys import balanced_plan, vsm13

PLAN = balanced_plan(vsm13())
ASKED = (0, 30, 55, 90)


def ask(respondent: SampledRespondent, count: int = len(ASKED)) -> OpenSheet:
    """Questions of different lengths, both label sets and both orders."""
    questions = [PLAN.questions[index] for index in ASKED[:count]]
    texts = [PLAN.texts()[index] for index in ASKED[:count]]
    return respondent.sheet(texts, [q.labels for q in questions], [q.options for q in questions])


def noise(frozen: FrozenModel, count: int, tokens: int = 2) -> torch.Tensor:
    mean, spread = frozen.embedding_statistics
    return mean + spread * torch.randn(count, tokens, frozen.hidden, generator=torch.Generator().manual_seed(1))


def greedy(frozen: FrozenModel, prompt: torch.Tensor, sheet: OpenSheet, question: int, steps: int) -> str:
    """The likeliest tokens one after the other: no cache, no batch, no padding."""
    before, after = (torch.tensor(part[question], dtype=torch.long) for part in (sheet.before, sheet.after))
    said: list[int] = []
    with torch.inference_mode():
        for _ in range(steps):
            later = torch.tensor([*after.tolist(), *said], dtype=torch.long)
            inputs = torch.cat([frozen.embeddings(before), prompt, frozen.embeddings(later)])[None]
            said.append(int(frozen.model(inputs_embeds=inputs, use_cache=False).logits[0, -1].argmax()))
            if said[-1] == frozen.tokenizer.eos_token_id:
                break
    return str(frozen.tokenizer.decode(said, skip_special_tokens=True)).strip().partition("\n")[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_answers_of_a_padded_batch_are_those_of_a_row_at_a_time_on_every_family(
    name: str, tmp_path: Path
) -> None:
    build(name, tmp_path)
    frozen = load_model(ModelSpec(name=str(tmp_path), device="cpu"))
    prompts = noise(frozen, 2, tokens=3)
    for placement in PLACEMENTS:
        respondent = SampledRespondent(frozen, placement, temperature=0, max_new_tokens=5)
        sheet = ask(respondent)
        respondent.answer(prompts, sheet)
        for said in respondent.transcript:
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
    assert sampled.asked == count
    assert sampled.invalid_rate < 0.1


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
    habits = {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "do_sample": True, "temperature": 0.1, "top_k": 1}
    GenerationConfig(eos_token_id=1, pad_token_id=1, **habits).save_pretrained(tmp_path)
    transcripts = []
    for frozen in (pocket, load_model(ModelSpec(name=str(tmp_path), device="cpu"))):
        respondent = SampledRespondent(frozen, temperature=2.0, max_new_tokens=12)
        respondent.answer(noise(frozen, 3), ask(respondent))
        transcripts.append(respondent.transcript)
    assert transcripts[0] == transcripts[1]


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
    assert respondent.asked == 2100
    assert len(kept) == TRANSCRIPT
    assert min(kept.count(candidate) for candidate in range(3)) > 600


def test_words_are_read_where_the_option_texts_are_known(pocket: FrozenModel) -> None:
    respondent = SampledRespondent(pocket, temperature=0, max_new_tokens=12)
    text = "Question: May I come a little late?\nAnswer:"
    unread = respondent.answer(torch.zeros(1, 0, pocket.hidden), respondent.sheet([text], ["AB"]))
    assert np.isnan(unread).all()
    assert respondent.invalid_rate == 1.0
    said = respondent.transcript[0].text
    read = respondent.answer(torch.zeros(1, 0, pocket.hidden), respondent.sheet([text], ["AB"], [(said, "never")]))
    assert read.tolist() == [[[1.0, 0.0]]]
    assert (respondent.asked, respondent.invalid, respondent.invalid_rates.tolist()) == (2, 1, [0.0])


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
    assert respondent.invalid == len(ASKED) + clean.invalid - int(np.isnan(expected[1]).any(axis=-1).sum())


def test_memory_that_runs_out_makes_batches_smaller_and_changes_no_answer() -> None:
    frozen = load_model(ModelSpec(device="cpu"))
    large = SampledRespondent(frozen)
    large.answer(noise(frozen, 6), ask(large))
    for rows in (5, 0):  # that fit into memory

        def refuse(_: Any, args: Any, kwargs: dict[str, Any], most: int = rows) -> None:
            given = kwargs["input_ids"] if kwargs.get("inputs_embeds") is None else kwargs["inputs_embeds"]
            if len(given) > most:
                raise torch.OutOfMemoryError("out of memory")

        frozen.model.register_forward_pre_hook(refuse, with_kwargs=True)
        small = SampledRespondent(frozen)
        if rows:
            small.answer(noise(frozen, 6), ask(small))
            assert small.batch_tokens < large.batch_tokens
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
        ({"temperature": -0.1}, "temperature=-0.1 must be a finite number of at least 0"),
        ({"temperature": float("nan")}, "temperature=nan must be"),
        ({"temperature": "hot"}, "temperature='hot' must be"),
        ({"top_p": 0.0}, "top_p=0.0 must be a number greater than 0 and at most 1"),
        ({"top_p": 1.5}, "top_p=1.5 must be"),
        ({"samples": 0}, "samples=0 must be a whole number of at least 1"),
        ({"samples": 1.5}, "samples=1.5 must be"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be"),
        ({"seed": -1}, "seed=-1 must be a whole number of at least 0"),
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
