"""Free-text answers: what counts as choosing an option."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprompt.llm.speak.parsing import LONGEST, parse_answer
from evoprompt.surveys import vsm13

DIGITS, LETTERS = tuple("12345"), tuple("ABCDE")
SCALES = vsm13().scales
IMPORTANCE, FREQUENCY, HEALTH = SCALES["importance"], SCALES["frequency"], SCALES["health"]
AGREEMENT = SCALES["agreement"]
NESTED = ("important", "very important", "not important", "so so", "no idea")
ROMAN = ("I", "II", "III")


@pytest.mark.parametrize(
    "form", ["{}", " {}.", "{})", "({})", "[{}]", "**{}**", '"{}"', "#{}", "{}\n", "\\boxed{{{}}}"]
)
@pytest.mark.parametrize("lead", ["", "Answer: ", "Answer:", "My answer is ", "I would say ", "I'd say it's "])
def test_a_label_in_any_usual_form_is_read(lead: str, form: str) -> None:
    for labels in (DIGITS, LETTERS):
        for index, label in enumerate(labels):
            assert parse_answer(lead + form.format(label), labels, IMPORTANCE) == index


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 = very important", 1),
        ("I would say 2, very important", 1),
        ("2 very important", 1),
        ("2 because time at home matters", 1),
        ("2. Because I have 3 children", 1),
        ("2 out of 5", 1),
        ("Definitely 2!", 1),
        ("On a scale from 1 to 5, I would say 2", 1),
        ("Options: 1 = always; 2 = often. Answer: 2", 1),
        ("2\nOptions: 1 = always; 2 = often", 1),
        ("The answer is:\n\n2", 1),
        ("２", 1),
        ("②", 1),
        ("2 = utmost importance", None),
        ("", None),
        ("12", None),
        ("in 2023", None),
        ("2.5", None),
        ("-2", None),
        ("2%", None),
        ("2/5", None),
        ("½", None),
        ("1-5", None),
        ("2 or 3", None),
        ("Answer: 2, 3", None),
        ("On a scale of 1 to 5", None),
        ("There are 2 reasons", None),
        ("1 = utmost importance; 2 = very important; 3 = fairly important", None),
        ("Answer: 1 = utmost importance; 2 = very important", None),
        ("1. utmost importance 2. very important 3. fairly important", None),
        ("I would not say 2", None),
        ("I don't think it's 3", None),
    ],
)
def test_digits(text: str, expected: int | None) -> None:
    assert parse_answer(text, DIGITS, IMPORTANCE) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Option B", 1),
        ("option b", 1),
        ("Option A is best", 0),
        ("B - often", 1),
        ("B: often", 1),
        ("B often", 1),
        ("often (B)", 1),
        ("b", 1),
        ("b) often", 1),
        ("(b)", 1),
        ("a", 0),
        ("A, always", 0),
        ("Answer: a", 0),
        ("my choice is (d).", 3),
        ("The answer is A because it never fails", 0),
        ("My answer is B, not C", 1),
        ("B, not C", 1),
        ("B rather than C", 1),
        ("I choose B over C", 1),
        ("Not B but C", 2),
        ("B. C would be too much", 1),
        ("B. A good boss matters", 1),
        ("I'm not sure but B", 1),
        ("A good boss matters", None),
        ("It is a matter of a person", None),
        ("the answer is a good one", None),
        ("the option a person takes", None),
        ("I'd", None),
        ("I live in the U.S.A.", None),
        ("E.g. this", None),
        ("B or C", None),
        ("B/C", None),
        ("not B", None),
        ("not B or C", None),
        ("My answer is B. No, my answer is C", None),
        ("A) always\nB) often", None),
    ],
)
def test_letters(text: str, expected: int | None) -> None:
    assert parse_answer(text, LETTERS, FREQUENCY) == expected


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("very important", IMPORTANCE, 1),
        ("Very Important.", IMPORTANCE, 1),
        ("very important", NESTED, 1),
        ("It is important to me", NESTED, 0),
        ("It is not important", NESTED, 2),
        ("not important (5)", IMPORTANCE, 4),
        ("not very important", IMPORTANCE, None),
        ("I strongly disagree", AGREEMENT, 4),
        ("I agree with that", AGREEMENT, 1),
        ("I do not agree", AGREEMENT, None),
        ("very good, thanks", HEALTH, 0),
        ("That is a very good question", HEALTH, None),
        ("I often think that", FREQUENCY, None),
        ("often or rarely", FREQUENCY, None),
    ],
)
def test_option_texts(text: str, options: tuple[str, ...], expected: int | None) -> None:
    assert parse_answer(text, DIGITS, options) == expected
    if expected is not None and "5" not in text:
        assert parse_answer(text, DIGITS) is None, "without options only labels are read"


def test_an_article_before_its_own_options_text_is_no_label() -> None:
    assert parse_answer("a very good question", LETTERS, HEALTH) is None
    assert parse_answer("A very good question", LETTERS, HEALTH) is None
    assert parse_answer("A: very good", LETTERS, HEALTH) == 0


def test_a_pronoun_is_no_label() -> None:
    assert parse_answer("I, as a teacher, would not know", ROMAN) is None
    assert parse_answer("I", ROMAN) == 0
    assert parse_answer("I would say II", ROMAN) == 1


def test_labels_that_differ_in_case_alone_are_read_as_shown() -> None:
    assert [parse_answer(f"({label})", ("x", "X")) for label in "xX"] == [0, 1]


CHOSEN = [
    "{}",
    "{}.",
    " {}\n",
    "({})",
    "[{}]",
    "{})",
    "**{}**",
    "**{}.**",
    "{} - {text}",
    "{}: {text}",
    "{}. {text}",
    "{}) {text}",
    "{} = {text}",
    "{} ({text})",
    "**{} = {text}**",
    "{}, {text}",
    "{text}",
    "{text} ({})",
    "{text}, so {}",
    "Answer: {}",
    "Answer: {}.",
    "The answer is {}",
    "I would say {}",
    "I'd go with {}.",
    "I choose {} because it matters",
    "{} because it matters",
    "{} rather than that",
    "{}, because it matters",
    "{}, I think",
    "{} - it matters to me",
    "{}; it matters",
    "Definitely {}!",
    "It's a {}",
    "For me, {}.",
    "It would be {}",
    "Option {}",
    "Option: {}",
    "option {} for sure",
    "I'm not sure but {}",
    "I give it a {}.",
    "My rating is {}/",
    "On a scale of 1 to 5, {}",
    "On a scale from 1 to 5, I would say {}",
    "On a scale of 1-5: {}",
    "Options: {} = {text}; {other} = {other_text}. Answer: {}",
    "Not {other} but {}",
    "{}, not {other}",
    "{} rather than {other}",
]
UNCHOSEN = [
    "{} or {other}",
    "{} and {other}",
    "Either {} or {other}",
    "both {} and {other}",
    "between {} and {other}",
    "{}/{other}",
    "{} / {other}",
    "{}|{other}",
    "{}, {other}",
    "{} {other}",
    "{}  {other}",
    "({}) {other}",
    "{}, maybe {other}",
    "{} maybe {other}",
    "{}, or maybe {other}",
    "{}, possibly even {other}.",
    "{} then {other}",
    "{} but also {other}",
    "{} to {other}",
    "{} to {other}.",
    "({}) to ({other})",
    "{} – {other}",
    "{} through {other}",
    "Answer: {} or {other}",
    "Answer: {}, {other}",
    "I would say {} to {other}",
    "My answer is {} and {other}",
    "I choose {} but {other}",
    "{text} or {other_text}",
    "{text}, {other_text}",
    "{text} to {other_text}",
    "{} = {text}; {other} = {other_text}",
    "{}. {text} {other}. {other_text}",
    "{}) {text}, {other}) {other_text}",
    "Options: {} = {text}; {other} = {other_text}",
    "Options: {} = {text}",
    "The scale is: {} = {text}.",
    "On a scale of {}",
    "On a scale of {}.",
    "On a scale from {}",
    "On a scale of {} to",
    "On a scale of {} to {other},",
    "On a scale of {} ({text}) to {other} ({other_text})",
    "On a scale from {} = {text} to {other} = {other_text}, I",
    "On a scale where {} is {text}",
    "From {}",
    "from {} to {other}:",
    "Step {}:",
    "Step {}: think",
    "All {}",
    "All {}.",
    "Of the {}",
    "of the {}.",
    "Question {}:",
    "Q: {}",
    "Q1: {}",
    "User: {}",
    "Human: {}",
    "I have {}.",
    "There are {}.",
    "My first {}.",
    "not {}",
    "I would not say {}",
    "{} of {other}",
]
CHOSEN_CUT = [
    "{}",
    "{}.",
    "**{}**",
    "{}\n",
    "({}",
    "{}, because I think that family",
    "{}, because",
    "{} because I think",
    "{}. I think that my family",
    "({}) I think that",
    "{} - I think that",
    "{}; I think",
    "{}, not",
    "{} - {text}",
    "{}. {text}",
    "{} = {text}. I",
    "{} = {text}, since my",
    "{text}",
    "{text}, because I",
    "I would say {}.",
    "I would say {}, because",
    "The answer is ({})",
    "**{} = {text}**. I think",
]
UNCHOSEN_CUT = [
    "I would say {}",
    "The answer is {}",
    "I think that it is {}",
    "Definitely {}",
    "{},",
    "{} ,",
    "{} or",
    "{}, or",
    "{} and",
    "{} to",
    "{} -",
    "{}/",
    "{}:",
    "{}, maybe",
    "{}, or maybe",
    "{} =",
    "{} = {text}",
    "{} = {text};",
    "{} = {text}, ",
    "{} = utm",
    "{text} or",
    "{text},",
    "{text}, or",
    "{} {other}",
    "{}, {other}",
    "{}. {text} {other}",
    "{}. {text}, {other}.",
    "{}. {text} {other}. ve",
    "{} = {text}; {other} = ve",
    "{}, {other},",
    "On a scale of {}",
    "On a scale of {} to {other}",
    "On a scale of {} to {other}, I would",
    "On a scale from {} ({text}) to {other}",
    "Step {}",
]


@pytest.mark.parametrize("options", [IMPORTANCE, FREQUENCY, HEALTH, AGREEMENT])
@pytest.mark.parametrize(
    ("forms", "complete", "read"),
    [(CHOSEN, True, True), (UNCHOSEN, True, False), (CHOSEN_CUT, False, True), (UNCHOSEN_CUT, False, False)],
)
def test_what_is_read_is_the_same_for_every_label(
    forms: list[str], complete: bool, read: bool, options: tuple[str, ...]
) -> None:
    for form in forms:
        for labels in (DIGITS, LETTERS):
            for index, label in enumerate(labels):
                other = (index + 1) % 5
                parts = {"text": options[index], "other": labels[other], "other_text": options[other]}
                text = form.replace("{}", label).format(**parts)
                found = parse_answer(text, labels, options, complete=complete)
                assert found == (index if read else None), f"{text!r} of {labels}, complete={complete}"


def test_a_text_that_may_go_on_to_be_another_is_no_answer_where_it_was_cut() -> None:
    options = ("no", "no idea", "yes")
    assert parse_answer("no", "123", options) == 0
    assert parse_answer("no", "123", options, complete=False) is None
    assert parse_answer("no.", "123", options, complete=False) == 0


def test_a_text_too_long_to_be_read_to_its_end_was_cut() -> None:
    filling = "word " * (LONGEST // 5 - 1)
    assert parse_answer(f"{filling}so 2", DIGITS) == 1
    assert parse_answer(f"{filling}so 2    {filling}", DIGITS) is None


def test_a_long_text_is_read_in_no_time() -> None:
    began = time.process_time()
    for text in ("2 = " * 50_000, "([" * 50_000, "say " + " " * 100_000 + "2" + " not" * 50_000):
        parse_answer(text, DIGITS, IMPORTANCE)
    assert time.process_time() - began < 2.0


LEADS = st.sampled_from(["", "Answer: ", "answer is ", "I would say ", "I choose ", "Option ", "Sure! ", "My choice: "])
WRAPPINGS = st.sampled_from(["{}", "({})", "[{}]", "{})", "**{}**", "'{}'", "“{}”", "{{{}}}", "<{}>", "`{}`"])
TAILS = st.sampled_from(
    ["", ".", "!", "\n", " because of that", ", I think", " = {}", ", {}", " - {}", ": {}", " ({})"]
)


@given(lead=LEADS, wrapping=WRAPPINGS, tail=TAILS, labels=st.sampled_from([DIGITS, LETTERS]), data=st.data())
def test_a_label_in_any_lead_wrapping_and_tail_parses_to_itself(
    lead: str, wrapping: str, tail: str, labels: tuple[str, ...], data: st.DataObject
) -> None:
    options = data.draw(st.sampled_from(sorted(SCALES.values())))
    index = data.draw(st.integers(0, 4))
    text = lead + wrapping.format(labels[index]) + tail.format(options[index])
    assert parse_answer(text, labels, options) == index


@given(
    text=st.text(),
    labels=st.sampled_from([DIGITS, LETTERS, ROMAN]),
    options=st.sampled_from([(), IMPORTANCE, NESTED]),
)
def test_any_text_gives_an_option_that_exists_or_none(
    text: str, labels: tuple[str, ...], options: tuple[str, ...]
) -> None:
    found = parse_answer(text, labels, options)
    assert found is None or 0 <= found < max(len(labels), len(options))
    assert parse_answer(text, labels, options) == found


WORDS = ["the", "a", "A", "good", "boss", "of", "I'd", "when", "B2", "2nd", "12", "2023", "3.5", "dEC"]


MEANT = re.compile(r"A (?:I'd|when)|[aA]$")  # no article stands before these words, nor at the end


@given(st.lists(st.sampled_from(WORDS)).map(" ".join).filter(lambda text: MEANT.search(text) is None))
def test_a_text_without_label_or_option_is_no_answer(text: str) -> None:
    assert parse_answer(text, DIGITS, IMPORTANCE) is None
    assert parse_answer(text, LETTERS, IMPORTANCE) is None


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Nd", "Nl", "No"))))
def test_a_text_without_a_digit_chooses_no_digit(text: str) -> None:
    assert parse_answer(text, DIGITS) is None
