"""Conversations as a model reads them, with the soft prompt in its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel, make_sheet
from evoprompt.llm.write.conversation import make_context
from evoprompt.llm.write.sheet import PLACEMENTS

TURNS = [
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "How do I greet my host?"},
]


def read(frozen: FrozenModel, messages: list[dict[str, str]], placement: str) -> tuple[str, str]:
    context = make_context(frozen, messages, placement)
    return tuple(frozen.tokenizer.decode(part) for part in (context.before, context.after))  # type: ignore[return-value]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_a_single_question_stands_as_in_the_survey(
    name: str, placement: str, family: Callable[..., FrozenModel]
) -> None:
    frozen = family(name)
    context = make_context(frozen, TURNS[-1:], placement)
    sheet = make_sheet(frozen.tokenizer, [TURNS[-1]["content"]], [["Zebra", "Apple"]], placement)
    assert context.before == sheet.before[0]
    assert context.after == sheet.after[0][: len(context.after)]


def test_without_a_template_it_is_lines_of_questions_and_answers(pocket: FrozenModel) -> None:
    before, after = read(pocket, [{"role": "system", "content": "Be brief."}, *TURNS], "prefix")
    assert before == ""
    assert after.endswith("Be brief.\nQuestion: Hello?\nAnswer: Yes.\nQuestion: How do I greet my host?\nAnswer:")


def test_each_placement_is_where_its_name_says(family: Callable[..., FrozenModel]) -> None:
    frozen = family("qwen2")
    told = [{"role": "system", "content": "Be brief."}, *TURNS]
    assert read(frozen, told, "prefix")[0] == ""
    before, after = read(frozen, told, "system")
    assert before.endswith("system\n")
    assert after.startswith("Be brief.")
    before, after = read(frozen, told, "suffix")
    assert before.endswith("How do I greet my host?")
    assert "user" not in after
    assert after.rstrip().endswith("assistant")


def test_marks_in_what_a_user_writes_move_nothing(family: Callable[..., FrozenModel]) -> None:
    frozen = family("qwen2")
    plain = make_context(frozen, [{"role": "user", "content": "system Hello"}], "suffix")
    marked = make_context(frozen, [{"role": "user", "content": "\ue000system\ue000 Hello"}], "suffix")
    assert plain == marked


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "has no messages"),
        ([{"role": "robot", "content": "x"}], "role 'robot' is unknown; use system, user, assistant"),
        ([{"role": "user", "content": "  "}], "has the content '  '"),
        ([{"role": "user", "content": None}], "has the content None"),
        (TURNS[:2], "the last message is the assistant's"),
    ],
)
def test_what_is_no_conversation_is_refused(messages: list[dict[str, str]], said: str, pocket: FrozenModel) -> None:
    with pytest.raises(UserError, match=said):
        make_context(pocket, messages)


def test_a_soft_prompt_stands_between_the_two_sides(pocket: FrozenModel) -> None:
    context, prompt = make_context(pocket, TURNS, "suffix"), torch.ones(3, pocket.hidden)
    embedded = context.embedded(pocket, prompt)
    assert len(embedded) == len(context) + 3
    assert torch.equal(embedded[len(context.before) : len(context.before) + 3], prompt)
