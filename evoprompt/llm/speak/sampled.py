"""A frozen model as a survey respondent in words: it is asked in free text, and its answers are sampled and parsed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import NamedTuple

import numpy as np
import torch

from evoprompt.checks import real_number, whole_number
from evoprompt.errors import UserError, unknown_name
from evoprompt.llm.load.memory import TokenBudget
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.speak.check import check_generation
from evoprompt.llm.speak.decoding import BATCH_TOKENS, DECODING, Decoder, Sampling, Stream, decode
from evoprompt.llm.speak.noise import seed_key, step_keys
from evoprompt.llm.speak.parsing import parse_answer
from evoprompt.llm.write.sheet import PLACEMENTS, Sheet, Tokens, make_sheet
from evoprompt.typing import Doubles, Floats

TRANSCRIPT = 2_000  # answers of the last call that are kept as text


@dataclass(frozen=True)
class OpenSheet(Sheet):
    """A sheet to be answered in words.

    `spoken` is what stands after the soft prompt whatever is answered: `after` without the beginning that all labels of
    a question have in common. `shown` has the option texts of each question, for answers that say them; none: labels
    only.
    """

    spoken: tuple[Tokens, ...] = ()
    shown: tuple[tuple[str, ...], ...] = ()


class Said(NamedTuple):
    """One answer: by which candidate, to which question, in which words, and the option read from it if any."""

    candidate: int
    question: int
    text: str
    option: int | None


class _Asked(NamedTuple):
    """A question that a candidate answers once."""

    question: int
    candidate: int
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
    asked, invalid, invalid_rate
        Answers so far, those of them that chose no option or several, and their share.
    invalid_rates, invalid_shares
        The same share of the last call, by candidate, (P,), and by candidate and question, (P, Q).
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
    asked: int = field(default=0, init=False)
    invalid: int = field(default=0, init=False)
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

    @property
    def invalid_rate(self) -> float:
        """Share of invalid answers among those asked for so far; 0 before the first."""
        return self.invalid / max(1, self.asked)

    def sheet(
        self,
        texts: Sequence[str],
        labels: Sequence[Sequence[str]],
        options: Sequence[Sequence[str]] | None = None,
    ) -> OpenSheet:
        """Tokenise questions once; `options` are the texts shown beside the labels, if answers may say them."""
        vocabulary = len(self.frozen.embeddings.weight)
        sheet = make_sheet(self.frozen.tokenizer, texts, labels, self.placement, vocabulary)
        shown = tuple(tuple(o) for _, o in zip(texts, options, strict=True)) if options is not None else ()
        return self._opened(sheet, shown)

    def _opened(self, sheet: Sheet, shown: tuple[tuple[str, ...], ...] = ()) -> OpenSheet:
        if isinstance(sheet, OpenSheet):
            return sheet
        others = [next(word for word in "A1" if not of[0].startswith(word)) for of in sheet.labels]
        pairs = [(of[0], other) for of, other in zip(sheet.labels, others, strict=True)]
        spoken = make_sheet(self.frozen.tokenizer, sheet.texts, pairs, sheet.placement).after
        known = {part.name: getattr(sheet, part.name) for part in fields(Sheet)}
        return OpenSheet(**known, spoken=spoken, shown=shown)

    def check(self, sheet: Sheet, tokens: int) -> None:
        """Refuse soft prompts and sheets that do not fit the model.

        Raises
        ------
        UserError
            The longest question, soft prompts of so many tokens and an answer exceed the model's context.
        """
        opened = self._opened(sheet)
        longest = max(_length(opened, question) for question in range(len(opened)))
        needed, limit = longest + tokens + self.max_new_tokens, self.frozen.max_length
        if limit and needed > limit:
            raise UserError(
                f"the longest question needs {needed} tokens with its {tokens} soft tokens and an answer of "
                f"{self.max_new_tokens}, the model takes {limit}; use fewer soft tokens or a shorter wording"
            )

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
        said = []
        for rows in self._batches(opened, len(prompts), int(prompts.shape[1])):
            for row, (text, complete) in zip(rows, self._say(prompts, opened, rows), strict=True):
                option = parse_answer(text, opened.labels[row.question], shown[row.question], complete)
                said.append((row.candidate, row.question, row.sample, text, option))
                if option is not None:
                    counts[row.candidate, row.question, option] += 1
        said.sort(key=lambda entry: entry[:3])
        kept = np.linspace(0, len(said) - 1, min(len(said), TRANSCRIPT), dtype=int)
        self.transcript = [Said(c, q, text, option) for c, q, _, text, option in (said[i] for i in kept)]
        self.asked += len(said)
        self.invalid += sum(entry[4] is None for entry in said)
        valid = counts.sum(axis=-1, keepdims=True)
        self.invalid_shares = 1.0 - valid[..., 0].astype(np.float64) / self._each
        self.invalid_rates = self.invalid_shares.mean(axis=-1)
        return np.divide(counts, valid, out=np.full_like(counts, np.nan), where=valid > 0)

    @property
    def _each(self) -> int:
        """Answers to each question."""
        return self.samples if self.temperature else 1

    def _batches(self, sheet: OpenSheet, candidates: int, tokens: int) -> Iterator[list[_Asked]]:
        """All rows, the shorter questions first, in batches that the decoder has room for."""
        rows: list[_Asked] = []
        used = 0
        for question in sorted(range(len(sheet)), key=lambda question: _length(sheet, question)):
            cost = _length(sheet, question) + tokens + self.max_new_tokens
            for candidate, sample in product(range(candidates), range(self._each)):
                if rows and used + cost > self.budget.limit(DECODING):
                    yield rows
                    rows, used = [], 0
                rows.append(_Asked(question, candidate, sample))
                used += cost
        if rows:
            yield rows

    @torch.inference_mode()
    def _say(self, prompts: torch.Tensor, sheet: OpenSheet, rows: list[_Asked]) -> list[tuple[str, bool]]:
        """What the model says in each row, up to the end of its first line, and whether it ended there.

        It says nothing where its output is not finite.
        """
        embedded = {}
        for q in {row.question for row in rows}:
            ids = [torch.tensor(part, dtype=torch.long) for part in (sheet.before[q], sheet.spoken[q])]
            embedded[q] = [self.frozen.embeddings(part.to(prompts.device)) for part in ids]
        keys = step_keys([seed_key(self.seed, q, sample) for q, _, sample in rows], self.max_new_tokens)
        sampling = Sampling(self.max_new_tokens, self.temperature, self.top_p)
        streams = [
            Stream([torch.cat([embedded[q][0], prompts[candidate], embedded[q][1]])], (1.0,), sampling, noise)
            for (q, candidate, _), noise in zip(rows, keys, strict=True)
        ]
        texts = decode(Decoder(self.frozen, self.budget), streams, ("\n",))
        return [
            ("" if stream.finish == "error" else text, stream.finish == "stop")
            for stream, text in zip(streams, texts, strict=True)
        ]


def _length(sheet: OpenSheet, question: int) -> int:
    return len(sheet.before[question]) + len(sheet.spoken[question])
