"""Question sheets: texts and option labels tokenised once, with a gap where the soft prompt goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, permutations
from typing import Any

from evoprompt.errors import UserError
from evoprompt.llm.load.model import require_known
from evoprompt.llm.write.chat import Prompt, prompts

PLACEMENTS = ("prefix", "system", "suffix")
"""Where a soft prompt may stand."""
CONTEXT = 16  # last characters of a prompt, by which the tokens of its labels are looked up
GUARDS = ("\n", "=", ".", "a")  # texts to go on from; one of them does not merge with what follows

Tokens = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sheet:
    """A sheet of Q tokenised questions.

    `before` and `after` are the tokens on either side of the soft prompt, up to where the answer is read; `options`
    has, for each question and label, its tokens from there on: never none, and never the beginning of another's.

    A sheet to be answered in words has two more columns. `spoken` is what stands after the soft prompt whatever is
    answered: `after` without the beginning that all labels of a question have in common. `shown` has the option texts
    of each question, for answers that say them; none: labels only.
    """

    before: tuple[Tokens, ...]
    after: tuple[Tokens, ...]
    options: tuple[tuple[Tokens, ...], ...]
    placement: str
    labels: tuple[tuple[str, ...], ...]
    texts: tuple[str, ...]
    spoken: tuple[Tokens, ...] = ()
    shown: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.texts)


def make_sheet(
    tokenizer: Any,
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
    placement: str = "prefix",
    vocabulary: int | None = None,
) -> Sheet:
    """Tokenise questions and their option labels as they occur after them.

    A chat template's text gets no special token beside those that the template writes, as with `apply_chat_template`.

    Parameters
    ----------
    tokenizer
        A Hugging Face tokenizer. With a chat template, each text becomes the user's turn.
    texts
        Q prompts.
    labels
        For each of them its option labels, all of the same number.
    placement
        Where the soft prompt goes: `prefix` before everything, the token that begins a text included; `system` inside
        the chat template's system turn, or right after the beginning token; `suffix` right after the question's text.
    vocabulary
        Number of the model's embeddings; None leaves unchecked whether each token has one.

    Raises
    ------
    UserError
        The placement is unknown, there are no questions, a question has no labels or an empty one or leaves no token
        to read an answer at, the chat template does not take a question, a label's tokens are the beginning of
        another's, or the model has no embedding of a token.
    """
    if placement not in PLACEMENTS:
        raise UserError(f"placement {placement!r} is unknown; use {', '.join(PLACEMENTS)}")
    asked = tuple(tuple(of) for of in labels)
    _check(texts, asked)
    written, separator = prompts(tokenizer, texts, placement)
    writer = Writer(tokenizer, separator, chat=tokenizer.chat_template is not None)
    whole = writer.answered(written, [of[0] for of in asked])
    known: dict[tuple[tuple[str, ...], str], tuple[Tokens, ...]] = {}
    after, options = [], []
    for prompt, of, (_, tokens) in zip(written, asked, whole, strict=True):
        key = (of, prompt.text[-CONTEXT:])
        if key not in known or tokens[-len(known[key][0]) :] != known[key][0]:
            known[key] = writer.options(prompt, of)
        after.append(tokens[: -len(known[key][0])])
        options.append(known[key])
    before = tuple(b for b, _ in whole)
    contexts = [b + a for b, a in zip(before, after, strict=True)]
    if not all(contexts):
        raise UserError(
            f"the question {texts[contexts.index(())]!r} leaves no token to read an answer at; ask with a text"
        )
    if vocabulary is not None:
        require_known(tokenizer, {*chain(*contexts, *chain(*{*options}))}, vocabulary)
    return Sheet(before, tuple(after), tuple(options), placement, asked, tuple(texts))


def _check(texts: Sequence[str], labels: Sequence[tuple[str, ...]]) -> None:
    """Refuse questions and labels that nothing can be asked with."""
    if not texts or len(texts) != len(labels):
        raise UserError(
            f"{len(texts)} questions with {len(labels)} sets of labels; give one question or more, a set each"
        )
    for text, of in zip(texts, labels, strict=True):
        if not of or not all(label.strip() for label in of):
            raise UserError(f"the question {text[-60:]!r} has the labels {of!r}; give it labels that are not empty")
    if len({len(of) for of in labels}) > 1:
        raise UserError(f"questions have {sorted({len(of) for of in labels})} labels; all of a sheet need equally many")


def require_room(limit: int | None, sheet: Sheet, lengths: Sequence[int], tokens: int, answer: int = 0) -> None:
    """Raise a `UserError` that names the longest question if, with soft tokens and an answer, it exceeds the limit."""
    needed = max(lengths) + tokens + answer
    if limit and needed > limit:
        text = " ".join(sheet.texts[lengths.index(max(lengths))].split())
        said = f" and an answer of {answer}" if answer else ""
        raise UserError(
            f"the longest question needs {needed} tokens with its {tokens} soft tokens{said}, the model takes {limit}; "
            f"use fewer soft tokens or a shorter wording than {text[-120:]!r}"
        )


def encode(tokenizer: Any, text: str) -> Tokens:
    """Token ids of a text with what the tokenizer writes before it, but nothing after it."""
    return Writer(tokenizer, "").encode([text])[0]


class Writer:
    """Tokenises prompts with their answers; `separator` is the text between the two.

    A text begins as the tokenizer begins one, a chat as its template does.
    """

    def __init__(self, tokenizer: Any, separator: str, chat: bool = False) -> None:
        self.tokenizer = tokenizer
        self.separator = separator
        self.lead: Tokens = ()
        if chat:
            return
        bare, framed = self._ids(["a"])[0], tuple(tokenizer("a").input_ids)
        start = next((at for at in range(len(framed)) if framed[at : at + len(bare)] == bare), 0)
        self.lead = framed[:start]

    def options(self, prompt: Prompt, labels: tuple[str, ...]) -> tuple[Tokens, ...]:
        """Tokens of each label from where not all are alike; a `UserError` where one's begin another's."""
        ends = [tokens for _, tokens in self.answered([prompt] * len(labels), labels)]
        for (one, ids), (other, longer) in permutations(zip(labels, ends, strict=True), 2):
            if longer[: len(ids)] == ids:
                raise UserError(
                    f"this tokenizer does not tell the labels {one!r} and {other!r} apart: "
                    "the tokens of the one begin the other; use other labels"
                )
        shared = next((at for at, column in enumerate(zip(*ends, strict=False)) if len(set(column)) > 1), -1)
        return tuple(tokens[shared:] for tokens in ends)

    def answered(self, prompts: Sequence[Prompt], labels: Sequence[str]) -> list[tuple[Tokens, Tokens]]:
        """Tokens of each prompt with a label as its answer, before and after the soft prompt's place.

        They are those of the text as it stands without the soft prompt. Where a token of it spans the place, both
        sides are tokenised apart.
        """
        texts = [prompt.text + self.separator + label for prompt, label in zip(prompts, labels, strict=True)]
        befores = self.encode([prompt.text[: prompt.place or 0] for prompt in prompts])
        cut: list[tuple[Tokens, Tokens]] = []
        for text, prompt, whole, before in zip(texts, prompts, self.encode(texts), befores, strict=True):
            if prompt.place is None:
                cut.append(((), whole))
            elif whole[: len(before)] == before:
                cut.append((before, whole[len(before) :]))
            else:
                cut.append((before, self._continued(text[prompt.place :])))
        return cut

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokens of texts, begun as the tokenizer begins one unless the text has that itself, and never ended."""
        different = list(dict.fromkeys(texts))
        ids = dict(zip(different, self._ids(different), strict=True))
        begun = {t: i if i[: len(self.lead)] == self.lead else self.lead + i for t, i in ids.items()}
        return [begun[text] for text in texts]

    def _continued(self, text: str) -> Tokens:
        """Tokens of a text that goes on: without the space that some tokenizers put before a beginning."""
        for guard in GUARDS:
            start, whole = self._ids([guard, guard + text])
            if start and whole[: len(start)] == start:
                return whole[len(start) :]
        return self._ids([text])[0]

    def _ids(self, texts: list[str]) -> list[Tokens]:
        if not texts:
            return []
        plain = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
        return [tuple(ids) for ids in self.tokenizer(texts, **plain).input_ids]
