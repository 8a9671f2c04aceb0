"""A frozen model as a survey respondent in words: it is asked in free text, and its answers are sampled and parsed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from evoprompt.checks import real_number, whole_number
from evoprompt.errors import unknown_name
from evoprompt.llm.load.memory import TokenBudget
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.speak.check import check_generation
from evoprompt.llm.speak.decoding import BATCH_TOKENS, DECODING, Decoder, Sampling, Stream, decode
from evoprompt.llm.speak.noise import seed_key, step_keys
from evoprompt.llm.speak.parsing import parse_answer
from evoprompt.llm.write.conversation import Context
from evoprompt.llm.write.sheet import PLACEMENTS, Sheet, make_sheet, require_room
from evoprompt.typing import Doubles, Floats

TRANSCRIPT = 2_000  # answers of the last call that are kept as text


class Said(NamedTuple):
    """One answer: by which candidate, to which question, in which words, and the option read from it if any."""

    candidate: int
    question: int
    text: str
    option: int | None


class _Asked(NamedTuple):
    """A question that a candidate answers once."""

    candidate: int
    question: int
    sample: int


@dataclass
class SampledRespondent:
    """Answers question sheets in words: what the model says after a prompt is sampled and parsed.

    An answer ends with its first line; one that `max_new_tokens` cut short is read with more care. Sampling is by the
    Gumbel-max trick on noise keyed by (seed, question, sample, step, token): it does not depend on batches or
    neighbours, and all candidates meet the same noise, so that their differences are their own (common random numbers).

    Parameters
    ----------
    frozen, placement
        As for `Respondent`.
    temperature, top_p
        Of the sampling; temperature 0 takes the likeliest token each time, and one answer says it all.
    samples
        Answers to each question.
    max_new_tokens
        Longest answer.
    seed
        Of the noise.

    Attributes
    ----------
    invalid_rates, invalid_shares
        Share of the last call's answers that chose no option or several, by candidate, (P,), and by candidate and
        question, (P, Q).
    transcript
        Answers of the last call, by candidate and question; of more than `TRANSCRIPT`, so many spread evenly.
    budget
        Tokens that may be under way at once, see `Decoder`.

    Raises
    ------
    UserError
        A parameter is out of its range, or the model cannot generate after embeddings.
    """

    frozen: FrozenModel
    placement: str = "prefix"
    temperature: float = 1.0
    top_p: float = 1.0
    samples: int = 1
    max_new_tokens: int = 8
    seed: int = 0
    invalid_rates: Doubles = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    invalid_shares: Doubles = field(default_factory=lambda: np.zeros((0, 0)), init=False, repr=False)
    transcript: list[Said] = field(default_factory=list, init=False, repr=False)
    budget: TokenBudget = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise unknown_name("placement", self.placement, PLACEMENTS)
        real_number("temperature", self.temperature, 0, what="a finite number")
        real_number("top_p", self.top_p, 0, 1, above=True)
        for name, least in (("samples", 1), ("max_new_tokens", 1), ("seed", 0)):
            whole_number(name, getattr(self, name), least, what="a whole number")
        self.budget = TokenBudget(self.frozen, BATCH_TOKENS)
        check_generation(self.frozen)

    def sheet(
        self,
        texts: Sequence[str],
        labels: Sequence[Sequence[str]],
        options: Sequence[Sequence[str]] | None = None,
    ) -> Sheet:
        """Tokenise questions once; `options` are the texts shown beside the labels, if answers may say them."""
        sheet = make_sheet(self.frozen.tokenizer, texts, labels, self.placement, len(self.frozen.embeddings.weight))
        shown = tuple(tuple(o) for _, o in zip(texts, options, strict=True)) if options is not None else ()
        return self._opened(sheet, shown)

    def _opened(self, sheet: Sheet, shown: tuple[tuple[str, ...], ...] = ()) -> Sheet:
        if sheet.spoken:
            return sheet
        pairs = [(of[0], next(word for word in "A1" if not of[0].startswith(word))) for of in sheet.labels]
        spoken = make_sheet(self.frozen.tokenizer, sheet.texts, pairs, sheet.placement).after
        return replace(sheet, spoken=spoken, shown=shown)

    def check(self, sheet: Sheet, tokens: int) -> None:
        """Raise the `UserError` that answering `sheet` under soft prompts of so many tokens would raise."""
        require_room(self.frozen.max_length, sheet, _lengths(self._opened(sheet)), tokens, self.max_new_tokens)

    def answer(self, soft_prompts: torch.Tensor, sheet: Sheet) -> Floats:
        """Frequencies of the options among valid answers.

        Parameters
        ----------
        soft_prompts
            (P, T, H) embeddings; T = 0 asks the bare model.
        sheet
            Q questions with their option labels; one from `sheet` to read option texts too.

        Returns
        -------
        ndarray
            (P, Q, options), summing to 1 over the options shown; NaN where no answer was valid.

        Raises
        ------
        UserError
            The longest question does not fit into the model's context, or a single one not into memory.
        """
        prompts = soft_prompts.to(self.frozen.device, self.frozen.dtype)
        if prompts.ndim != 3 or prompts.shape[2] != self.frozen.hidden:
            raise ValueError(f"soft prompts must be (P, T, {self.frozen.hidden}), got {tuple(prompts.shape)}")
        opened = self._opened(sheet)
        self.check(opened, int(prompts.shape[1]))
        shown = opened.shown or [()] * len(opened)
        counts = np.zeros((len(prompts), len(opened), len(opened.labels[0])), np.float32)
        found: dict[_Asked, tuple[str, int | None]] = {}
        for rows in self._batches(opened, len(prompts), int(prompts.shape[1])):
            for row, (text, complete) in zip(rows, self._say(prompts, opened, rows), strict=True):
                found[row] = text, parse_answer(text, opened.labels[row.question], shown[row.question], complete)
        said = [Said(row.candidate, row.question, *found[row]) for row in sorted(found)]
        for candidate, question, _, option in said:
            if option is not None:
                counts[candidate, question, option] += 1
        self.transcript = [said[i] for i in np.linspace(0, len(said) - 1, min(len(said), TRANSCRIPT), dtype=int)]
        valid = counts.sum(axis=-1, keepdims=True)
        self.invalid_shares = 1.0 - valid[..., 0].astype(np.float64) / self._each
        self.invalid_rates = self.invalid_shares.mean(axis=-1)
        return np.divide(counts, valid, out=np.full_like(counts, np.nan), where=valid > 0)

    @property
    def _each(self) -> int:
        """Answers to each question."""
        return self.samples if self.temperature else 1

    def _batches(self, sheet: Sheet, candidates: int, tokens: int) -> Iterator[list[_Asked]]:
        """All rows, the shorter questions first, in batches that the decoder has room for."""
        rows: list[_Asked] = []
        used, lengths = 0, _lengths(sheet)
        for question in sorted(range(len(sheet)), key=lengths.__getitem__):
            cost = lengths[question] + tokens + self.max_new_tokens
            for candidate, sample in product(range(candidates), range(self._each)):
                if rows and used + cost > self.budget.limit(DECODING):
                    yield rows
                    rows, used = [], 0
                rows.append(_Asked(candidate, question, sample))
                used += cost
        if rows:
            yield rows

    @torch.inference_mode()
    def _say(self, prompts: torch.Tensor, sheet: Sheet, rows: list[_Asked]) -> list[tuple[str, bool]]:
        """The first line that the model says in each row, none if its output is not finite; whether it ended there."""
        keys = step_keys([seed_key(self.seed, row.question, row.sample) for row in rows], self.max_new_tokens)
        sampling = Sampling(self.max_new_tokens, self.temperature, self.top_p)
        contexts = {q: Context(sheet.before[q], sheet.spoken[q]) for q in {row.question for row in rows}}
        streams = [
            Stream([contexts[row.question].embedded(self.frozen, prompts[row.candidate])], (1.0,), sampling, noise)
            for row, noise in zip(rows, keys, strict=True)
        ]
        texts = decode(Decoder(self.frozen, self.budget), streams, ("\n",))
        return [
            ("" if stream.finish == "error" else text, stream.finish == "stop")
            for stream, text in zip(streams, texts, strict=True)
        ]


def _lengths(sheet: Sheet) -> list[int]:
    """Tokens of each question, without soft ones."""
    return [len(before) + len(spoken) for before, spoken in zip(sheet.before, sheet.spoken, strict=True)]
