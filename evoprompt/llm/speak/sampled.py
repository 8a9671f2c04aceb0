"""The published protocol: questions are asked in free text, answers sampled and parsed."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from evoprompt.errors import UserError, unknown_name
from evoprompt.llm.load.memory import is_out_of_memory
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.speak.generation import check_generation, end_tokens, generate, rows_together
from evoprompt.llm.speak.parsing import parse_answer
from evoprompt.llm.write.sheet import PLACEMENTS, Sheet, Tokens, make_sheet

logger = logging.getLogger(__name__)

BATCH_TOKENS = 16_384  # of one generating batch, padding and answers included
TRANSCRIPT = 2_000  # answers of the last call that are kept as text
_GOLDEN, _MIX_1, _MIX_2 = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


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


class _Row(NamedTuple):
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
    batch_tokens
        Most tokens of one batch: `model.token_budget` or `BATCH_TOKENS`, and fewer once memory ran out.

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
    invalid_rates: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), init=False, repr=False)
    invalid_shares: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)), init=False, repr=False)
    transcript: list[Said] = field(default_factory=list, init=False, repr=False)
    batch_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise unknown_name("placement", self.placement, PLACEMENTS)
        if not (_is_number(self.temperature) and 0 <= self.temperature < math.inf):
            raise UserError(f"temperature={self.temperature!r} must be a finite number of at least 0")
        if not (_is_number(self.top_p) and 0 < self.top_p <= 1):
            raise UserError(f"top_p={self.top_p!r} must be a number greater than 0 and at most 1")
        for name, least in (("samples", 1), ("max_new_tokens", 1), ("seed", 0)):
            value = getattr(self, name)
            if not (_is_number(value) and isinstance(value, int) and value >= least):
                raise UserError(f"{name}={value!r} must be a whole number of at least {least}")
        self.batch_tokens = self.frozen.spec.token_budget or BATCH_TOKENS
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

    def answer(self, soft_prompts: torch.Tensor, sheet: Sheet) -> NDArray[np.float32]:
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
            for row, (text, complete) in zip(rows, self._said(prompts, opened, rows), strict=True):
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

    def _batches(self, sheet: OpenSheet, candidates: int, tokens: int) -> Iterator[list[_Row]]:
        """All rows, the shorter questions first, in batches of `batch_tokens` that the model does not mix up."""
        lengths = [_length(sheet, question) + tokens for question in range(len(sheet))]
        together = rows_together(self.frozen, min(lengths), max(lengths))
        rows: list[_Row] = []
        for question in sorted(range(len(sheet)), key=lengths.__getitem__):
            for candidate in range(candidates):
                for sample in range(self._each):
                    full = (len(rows) + 1) * (lengths[question] + self.max_new_tokens) > self.batch_tokens
                    other = together == "equal" and rows and lengths[rows[0].question] != lengths[question]
                    if rows and (full or other or together == "single"):
                        yield rows
                        rows = []
                    rows.append(_Row(question, candidate, sample))
        if rows:
            yield rows

    def _said(self, prompts: torch.Tensor, sheet: OpenSheet, rows: list[_Row]) -> list[tuple[str, bool]]:
        """The same as `_say`, in halves where memory runs out; it does not depend on who is asked together."""
        try:
            return self._say(prompts, sheet, rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if len(rows) == 1:
            raise UserError(
                f"model {self.frozen.spec.name!r} runs out of memory on a single question; "
                "use a smaller dtype, model.quantization=8bit or a larger device"
            )
        half = len(rows) // 2
        self.batch_tokens = half * (_length(sheet, rows[-1].question) + int(prompts.shape[1]) + self.max_new_tokens)
        logger.warning("out of memory; going on with batches of at most %d tokens", self.batch_tokens)
        return [text for part in (rows[:half], rows[half:]) for text in self._said(prompts, sheet, part)]

    @torch.inference_mode()
    def _say(self, prompts: torch.Tensor, sheet: OpenSheet, rows: list[_Row]) -> list[tuple[str, bool]]:
        """What the model says in each row, up to the end of its first line, and whether it ended there.

        It says nothing where its output is not finite.
        """
        tokenizer, ends, embedded = self.frozen.tokenizer, end_tokens(self.frozen), {}
        for q in {row.question for row in rows}:
            ids = [torch.tensor(part, dtype=torch.long) for part in (sheet.before[q], sheet.spoken[q])]
            embedded[q] = [self.frozen.embeddings(part.to(prompts.device)) for part in ids]
        inputs = [torch.cat([embedded[q][0], prompts[candidate], embedded[q][1]]) for q, candidate, _ in rows]
        draw = _Draw(self, rows)
        generated = generate(self.frozen, inputs, self.max_new_tokens, draw, ends, _FirstLine(tokenizer))
        said = []
        for ids, failed in zip(generated.tolist(), draw.failed.tolist(), strict=True):
            stop = next((at for at, token in enumerate(ids) if token in ends), len(ids))
            text = tokenizer.decode(ids[:stop], skip_special_tokens=True).lstrip()
            line, newline, _ = text.partition("\n")
            said.append(("" if failed else line.strip(), stop < len(ids) or bool(newline)))
        return said


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _length(sheet: OpenSheet, question: int) -> int:
    return len(sheet.before[question]) + len(sheet.spoken[question])


class _FirstLine:
    """Stops a row once its text has a line's end after something was said."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return torch.tensor(["\n" in text.lstrip() for text in texts], device=ids.device)


class _Draw:
    """Scores of the next token (rows, vocabulary) -> the same with noise, so that the largest is a sample."""

    def __init__(self, respondent: SampledRespondent, rows: list[_Row]) -> None:
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        device, temperature = respondent.frozen.device, respondent.temperature
        self.warpers = [TemperatureLogitsWarper(float(temperature))] if temperature not in (0, 1) else []
        if temperature and respondent.top_p < 1:
            self.warpers.append(TopPLogitsWarper(float(respondent.top_p)))
        keys = [(respondent.seed, row.question, row.sample) for row in rows]
        states = {key: np.random.SeedSequence(key).generate_state(1, np.uint64).view(np.int64)[0] for key in set(keys)}
        self.keys = torch.tensor([states[key] for key in keys], device=device) if temperature else None
        self.failed = torch.zeros(len(rows), dtype=torch.bool, device=device)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.failed |= ~torch.isfinite(scores.amax(dim=-1))
        if self.keys is None:
            return scores
        for warp in self.warpers:
            scores = warp(ids, scores)
        self.keys = self.keys + _GOLDEN
        return scores + gumbel(_mixed(self.keys), scores.shape[1])


def gumbel(keys: torch.Tensor, count: int) -> torch.Tensor:
    """Standard Gumbel noise (rows, count) in float32, a function of the keys (rows,) int64 alone.

    A counter-based generator: SplitMix64 (Steele, Lea and Flood 2014), whose state is key + counter * golden ratio.
    """
    counter = torch.arange(1, count + 1, device=keys.device)
    bits = (_mixed(keys[:, None] + counter * _GOLDEN) >> 12) & (2**52 - 1)
    uniform = (bits.double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(uniform)).float()


def _mixed(state: torch.Tensor) -> torch.Tensor:
    """The finaliser of SplitMix64; int64 products wrap, and right shifts are made logical."""
    state = (state ^ ((state >> 30) & (2**34 - 1))) * _MIX_1
    state = (state ^ ((state >> 27) & (2**37 - 1))) * _MIX_2
    return state ^ ((state >> 31) & (2**33 - 1))
