"""Tokenised questions: where the soft prompt stands, and option labels as they occur in context."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, build
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel
from evoprompt.llm.write.sheet import PLACEMENTS, Sheet, make_sheet
from evoprompt.surveys import balanced_plan, sample_respondents, vsm13

TEXT = "Respondent: woman, 27, nurse.\nOptions: A = always; B = rarely.\nQuestion: How often?\nAnswer:"
LABELS = ("strongly agree", "strongly disagree", "no", "A", "B")
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 01 Jan 2025\n\n{system}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "{text}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)
CHATML = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
GEMMA = "<bos><start_of_turn>user\n{text}<end_of_turn>\n<start_of_turn>model\n"
PHI = "<|user|>\n{text}<|end|>\n<|assistant|>\n"
OLMO = "<|user|>\n{text}\n<|assistant|>\n"
UNTHINKING = "<think>\n\n</think>\n\n"
SHOWN = {  # without a soft prompt in the system turn, and with one there
    "llama": (LLAMA.replace("{system}", ""), LLAMA.replace("{system}", "@")),
    "qwen2": (CHATML.replace("{system}", QWEN), CHATML.replace("{system}", "@")),
    "qwen3": (CHATML.partition("<|im_end|>\n")[2] + UNTHINKING, CHATML.replace("{system}", "@") + UNTHINKING),
    "mistral": ("<s>[INST] {text}[/INST]", "<s>[INST] @\n\n{text}[/INST]"),
    "mixtral": ("<s>[INST] {text}[/INST]", "<s>[INST] @\n\n{text}[/INST]"),
    "gemma2": (GEMMA, GEMMA.replace("{text}", "@{text}")),
    "gemma3": (GEMMA, GEMMA.replace("{text}", "@\n\n{text}")),
    "phi3": (PHI, "<|system|>\n@<|end|>\n" + PHI),
    "olmo2": ("<|endoftext|>" + OLMO, "<|endoftext|><|system|>\n@\n" + OLMO),
}


@pytest.fixture(params=FAMILIES, scope="module")
def named(request: pytest.FixtureRequest, folder_of: Callable[[str], Path]) -> tuple[str, Any]:
    """Each family's name and its tokenizer, loaded from a user's folder."""
    return request.param, AutoTokenizer.from_pretrained(folder_of(request.param))


def one(tokenizer: Any, text: str, labels: tuple[str, ...], placement: str) -> Sheet:
    """The sheet of one question."""
    return make_sheet(tokenizer, [text], [labels], placement)


def pieces(tokenizer: Any, ids: tuple[int, ...]) -> list[str]:
    """What each token looks like in the vocabulary."""
    return list(tokenizer.convert_ids_to_tokens(list(ids)))


def expected(name: str, placement: str) -> str:
    """A family's prompt, with @ where the soft prompt stands."""
    plain, system = SHOWN.get(name, ("{text}", "@{text}"))
    shown = {"prefix": "@" + plain, "system": system, "suffix": plain.replace("{text}", "{text}@")}[placement]
    return shown.replace("{text}", TEXT)


def conversation(tokenizer: Any, text: str, label: str) -> list[int]:
    """Tokens of a text answered by a label, as an ordinary call gives them."""
    if tokenizer.chat_template is None:
        return tokenizer(f"{text} {label}").input_ids
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": label}]
    shown = tokenizer.apply_chat_template(turns, tokenize=False, date_string="01 Jan 2025")
    return tokenizer(shown, add_special_tokens=False).input_ids


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_soft_prompt_stands_where_its_placement_says(named: tuple[str, Any], placement: str) -> None:
    name, tokenizer = named
    sheet = one(tokenizer, TEXT, ("A", "B"), placement)
    around = [tokenizer.decode(ids) for ids in (sheet.before[0], sheet.after[0])]
    assert "@".join(around) == expected(name, placement)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_text_begins_once_and_does_not_end(named: tuple[str, Any], placement: str) -> None:
    name, tokenizer = named
    sheet = one(tokenizer, TEXT, ("A", "B"), placement)
    ids = sheet.before[0] + sheet.after[0]
    begins = "{{- bos_token }}" in (tokenizer.chat_template or "")
    assert ids.count(tokenizer.bos_token_id) == int(begins)
    assert not begins or ids[0] == tokenizer.bos_token_id
    assert FAMILIES[name].begins <= begins
    assert all(tokenizer.eos_token_id not in option for option in sheet.options[0])


@pytest.mark.parametrize("placement", ["prefix", "suffix"])
def test_labels_are_those_of_the_whole_conversation(named: tuple[str, Any], placement: str) -> None:
    _, tokenizer = named
    sheet = one(tokenizer, TEXT, LABELS, placement)
    for label, option in zip(LABELS, sheet.options[0], strict=True):
        ids = sheet.before[0] + sheet.after[0] + option
        assert ids == tuple(conversation(tokenizer, TEXT, label)[: len(ids)])
        assert tokenizer.decode(option).strip() == label
    assert len(sheet.options[0][0]) > 1
    assert sheet.options[0][0][0] == sheet.options[0][1][0]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_survey_of_several_personas_is_as_if_each_question_were_alone(named: tuple[str, Any], placement: str) -> None:
    _, tokenizer = named
    plan = balanced_plan(vsm13(), respondents=sample_respondents(3, 0))
    texts, labels = plan.texts("You live by the sea. " * 30), [question.labels for question in plan.questions]
    sheet = make_sheet(tokenizer, texts, labels, placement)
    assert len(sheet) == len(texts)
    for index in range(0, len(texts), 9):
        alone = one(tokenizer, texts[index], labels[index], placement)
        assert sheet.before[index] == alone.before[0]
        assert sheet.after[index] == alone.after[0]
        assert sheet.options[index] == alone.options[0]


@given(texts=st.lists(st.text(min_size=1), min_size=1, max_size=4), placement=st.sampled_from(PLACEMENTS))
def test_without_the_soft_prompt_the_tokens_are_those_of_the_whole_text(
    pocket: FrozenModel, texts: list[str], placement: str
) -> None:
    tokenizer, labels = pocket.tokenizer, ("A", "B", "zzqx", "qqzv")
    sheet = make_sheet(tokenizer, texts, [labels] * len(texts), placement)
    for text, before, after, options in zip(texts, sheet.before, sheet.after, sheet.options, strict=True):
        for label, option in zip(labels, options, strict=True):
            assert before + after + option == tuple(tokenizer(f"{text} {label}").input_ids)


@given(text=st.text(min_size=1))
def test_a_chat_template_keeps_any_text_whole(named: tuple[str, Any], text: str) -> None:
    _, tokenizer = named
    for placement in ("prefix", "suffix"):
        sheet = one(tokenizer, text, ("A", "B"), placement)
        ids = sheet.before[0] + sheet.after[0] + sheet.options[0][1]
        assert ids == tuple(conversation(tokenizer, text, "B")[: len(ids)])


def test_what_a_template_strips_does_not_move_the_soft_prompt(tmp_path: Path) -> None:
    build("gemma2", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    stripped, padded = (one(tokenizer, text, ("A", "B"), "suffix") for text in (TEXT, f" \n{TEXT} \n"))
    assert (stripped.before, stripped.after, stripped.options) == (padded.before, padded.after, padded.options)


def test_a_template_without_a_system_turn_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build("gemma2", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for placement in ("system", "system", "prefix"):
        one(tokenizer, TEXT, ("A", "B"), placement)
    assert [str(tmp_path) in message for message in caplog.messages] == [True]
    assert "start of the user's turn" in caplog.text


def test_plain_prompting_is_said_once_and_not_of_the_bundled_model(
    pocket: FrozenModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        one(pocket.tokenizer, TEXT, ("A", "B"), "prefix")
        assert not caplog.messages
        pocket.tokenizer.save_pretrained(tmp_path)
        for placement in PLACEMENTS:
            one(AutoTokenizer.from_pretrained(tmp_path), TEXT, ("A", "B"), placement)
    assert len(caplog.messages) == 1
    assert "has no chat template" in caplog.text


def characters(merges: tuple[tuple[str, str], ...] = (), **parts: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters and a few merges, that begins texts with <s>."""
    alphabet = sorted({character for pair in merges for character in "".join(pair)} | {*map(chr, range(10, 127)), "▁"})
    words = dict.fromkeys(["<unk>", "<s>", "</s>", *alphabet, *("".join(pair) for pair in merges)])
    model = models.BPE({word: index for index, word in enumerate(words)}, list(merges), unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", name_or_path="characters"
    )


@pytest.mark.parametrize("begins", ["", "{{ bos_token }}"])
def test_a_chat_begins_as_its_template_begins_it(begins: str) -> None:
    tokenizer = characters()
    tokenizer.chat_template = begins + "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    turns = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "1"}]
    whole = tuple(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False))
    for placement in PLACEMENTS:
        sheet = one(tokenizer, "Rain?", ("1", "2"), placement)
        ids = sheet.before[0] + sheet.after[0]
        assert ids.count(tokenizer.bos_token_id) == int(bool(begins))
        if placement != "system":
            assert ids == whole[: len(ids)]


def test_a_plain_text_has_the_system_prompt_right_after_its_beginning() -> None:
    tokenizer = characters()
    assert one(tokenizer, "Rain?", ("1", "2"), "system").before == ((tokenizer.bos_token_id,),)
    assert one(tokenizer, "Rain?", ("1", "2"), "prefix").before == ((),)


def test_a_plain_text_that_brings_its_beginning_gets_no_second_one() -> None:
    tokenizer = characters()
    brought, given = (one(tokenizer, text, ("1", "2"), "prefix").after[0] for text in ("<s>Rain?", "Rain?"))
    assert pieces(tokenizer, brought) == pieces(tokenizer, given) == ["<s>", *"Rain? "]


def test_an_end_that_the_tokenizer_writes_is_left_away() -> None:
    end = processors.TemplateProcessing("<s> $A </s>", "<s> $A $B </s>", [("<s>", 1), ("</s>", 2)])
    tokenizer = characters(post_processor=end)
    sheet = one(tokenizer, "Rain?", ("1", "2"), "prefix")
    assert pieces(tokenizer, sheet.after[0]) == ["<s>", *"Rain? "]
    assert [pieces(tokenizer, option) for option in sheet.options[0]] == [["1"], ["2"]]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("{{ strftime_now('%Y-%m-%d') }}", "2025-01-01"),
        ('{% set day = "%d %b %Y" %}{{ strftime_now(day) }}', "01 Jan 2025"),
        ("{{ strftime_now('%A %-d ' + '%B, %H:%M:%S') }}", "Wednesday 1 January, 00:00:00"),
        ("{% if strftime_now is defined %}{{ strftime_now('%%d %j') }}{% endif %}", "%d 001"),
        ("\n{% set now = strftime_now %}{{ now('%F') }}", "\n2025-01-01"),
    ],
)
def test_the_date_is_the_same_every_day(written: str, shown: str) -> None:
    tokenizer = characters()
    tokenizer.chat_template = written + " {{ messages[0].content }}"
    sheet = one(tokenizer, "Rain?", ("1", "2"), "prefix")
    assert "".join(pieces(tokenizer, sheet.after[0])) == f"{shown} Rain?"


def test_a_label_that_merges_with_what_stands_before_it_is_scored_as_it_stands() -> None:
    tokenizer = characters(((":", "A"),))
    tokenizer.chat_template = "{{ messages[0].content }}:{{ messages[1].content if messages[1:] }}"
    sheet = one(tokenizer, "Rain?", ("A", "B"), "prefix")
    assert pieces(tokenizer, sheet.after[0]) == [*"Rain?"]
    assert [pieces(tokenizer, option) for option in sheet.options[0]] == [[":A"], [":", "B"]]
    beside = one(tokenizer, "Rain?", ("A", "B"), "suffix")
    assert (beside.before[0], beside.after[0]) == (sheet.after[0], ())


def test_a_label_is_tokenised_as_it_goes_on_from_each_question() -> None:
    tokenizer = characters(((":", " "), (" ", "B")))
    texts, labels = ["Rain?", "Rain:", "Sun?"], ("A", "B")
    sheet = make_sheet(tokenizer, texts, [labels] * 3, "prefix")
    shown = [[pieces(tokenizer, option) for option in options] for options in sheet.options]
    assert shown == [[[" ", "A"], [" B"]], [["A"], ["B"]], [[" ", "A"], [" B"]]]
    assert pieces(tokenizer, sheet.after[1]) == ["<s>", *"Rain", ": "]


def test_where_a_token_spans_the_place_both_sides_are_tokenised_apart() -> None:
    tokenizer = characters((("?", ":"),))
    tokenizer.chat_template = "{{ messages[0].content }}:{{ messages[1].content if messages[1:] }}"
    sheet = one(tokenizer, "Rain?", ("A", "B"), "suffix")
    assert pieces(tokenizer, sheet.before[0]) == [*"Rain?"]
    assert pieces(tokenizer, sheet.after[0]) == [":"]


SPACED = (("▁", "R"), ("▁", "1"), ("▁", "2"), ("▁", "s"))
DUMMY_SPACE = {
    "as Llama 2's": {"normalizer": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])},
    "first": {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first")},
    "always": {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="always")},
    "words": {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first", split=False)},
}


@pytest.fixture(params=DUMMY_SPACE)
def sentencepiece(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Tokenizers that put a space in front of a text's beginning."""
    return characters(SPACED, decoder=decoders.Metaspace(), **DUMMY_SPACE[request.param])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_dummy_space_stands_only_where_the_text_has_it(
    sentencepiece: PreTrainedTokenizerFast, placement: str
) -> None:
    sheet = one(sentencepiece, "Rain?", ("1", "2", "5"), placement)
    ids = sheet.before[0] + sheet.after[0]
    assert pieces(sentencepiece, ids + sheet.options[0][0]) == ["<s>", "▁R", *"ain?", "▁1"]
    assert [pieces(sentencepiece, option) for option in sheet.options[0]] == [["▁1"], ["▁2"], ["▁", "5"]]


def test_what_goes_on_after_the_soft_prompt_gets_no_space(sentencepiece: PreTrainedTokenizerFast) -> None:
    sentencepiece.backend_tokenizer.model = models.BPE(
        sentencepiece.get_vocab() | {"ns": 999}, [*SPACED, ("n", "s")], unk_token="<unk>"
    )
    sentencepiece.chat_template = "{{ messages[0].content }}s {{ messages[1].content if messages[1:] }}"
    sheet = one(sentencepiece, "Rain", ("x", "y"), "suffix")
    assert pieces(sentencepiece, sheet.before[0]) == ["▁R", *"ain"]
    assert pieces(sentencepiece, sheet.after[0]) == ["s", "▁"]


def test_a_unigram_model_is_asked_with_the_tokens_that_its_text_has() -> None:
    words = [("<unk>", 0.0), ("<s>", 0.0), ("▁", -3.0), ("▁Rain", -2.0), ("?", -3.0), ("▁1", -2.0), ("1", -4.0)]
    backend = Tokenizer(models.Unigram([*words, ("2", -4.0), ("\n", -4.0)], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", name_or_path="unigram")
    for placement in PLACEMENTS:
        sheet = one(tokenizer, "Rain?", ("1", "2"), placement)
        assert pieces(tokenizer, sheet.before[0] + sheet.after[0]) == ["▁Rain", "?"]
        assert [pieces(tokenizer, option) for option in sheet.options[0]] == [["▁1"], ["▁", "2"]]


@pytest.mark.parametrize("labels", [("1", "2", "10"), ("yes", "no", "yes")])
def test_labels_that_begin_alike_to_the_end_are_named(labels: tuple[str, ...]) -> None:
    first, second = {"1": ("'1'", "'10'"), "yes": ("'yes'", "'yes'")}[labels[0]]
    with pytest.raises(UserError, match=f"does not tell the labels {first} and {second} apart") as refused:
        one(characters(), "Rain?", labels, "prefix")
    assert "\n" not in str(refused.value)


def test_labels_may_share_all_but_their_last_token() -> None:
    sheet = one(characters(), "Rain?", ("11", "12", "2"), "suffix")
    assert [pieces(characters(), option) for option in sheet.options[0]] == [["1", "1"], ["1", "2"], ["2"]]


@pytest.mark.parametrize(
    ("texts", "labels", "said"),
    [
        ([], [], "0 questions with 0 sets of labels; give one question or more"),
        (["a", "b"], [("A", "B")], "2 questions with 1 sets of labels"),
        (["Rain?"], [()], r"question 'Rain\?' has the labels \(\)"),
        (["Rain?"], [("", "B")], r"has the labels \('', 'B'\); give it labels that are not empty"),
        (["Rain?"], [("A", " \n")], "give it labels that are not empty"),
        (["a", "b"], [("A", "B"), ("A",)], r"questions have \[1, 2\] labels"),
        ([""], [("A", "B")], "question '' leaves no token to read an answer at"),
    ],
)
def test_what_nothing_can_be_asked_with_is_refused(
    texts: list[str], labels: list[tuple[str, ...]], said: str, pocket: FrozenModel
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        make_sheet(pocket.tokenizer, texts, labels)
    assert "\n" not in str(refused.value)


def test_an_empty_text_is_asked_where_the_tokenizer_begins_one() -> None:
    assert pieces(characters(), one(characters(), "", ("1", "2"), "prefix").after[0]) == ["<s>", " "]


@pytest.mark.parametrize(("text", "label"), [("Is it <new>?", "A"), ("Rain?", "<new>")])
def test_a_token_that_the_model_has_no_embedding_of_is_named(text: str, label: str) -> None:
    tokenizer = characters()
    known = len(tokenizer)
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(UserError, match=f"'<new>' as token {known}, the model has {known} embeddings"):
        make_sheet(tokenizer, [text], [(label, "B")], vocabulary=known)
    assert make_sheet(tokenizer, [text], [(label, "B")], vocabulary=known + 1)
    assert make_sheet(tokenizer, ["Rain?"], [("A", "B")], vocabulary=known)


THINKING = {  # how a template writes an answer, and what then stands between the prompt and the answer
    "earlier thoughts left out": ("<a>{{ m.content.split('</think>')[-1] }}", "\n</think>\n\n"),
    "a thought always there": ("<a><think>\n\n</think>\n\n{{ m.content }}", "\n</think>\n\n"),
    "thoughts kept as they were given": ("<a>{{ m.content }}", "\n</think>\n\n"),
    "spaced": ("<a><think>\n </think> {{ m.content }}", " </think> "),
}


@pytest.mark.parametrize("answer", THINKING)
def test_a_thought_that_the_prompt_opens_is_closed_before_the_answer(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = characters()
    written, between = THINKING[answer]
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}" + written + "{% else %}{{ m.content }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<a><think>\n{% endif %}"
    )
    for placement in ("prefix", "suffix"):
        sheet = one(tokenizer, "Rain?", ("1", "2"), placement)
        asked = "".join(pieces(tokenizer, sheet.before[0] + sheet.after[0]))
        assert asked == "Rain?<a><think>\n" + between
    assert not caplog.messages


def test_a_thought_that_nothing_shows_how_to_close_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = characters()
    tokenizer.name_or_path = "open thoughts"
    tokenizer.chat_template = "{{ messages[0].content }}<a><think>"
    for placement in PLACEMENTS:
        assert pieces(tokenizer, one(tokenizer, "Rain?", ("1", "2"), placement).after[0])[-1] == ">"
    said = [message for message in caplog.messages if "'<think>'" in message]
    assert len(said) == 1
    assert "'open thoughts'" in said[0]


def test_a_template_that_drops_the_question_behind_a_system_turn_has_no_system_turn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer = characters()
    tokenizer.chat_template = "Q: {{ messages[0].content }}"
    sheet = one(tokenizer, "Rain?", ("1", "2"), "system")
    assert pieces(tokenizer, sheet.before[0]) == [*"Q: "]
    assert pieces(tokenizer, sheet.after[0]) == [*"Rain?"]
    assert "has no system turn" in caplog.text


def test_an_unknown_placement_is_refused(pocket: FrozenModel) -> None:
    with pytest.raises(UserError, match="placement 'middle' is unknown; use prefix, system, suffix"):
        one(pocket.tokenizer, TEXT, ("A", "B"), "middle")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('tools are needed') }}", "fails on a user's turn: tools are needed"),
        ("{{ messages[0].content[0].text + '' }}", "fails on a user's turn"),
        ({"tools": "{{ messages[0].content }}"}, "fails on a user's turn"),
        ("Hello", "does not show 'Rain"),
    ],
)
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_template_that_takes_no_question_is_refused(
    template: str | dict[str, str], said: str, placement: str
) -> None:
    tokenizer = characters()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=said) as refused:
        one(tokenizer, "Rain?", ("1", "2"), placement)
    assert "\n" not in str(refused.value)
