"""The decoder of free text: many answers at once, which join and leave a running batch, some of them in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from evoprompt.errors import UserError
from evoprompt.llm.load.memory import TokenBudget
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.speak.batch import Batch, Row
from evoprompt.llm.speak.check import check_generation, rows_together
from evoprompt.llm.speak.noise import gumbel, seed_key

COLD = 1e-3  # temperatures below are 0
BATCH_TOKENS = {"cpu": 16_384, "cuda": 16_384}  # of all rows together, with the longest answers that may come
DECODING = "decoding"  # what the budget calls it


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: `temperature` 0 takes the likeliest; `top` is the number of alternatives reported."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top: int = 0


GREEDY = Sampling()


@dataclass(frozen=True)
class Token:
    """One token of an answer, its log probability and the `Sampling.top` likeliest with theirs."""

    id: int
    log_probability: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False)
class Stream:
    """One answer while it is being decoded.

    Attributes
    ----------
    rows
        Embeddings (tokens, H) that it goes on from, one row or several. Each token is drawn from the weighted mixture
        of the rows' distributions and said in all of them.
    weights
        Of the rows; they need not sum to 1.
    sampling
        How it is drawn.
    noise
        Keys of the noise of each step, see `evoprompt.llm.speak.noise`; without them the seed gives them.
    said
        Its tokens so far, without the one that ended it.
    finish
        None while it goes on; then `stop` (an end token, a stop text, or `Decoder.remove`), `length`, or `error` where
        no row's distribution is finite.
    """

    rows: Sequence[torch.Tensor]
    weights: Sequence[float] = (1.0,)
    sampling: Sampling = GREEDY
    noise: Sequence[int] = ()
    said: list[Token] = field(default_factory=list, init=False)
    finish: str | None = field(default=None, init=False)

    @property
    def longest(self) -> int:
        """Tokens of its longest row once the answer is complete."""
        return max(map(len, self.rows)) + self.sampling.max_tokens


class Decoder:
    """Continues any number of streams, a token of each at every step.

    Rows of all streams are computed in one batch; a stream may be added while others are under way, and what a stream
    says does not depend on who is beside it. A model that cannot take rows of different lengths together is served by
    more batches. Where memory runs out, fewer streams go on at once, and those that had begun are read again.

    Parameters
    ----------
    frozen
        The model.
    budget
        How many tokens may be under way at once, with the longest answers that may come; further streams wait. None:
        `model.token_budget` or `BATCH_TOKENS`.

    Raises
    ------
    UserError
        The model does not generate after embeddings what its plain calls say.
    """

    def __init__(self, frozen: FrozenModel, budget: TokenBudget | None = None) -> None:
        check_generation(frozen)
        self.frozen = frozen
        self.budget = budget or TokenBudget(frozen, BATCH_TOKENS)
        self.waiting: list[Stream] = []
        self.running: list[Stream] = []
        self._live: dict[Stream, list[Row]] = {}  # rows of those that run
        self._batches: list[Batch] = []
        own = getattr(frozen.model.generation_config, "eos_token_id", None)
        self._ends = {*(own if isinstance(own, list) else [own]), frozen.tokenizer.eos_token_id}  # None ends nothing

    def add(self, stream: Stream) -> None:
        """Let a stream join at the next step.

        Raises
        ------
        UserError
            It does not fit into the model's context.
        ValueError
            Its rows and weights are not of one number, or no weight is positive.
        """
        if len(stream.rows) != len(stream.weights) or not max(stream.weights, default=0) > 0:
            raise ValueError(f"{len(stream.rows)} rows have the weights {list(stream.weights)}")
        limit = self.frozen.max_length
        if limit and stream.longest > limit:
            raise UserError(
                f"the conversation needs {stream.longest - stream.sampling.max_tokens} tokens and an answer of "
                f"{stream.sampling.max_tokens}, the model takes {limit}; shorten either"
            )
        self.waiting.append(stream)

    def remove(self, stream: Stream) -> None:
        """Forget a stream that nobody waits for any more."""
        if stream in self.waiting:
            self.waiting.remove(stream)
        if stream in self.running:
            self.running.remove(stream)
            stream.finish = stream.finish or "stop"
            if not self.running:  # else at the next step, with others that end meanwhile: it copies all that stay
                self._drop_finished()

    @torch.inference_mode()
    def step(self) -> list[Stream]:
        """Admit who waits, and say one more token of each stream. Those that got one or ended are returned."""
        self._drop_finished()
        self._admit()
        moved = list(self.running)
        if not moved:
            return []
        opinions = [mixture(torch.stack([row.logits for row in self._live[s]]), s.weights) for s in moved]
        for stream, token in zip(moved, draw(moved, torch.stack(opinions)), strict=True):
            self._say(stream, token)
        self.running = [stream for stream in self.running if stream.finish is None]
        self._drop_finished()
        with self._fitting():
            for batch in self._batches:
                batch.advance()
        return moved

    def _say(self, stream: Stream, token: Token | None) -> None:
        """Go on with a stream by its next token, or end it."""
        if token is None:
            stream.finish = "error"
        elif token.id in self._ends:
            stream.finish = "stop"
        else:
            stream.said.append(token)
            for row in self._live[stream]:
                row.said.append(token.id)
            if len(stream.said) >= stream.sampling.max_tokens:
                stream.finish = "length"

    def _drop_finished(self) -> None:
        """Take the rows of streams that have ended out of their batches."""
        for stream in [stream for stream in self._live if stream.finish is not None]:
            for row in self._live.pop(stream):
                row.done = True
        for batch in self._batches:
            batch.drop_done()
        self._batches = [batch for batch in self._batches if batch.rows]

    def _admit(self) -> None:
        """Begin with the streams for which there is room, in order of arrival; one always has."""
        admitted: list[Row] = []
        used, room = _tokens(self.running), self.budget.limit(DECODING)
        while self.waiting and (not used or used + _tokens(self.waiting[:1]) <= room):
            stream = self.waiting.pop(0)
            rows = self._live[stream] = [Row(row, [token.id for token in stream.said]) for row in stream.rows]
            self.running.append(stream)
            admitted += rows
            used += _tokens([stream])
        if not admitted:
            return
        with self._fitting():
            for rows in self._together(admitted):
                batch = Batch(self.frozen, rows)
                host = next((other for other in self._batches if self._may_join(batch, other)), None)
                if host:
                    host.merge(batch)
                else:
                    self._batches.append(batch)

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """Compute; where memory runs out, let all that run wait for fewer to be read at once."""
        with self.budget.halved_when_full(DECODING, _tokens(self.running)) as attempt:
            yield
        if not attempt.fits:
            self.waiting = self.running + self.waiting
            self.running, self._live, self._batches = [], {}, []

    def _together(self, rows: list[Row]) -> list[list[Row]]:
        """Rows in groups that the model does not mix up."""
        lengths = sorted(row.length for row in rows)
        kind = rows_together(self.frozen, lengths[0], lengths[-1]) if len(rows) > 1 else "padded"
        if kind == "padded":
            return [rows]
        if kind == "single":
            return [[row] for row in rows]
        return [[row for row in rows if row.length == length] for length in dict.fromkeys(lengths)]

    def _may_join(self, batch: Batch, other: Batch) -> bool:
        """Whether a batch's rows can go on in another."""
        if not (batch.joinable and other.joinable):
            return False
        lengths = [row.length for row in batch.rows + other.rows]
        return rows_together(self.frozen, min(lengths), max(lengths)) == "padded"


def _tokens(streams: Sequence[Stream]) -> int:
    """Tokens of all rows together once the answers are complete."""
    return sum(len(stream.rows) * stream.longest for stream in streams)


def mixture(logits: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Log probabilities (vocabulary,) of the weighted mixture of the distributions of logits (rows, vocabulary).

    Rows that are not finite are left out; NaN where none is left.
    """
    if len(logits) == 1:
        return torch.log_softmax(logits[0], dim=-1)
    share = torch.tensor(weights, dtype=torch.float32, device=logits.device)
    scores = torch.log_softmax(logits, dim=-1)
    share = torch.where(torch.isfinite(scores.amax(dim=-1)), share, 0.0)
    return torch.logsumexp(scores.nan_to_num(nan=-torch.inf) + (share / share.sum()).log()[:, None], dim=0)


def draw(streams: Sequence[Stream], scores: torch.Tensor) -> list[Token | None]:
    """A token for each stream by its log probabilities (streams, vocabulary); None where they are not finite."""
    finite = torch.isfinite(scores.amax(dim=-1)).tolist()
    chosen = scores.argmax(dim=-1)
    warm = [place for place, stream in enumerate(streams) if stream.sampling.temperature >= COLD]
    if warm:
        chosen[warm] = _sampled([streams[place] for place in warm], scores[warm])
    own = scores.gather(1, chosen[:, None])[:, 0].tolist()
    tokens: list[Token | None] = []
    for stream, row, id, score, sound in zip(streams, scores, chosen.tolist(), own, finite, strict=True):
        top = row.topk(min(stream.sampling.top, len(row))) if stream.sampling.top else None
        alternatives = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else ()
        tokens.append(Token(id, score, alternatives) if sound else None)
    return tokens


def _sampled(streams: Sequence[Stream], scores: torch.Tensor) -> torch.Tensor:
    """Ids (streams,) sampled by the Gumbel-max trick on temperature and nucleus."""
    temperature, most = torch.tensor(
        [(stream.sampling.temperature, stream.sampling.top_p) for stream in streams], device=scores.device
    ).T[:, :, None]
    scores = scores / temperature
    if bool((most < 1).any()):
        ranked, order = torch.softmax(scores, dim=-1).sort(descending=True)
        beyond = (ranked.cumsum(dim=-1) - ranked >= most) & (most < 1)
        scores = scores.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
    keys = [
        stream.noise[len(stream.said)] if stream.noise else seed_key(stream.sampling.seed, len(stream.said))
        for stream in streams
    ]
    return (scores + gumbel(torch.tensor(keys, device=scores.device), scores.shape[1])).argmax(dim=-1)


class Text:
    """An answer's text as its tokens arrive, and where it ends.

    Parameters
    ----------
    frozen
        Whose tokenizer it is.
    stops
        Texts that end it once something has been said; they are not part of it.
    """

    def __init__(self, frozen: FrozenModel, stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.stops = frozen.tokenizer, tuple(stops)
        self.text = ""
        self.stopped = False

    def update(self, stream: Stream) -> str:
        """What is new in a stream's text; sets `stopped` where a stop text came up.

        Held back are characters of which not all bytes are there, and what may be the beginning of a stop text.
        """
        ids = [token.id for token in stream.said]
        whole = str(self.tokenizer.decode(ids, skip_special_tokens=True)).lstrip()
        at = min((place for stop in self.stops if (place := whole.find(stop)) >= 0), default=-1)
        if at >= 0:
            whole, self.stopped = whole[:at], True
        elif stream.finish is None:
            whole = whole.rstrip("\ufffd")
            begun = (n for stop in self.stops for n in range(1, len(stop)) if whole.endswith(stop[:n]))
            whole = whole[: len(whole) - max(begun, default=0)]
        new, self.text = whole[len(self.text) :], max(self.text, whole, key=len)
        return new


def decode(
    decoder: Decoder, streams: Sequence[Stream], stops: Sequence[str] = (), tell: Callable[[str], object] | None = None
) -> list[str]:
    """The texts of some streams, run to their ends; `tell` is called with what is new of any."""
    texts = {stream: Text(decoder.frozen, stops) for stream in streams}
    for stream in streams:
        decoder.add(stream)
    while any(stream.finish is None for stream in streams):
        for stream in decoder.step():
            if stream in texts:
                new = texts[stream].update(stream)
                if tell and new:
                    tell(new)
                if texts[stream].stopped:
                    stream.finish = "stop"
                    decoder.remove(stream)
    return [texts[stream].text.strip() for stream in streams]
