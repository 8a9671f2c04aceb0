"""Option probabilities of the bundled model: what an answer depends on, what it costs, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, Sheet, load_model
from evoprompt.llm.load.memory import peak_bytes
from evoprompt.llm.score.tree_attention import TOGETHER
from evoprompt.llm.score.trie import grow, split
from evoprompt.llm.write.sheet import PLACEMENTS
from evoprompt.surveys import balanced_plan, full_plan, sample_respondents, vsm13

PLAN = balanced_plan(vsm13(), respondents=sample_respondents(4, 0))
TEXTS, LABELS = PLAN.texts(), [question.labels for question in PLAN.questions]

OUT_OF_MEMORY = """
import re, resource
from pathlib import Path
import numpy as np
import torch
from evoprompt.llm import ModelSpec, Respondent, load_model
from test_respondent import LABELS, TEXTS, soft

def answers(placement, budget, spare=None):
    respondent = Respondent(load_model(ModelSpec(device="cpu", token_budget=budget)), placement)
    sheet = respondent.sheet(TEXTS, LABELS)
    if spare:
        used = 1024 * int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        resource.setrlimit(resource.RLIMIT_AS, (used + spare, used + spare))
    return respondent.answer(soft(respondent.frozen, {candidates}), sheet), respondent.budget

expected, _ = answers({placement!r}, None)
found, budget = answers({placement!r}, 3_000_000, spare={spare} << 20)
print(budget.halved > 0, budget.limit("cascade") < 1_000_000, np.array_equal(found, expected))
"""


def soft(frozen: FrozenModel, count: int, tokens: int = 4) -> torch.Tensor:
    """Soft prompts (count, tokens, H)."""
    return 0.3 * torch.randn(count, tokens, frozen.hidden, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("placement", ["prefix", "system"])
def test_an_answer_depends_on_its_candidate_alone_to_the_last_bit(pocket: FrozenModel, placement: str) -> None:
    respondent = Respondent(pocket, placement)
    sheet, prompts = respondent.sheet(TEXTS, LABELS), soft(pocket, 5)
    together = respondent.answer(prompts, sheet)
    alone = np.concatenate([respondent.answer(prompt[None], sheet) for prompt in prompts])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, respondent.answer(prompts, sheet))


def test_suffix_answers_depend_on_neighbours_by_no_more_than_rounding(pocket: FrozenModel) -> None:
    respondent = Respondent(pocket, "suffix")
    sheet, prompts = respondent.sheet(TEXTS, LABELS), soft(pocket, 5)
    together = respondent.answer(prompts, sheet)
    alone = np.concatenate([respondent.answer(prompt[None], sheet) for prompt in prompts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_smaller_token_budget_changes_no_number(pocket: FrozenModel) -> None:
    prompts = soft(pocket, 3)
    answers = []
    for budget in (None, 300, 700):
        respondent = Respondent(load_model(ModelSpec(device="cpu", token_budget=budget)))
        answers.append(respondent.answer(prompts, respondent.sheet(TEXTS, LABELS)))
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])


@pytest.mark.system
@pytest.mark.parametrize(("placement", "candidates", "spare"), [("prefix", 16, 100), ("suffix", 64, 60)])
def test_a_budget_forced_too_high_recovers_and_no_number_changes(placement: str, candidates: int, spare: int) -> None:
    """The memory limit is the kernel's own, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY.format(placement=placement, candidates=candidates, spare=spare)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.stdout.split() == ["True"] * 3, done.stderr


@pytest.mark.parametrize("placement", ["prefix", "suffix"])
def test_a_pass_takes_the_memory_that_its_budget_predicts(pocket: FrozenModel, placement: str) -> None:
    respondent = Respondent(pocket, placement)
    sheet, prompts = respondent.sheet(TEXTS, LABELS), soft(pocket, 40)
    respondent.answer(prompts, sheet)  # what a layout keeps is there, and what a token costs is known
    predicted = respondent.pass_tokens(sheet, 4, 40) * respondent.budget.bytes_per_token["cascade", 4]
    found = peak_bytes(pocket.device, lambda: respondent.answer(prompts, sheet))
    assert abs(found / predicted - 1) < 0.1


def test_no_candidates_have_no_answers(pocket: FrozenModel) -> None:
    respondent = Respondent(pocket)
    sheet = respondent.sheet(TEXTS, LABELS)
    assert respondent.answer(torch.zeros(0, 4, pocket.hidden), sheet).shape == (0, len(TEXTS), len(LABELS[0]))


def test_an_unknown_placement_is_refused_at_once(pocket: FrozenModel) -> None:
    with pytest.raises(UserError, match=r"placement 'middle'.*prefix, suffix, system"):
        Respondent(pocket, "middle")


@pytest.mark.parametrize("candidates", [16, 17, 33])
def test_one_candidate_more_costs_no_more_than_a_group(pocket: FrozenModel, candidates: int) -> None:
    respondent = Respondent(pocket, "suffix")
    sheet = respondent.sheet(TEXTS, LABELS)
    for part in respondent._served(sheet, 4, candidates):
        width = part.path.width
        assert candidates <= width * -(-candidates // width) < candidates + TOGETHER


def test_equal_candidates_are_computed_once(pocket: FrozenModel) -> None:
    respondent = Respondent(pocket)
    sheet, prompts = respondent.sheet(TEXTS, LABELS), soft(pocket, 2)
    passes = []
    hook = pocket.model.get_decoder().register_forward_hook(lambda *_: passes.append(1))
    try:
        respondent.answer(prompts, sheet)  # layouts are made and checked
        passes.clear()
        few = respondent.answer(prompts, sheet)
        for_few = len(passes)
        passes.clear()
        many = respondent.answer(prompts[[0, 1, 0, 0, 1, 1, 0, 0]], sheet)
    finally:
        hook.remove()
    assert len(passes) == for_few
    np.testing.assert_array_equal(many, few[[0, 1, 0, 0, 1, 1, 0, 0]])


def test_the_shared_beginnings_of_questions_are_computed_once(pocket: FrozenModel) -> None:
    prefix, suffix = Respondent(pocket), Respondent(pocket, "suffix")
    sheet = prefix.sheet(TEXTS, LABELS)
    tokens = sum(len(after) + 4 for after in sheet.after)
    assert prefix.computed_tokens(sheet, 4) < 0.5 * tokens
    assert suffix.computed_tokens(suffix.sheet(TEXTS, LABELS), 4) == 4 * len(TEXTS)


def test_a_bare_model_is_asked_with_no_soft_tokens_alike_under_every_placement(pocket: FrozenModel) -> None:
    plan = full_plan(vsm13(), "held_out")
    found = []
    for placement in PLACEMENTS:
        respondent = Respondent(pocket, placement)
        sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
        found.append(respondent.answer(torch.zeros(1, 0, pocket.hidden), sheet))
    np.testing.assert_allclose(found[0].sum(axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_nan_in_a_prompt_gives_nan_for_it_alone(pocket: FrozenModel, placement: str) -> None:
    respondent = Respondent(pocket, placement)
    sheet, prompts = respondent.sheet(TEXTS, LABELS), soft(pocket, 4)
    clean = respondent.answer(prompts, sheet)
    prompts[1] = torch.nan
    found = respondent.answer(prompts, sheet)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2, 3]], clean[[0, 2, 3]], atol=1e-5)


def test_labels_of_several_tokens_are_scored_as_sequences(pocket: FrozenModel) -> None:
    respondent = Respondent(pocket)
    texts = ["\nQuestion: how often?\nAnswer:", "\nQuestion: how much?\nAnswer:"]
    labels = [("very often", "very rarely", "never"), ("very much", "a little", "very little indeed")]
    sheet, prompt = respondent.sheet(texts, labels), soft(pocket, 1)
    assert max(len(label) for options in sheet.options for label in options) > 1
    found = respondent.answer(prompt, sheet)[0]
    for question in range(2):
        scores = []
        for label in sheet.options[question]:
            ids = torch.tensor(sheet.after[question] + label)
            with torch.inference_mode():
                inputs = torch.cat([prompt[0], pocket.embeddings(ids)])[None]
                steps = torch.log_softmax(pocket.model(inputs_embeds=inputs).logits[0, -1 - len(label) : -1], dim=-1)
            scores.append(float(steps[torch.arange(len(label)), torch.tensor(label)].sum()))
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(found[question], expected, atol=1e-5)
        mass = respondent.label_mass(prompt, sheet)[0, question]
        assert mass == pytest.approx(np.exp(scores).sum(), rel=1e-3)


def test_the_pocket_model_answers_with_labels(pocket: FrozenModel) -> None:
    respondent = Respondent(pocket)
    mass = respondent.label_mass(torch.zeros(1, 0, pocket.hidden), respondent.sheet(TEXTS, LABELS))
    assert mass.shape == (1, len(TEXTS))
    assert (mass > 0.99).all()
    assert (mass <= 1 + 1e-5).all()


def test_a_context_that_is_too_long_names_the_lengths_and_the_text(pocket: FrozenModel) -> None:
    respondent = Respondent(pocket)
    sheet = respondent.sheet(["word " * 1200 + "\nQuestion: what?\nAnswer:"], [("A", "B")])
    said = r"longest question needs \d+ tokens with its \d+ soft tokens, the model takes 1024.*Question: what\?"
    with pytest.raises(UserError, match=said):
        respondent.answer(torch.zeros(1, 0, pocket.hidden), sheet)


def test_prompts_of_another_width_are_refused(pocket: FrozenModel) -> None:
    respondent = Respondent(pocket)
    with pytest.raises(ValueError, match=r"must be \(P, T, 128\), got \(2, 4, 64\)"):
        respondent.answer(torch.zeros(2, 4, 64), respondent.sheet(TEXTS[:1], LABELS[:1]))


sequences = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8).map(tuple), min_size=1, max_size=20)


@given(sequences, st.integers(0, 3), st.booleans(), st.integers(1, 30))
def test_a_trie_holds_every_context_once(found: list[tuple[int, ...]], tokens: int, suffix: bool, most: int) -> None:
    nothing = ((),) * len(found)
    before, after = (tuple(found), nothing) if suffix else (nothing, tuple(found))
    options = (((5,), (6, 7), (6, 8)),) * len(found)
    sheet = Sheet(before, after, options, "suffix" if suffix else "prefix", (("a", "b", "c"),) * len(found), nothing)
    parts = split(sheet, tokens, most)
    assert sorted(question for part in parts for question in part) == list(range(len(found)))
    for part in parts:
        trie = grow(sheet, part, tokens)
        soft_tokens = tuple(range(-1, -1 - tokens, -1))
        contexts = {
            (before[q] + soft_tokens + after[q] + more)[:length]
            for q in part
            for more in ((), (6,))
            for length in range(1, len(found[q]) + tokens + len(more) + 1)
        }
        paths = {tuple(trie.tokens[path[: k + 1]]) for path in trie.paths for k in range(len(path))}
        assert paths == contexts
        assert len(trie) == len(contexts)
        assert len(part) == 1 or trie.dynamic <= most
