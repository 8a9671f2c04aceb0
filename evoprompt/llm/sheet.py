"""Question sheets: texts tokenised once, and laid out in rows that share their common beginnings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprompt.errors import UserError

MIN_BRANCHES = 8  # questions that may share one row in any case; more pay quadratic attention for little sharing
BOUNDARY = "\nQuestion:"  # what comes before it is shared by questions about one scale


@dataclass(frozen=True)
class Row:
    """Token ids of one row, after the soft prompt.

    `positions` count from 0 at the first token after the soft prompt; `branch` is 0 for the shared beginning and
    k for the k-th question; `ends[k]` is the index of the token that predicts the answer to question `questions[k]`.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    branch: NDArray[np.int64]
    ends: tuple[int, ...]
    questions: tuple[int, ...]


@dataclass(frozen=True)
class Sheet:
    """Tokenised questions: ids of each, and the ids of each one's option labels, shape (Q, options)."""

    ids: tuple[tuple[int, ...], ...]
    label_ids: NDArray[np.int64]
    heads: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def packed(self) -> list[Row]:
        """Rows in which questions continue one shared beginning: as many as are no longer than it, at least eight."""
        groups: dict[str, list[int]] = defaultdict(list)
        for index, head in enumerate(self.heads):
            groups[head].append(index)
        rows = []
        for members in groups.values():
            shared = _common_prefix([self.ids[i] for i in members]) if len(members) > 1 else 0
            own = sum(len(self.ids[i]) for i in members) / len(members) - shared
            count = -(-len(members) // max(MIN_BRANCHES, int(shared / own)))
            rows += [self._row([int(i) for i in part]) for part in np.array_split(members, count)]
        return rows

    def plain(self) -> list[Row]:
        """One row a question."""
        return [self._row([index]) for index in range(len(self.ids))]

    def _row(self, members: list[int]) -> Row:
        shared = _common_prefix([self.ids[i] for i in members]) if len(members) > 1 else 0
        ids = list(self.ids[members[0]][:shared])
        positions, branch, ends = list(range(shared)), [0] * shared, []
        for number, member in enumerate(members, start=1):
            rest = self.ids[member][shared:]
            ids += rest
            positions += range(shared, shared + len(rest))
            branch += [number] * len(rest)
            ends.append(len(ids) - 1)
        return Row(np.array(ids), np.array(positions), np.array(branch), tuple(ends), tuple(members))


def make_sheet(tokenizer: Any, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> Sheet:
    """Tokenise questions and their option labels as they occur after them.

    Parameters
    ----------
    tokenizer
        A Hugging Face tokenizer. With a chat template, each text becomes the user's turn.
    texts
        Q prompts.
    labels
        For each of them its option labels, all of the same number.

    Raises
    ------
    UserError
        The tokenizer cannot tell two labels of a question apart, or needs several tokens for one.
    """
    chat = tokenizer.chat_template is not None
    prompts = [_in_chat(tokenizer, text) if chat else text for text in texts]
    leads: dict[tuple[str, ...], tuple[tuple[int, ...], tuple[int, ...]]] = {}
    ids, label_ids = [], []
    for text, prompt, options in zip(texts, prompts, labels, strict=True):
        key = tuple(options)
        tokens = encode(tokenizer, prompt, chat)
        if key not in leads:
            before = _before_answer(tokenizer, text, key[0], chat)
            leads[key] = _label_tokens(tokenizer, prompt + before, prompt, key, chat)
        lead, last = leads[key]
        ids.append((*tokens, *lead))
        label_ids.append(last)
    heads = tuple(text.rsplit(BOUNDARY, 1)[0] + "\0" + "".join(o) for text, o in zip(texts, labels, strict=True))
    return Sheet(tuple(ids), np.array(label_ids), heads)


def _in_chat(tokenizer: Any, text: str, answer: str | None = None) -> str:
    """The user's turn up to where the answer begins, or with the answer as the assistant's turn.

    Thinking is switched off and the date fixed for the templates that know them: the answer is read right away, and
    the same prompt is asked every day.
    """
    turns = [{"role": "user", "content": text}]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer})
    fixed = {"enable_thinking": False, "date_string": "01 Jan 2025"}
    return str(tokenizer.apply_chat_template(turns, add_generation_prompt=answer is None, tokenize=False, **fixed))


def _before_answer(tokenizer: Any, text: str, label: str, chat: bool) -> str:
    """What stands between a prompt and its answer: a space, or whatever the chat template writes there."""
    if not chat:
        return " "
    prompt, whole = _in_chat(tokenizer, text), _in_chat(tokenizer, text, label)
    if not whole.startswith(prompt) or label not in whole[len(prompt) :]:
        return ""
    return whole[len(prompt) : whole.index(label, len(prompt))]


def encode(tokenizer: Any, text: str, chat: bool = False) -> tuple[int, ...]:
    """Token ids; special tokens are added only where no chat template has written them, and never at the end."""
    ids = tuple(tokenizer(text, add_special_tokens=not chat).input_ids)
    ends = not chat and ids and ids[-1] == tokenizer.eos_token_id
    return ids[:-1] if ends else ids


def _label_tokens(
    tokenizer: Any, prefix: str, prompt: str, labels: tuple[str, ...], chat: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens that all labels begin with after the prompt, and the one by which each differs."""
    tokens = encode(tokenizer, prompt, chat)
    continuations = []
    for label in labels:
        whole = encode(tokenizer, prefix + label, chat)
        if whole[: len(tokens)] != tokens:
            raise UserError(f"label {label!r} changes the tokens before it with this tokenizer; use another model")
        continuations.append(whole[len(tokens) :])
    shared = _common_prefix(continuations)
    rest = [tokens_of[shared:] for tokens_of in continuations]
    if any(len(tokens_of) != 1 for tokens_of in rest) or len(set(rest)) < len(rest):
        raise UserError(f"this tokenizer does not tell the labels {', '.join(labels)} apart by one token each")
    return continuations[0][:shared], tuple(tokens_of[0] for tokens_of in rest)


def _common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the common beginning; never all of a sequence, so that each keeps a token of its own."""
    shortest = min(len(sequence) for sequence in sequences)
    for index in range(shortest):
        if len({sequence[index] for sequence in sequences}) > 1:
            return index
    return shortest - 1 if len(sequences) > 1 else shortest
