"""Where a question stands: in a chat template's user turn or as plain text, and the soft prompt's place in it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import TemplateError

from evoprompt.errors import UserError

logger = logging.getLogger(__name__)

TODAY = date(2025, 1, 1)  # for templates that write the date: the same prompt is asked every day
_FAILURES = (TemplateError, TypeError, ValueError)  # ValueError: several templates and none of them the default
_MARK = "\ue000"  # of a private use: no text needs it
_SYSTEM, _QUESTION, _ANSWER = (f"{_MARK}{turn}{_MARK}" for turn in ("system", "question", "answer"))
_PLAIN = {"system": "{}\n", "user": "Question: {}\nAnswer:", "assistant": " {}\n"}
_OPENED = re.compile(r"([<\[])(\w+)([>\]])\s*\Z")  # what a template opens and leaves open: <think>, [THINK]
_BUNDLED = str(resources.files("evoprompt.llm") / "pocket")  # plain by design, so nothing is said about it


def _clock() -> str:
    """A Jinja macro that stands for the function by which templates read the wall clock."""
    codes = {f"%{letter}": TODAY.strftime(f"%{letter}") for letter in "aAwdbBmyYHIMSfpjUWcxXGuV"}
    codes |= {f"%-{letter}": codes[f"%{letter}"].lstrip("0") or "0" for letter in "dmyHIMSj"}
    codes |= {"%e": f"{TODAY.day:2}", "%F": TODAY.isoformat(), "%z": "", "%Z": "", "\ue000": "%"}
    written = "".join(f"|replace({code!r}, {shown!r})" for code, shown in {"%%": "\ue000", **codes}.items())
    return "{% macro strftime_now(format) %}{{ format" + written + " }}{% endmacro %}\n"


@dataclass(frozen=True)
class Prompt:
    """A question's whole text up to where the answer begins; the soft prompt stands before character `place`.

    `place` is None where it stands before everything, even what the tokenizer itself writes first.
    """

    text: str
    place: int | None


def prompts(tokenizer: Any, texts: Sequence[str], placement: str) -> tuple[list[Prompt], str]:
    """Each text in the user's turn, or plain where there is no chat template; and what stands before its answer.

    A `UserError` where the chat template fails on a single user's turn or does not show its text.
    """
    name = tokenizer.name_or_path
    if tokenizer.chat_template is None:
        if name != _BUNDLED:
            _say_once(f"model {name!r} has no chat template: questions are put to it as plain text")
        return [Prompt(text, {"prefix": None, "system": 0, "suffix": len(text)}[placement]) for text in texts], " "
    system = placement == "system" and _takes_system(tokenizer)
    try:
        frame, *written = _render(tokenizer, [_turns(text, system) for text in (_QUESTION, *texts)])
    except _FAILURES as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"the chat template of model {name!r} fails on a user's turn: {reason}") from error
    head, found, tail = frame.partition(_QUESTION)
    for text, whole in zip(texts, written, strict=True):
        if not (found and whole.startswith(head) and whole.endswith(tail)):
            raise UserError(f"the chat template of model {name!r} does not show {text[:40]!r}... in the user's turn")
    at = {"prefix": None, "system": head.index(_SYSTEM) if system else len(head)}
    shown = [whole.replace(_SYSTEM, "", 1) for whole in written]
    separator = _between(tokenizer, frame, system)
    return [Prompt(text, at.get(placement, len(text) - len(tail))) for text in shown], separator


def converse(tokenizer: Any, messages: Sequence[Mapping[str, Any]], placement: str) -> tuple[Prompt, str]:
    """A conversation's text up to where the next answer begins, and what stands between the two; see `make_context`.

    Without a chat template, instructions are lines of their own and the rest is written as questions and answers.
    """
    if tokenizer.chat_template is None:
        text = "".join(_PLAIN[message["role"]].format(message["content"]) for message in messages)
        return prompts(tokenizer, [text], placement)[0][0], ""
    turns = [{"role": m["role"], "content": m["content"].replace(_MARK, "")} for m in messages]
    system = turns[0]["role"] == "system" or (placement == "system" and _takes_system(tokenizer))
    if placement == "system" and turns[0]["role"] != "system" and system:
        turns.insert(0, {"role": "system", "content": ""})
    if placement == "system":
        turns[0]["content"] = _SYSTEM + turns[0]["content"]
    elif placement == "suffix":
        turns[-1]["content"] += _SYSTEM
    try:
        (whole,) = _render(tokenizer, [turns])
    except _FAILURES as error:
        reason = str(error).partition("\n")[0]
        name = tokenizer.name_or_path
        raise UserError(f"the chat template of model {name!r} does not take this conversation: {reason}") from error
    text, found, rest = whole.partition(_SYSTEM)
    if placement != "prefix" and not found:
        raise UserError(
            f"the chat template of model {tokenizer.name_or_path!r} does not show where the soft prompt goes "
            f"({placement} placement) in this conversation"
        )
    return Prompt(text + rest, len(text) if found else None), prompts(tokenizer, ["?"], placement)[1]


def _turns(text: str, system: bool) -> list[dict[str, str]]:
    """A conversation of one question, the soft prompt's mark in a system turn before it where there is one."""
    turns = [{"role": "system", "content": _SYSTEM}] if system else []
    return [*turns, {"role": "user", "content": text}]


def _render(tokenizer: Any, chats: list[list[dict[str, str]]], answered: bool = False) -> list[str]:
    """The text of each conversation, up to where the answer begins unless it is there; no thinking, one date."""
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _clock() + template
    fixed = {"enable_thinking": False, "date_string": TODAY.strftime("%d %b %Y"), "chat_template": template}
    return list(tokenizer.apply_chat_template(chats, add_generation_prompt=not answered, tokenize=False, **fixed))


def _takes_system(tokenizer: Any) -> bool:
    """Whether the chat template shows a system turn before the user's; says so once where it does not."""
    try:
        (shown,) = _render(tokenizer, [_turns(_QUESTION, True)])
    except _FAILURES:
        shown = ""
    before, found, _ = shown.partition(_QUESTION)
    taken = bool(found) and _SYSTEM in before
    if not taken:
        _say_once(
            f"the chat template of model {tokenizer.name_or_path!r} has no system turn: "
            "the soft prompt stands at the start of the user's turn"
        )
    return taken


def _between(tokenizer: Any, frame: str, system: bool) -> str:
    """What the chat template writes between the prompt, which ends as `frame` does, and the answer."""
    opened = _OPENED.search(frame)
    if opened is None:
        return _answered(tokenizer, frame, _ANSWER, system) or ""
    start, tag, end = opened.groups()
    closed = f"\n{start}/{tag}{end}\n\n"  # as models learn it, where the template shows no answer behind a thought
    for answer in (_ANSWER, opened[0] + closed + _ANSWER):
        separator = _answered(tokenizer, frame, answer, system)
        if separator is not None:
            return separator
    if _answered(tokenizer, frame[: opened.start()], _ANSWER, system) is not None:
        return closed
    _say_once(
        f"the chat template of model {tokenizer.name_or_path!r} ends a prompt with {opened[0].strip()!r} and does not "
        "show how an answer follows: answers are read right there"
    )
    return ""


def _answered(tokenizer: Any, frame: str, answer: str, system: bool) -> str | None:
    """What stands between `frame` and `_ANSWER` in an answered conversation; None where one does not begin so."""
    chat = [*_turns(_QUESTION, system), {"role": "assistant", "content": answer}]
    try:
        (whole,) = _render(tokenizer, [chat], answered=True)
    except _FAILURES:
        return None
    separator, found, _ = whole.removeprefix(frame).partition(_ANSWER)
    return separator if found and whole.startswith(frame) else None


@cache
def _say_once(message: str) -> None:
    logger.warning(message)
