"""Many answers at once: rows that join and leave a running batch, some of them said in lockstep."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from evoprompt.errors import UserError
from evoprompt.llm.load.memory import is_out_of_memory
from evoprompt.llm.load.model import FrozenModel
from evoprompt.llm.speak.few_rows import few_rows, layers_for_few_rows
from evoprompt.llm.speak.generation import check_generation, end_tokens, rows_together
from evoprompt.llm.speak.sampled import gumbel

logger = logging.getLogger(__name__)

COLD = 1e-3  # temperatures below are 0
BATCH_TOKENS = 16_384  # of all rows together, with the longest answers that they may give


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
    said
        Its tokens so far, without the one that ended it.
    finish
        None while it goes on; then `stop` (an end token, or `Decoder.stop`), `length`, or `error` where no row's
        distribution is finite.
    """

    rows: Sequence[torch.Tensor]
    weights: Sequence[float] = (1.0,)
    sampling: Sampling = GREEDY
    said: list[Token] = field(default_factory=list, init=False)
    finish: str | None = field(default=None, init=False)

    @property
    def longest(self) -> int:
        """Tokens of its longest row once the answer is complete."""
        return max(map(len, self.rows)) + self.sampling.max_tokens


@dataclass(eq=False)
class _Row:
    stream: Stream
    embedded: torch.Tensor
    logits: torch.Tensor = field(default_factory=lambda: torch.empty(0))  # of the next token, (vocabulary,)

    @property
    def length(self) -> int:
        """Tokens so far."""
        return len(self.embedded) + len(self.stream.said)

    def whole(self, frozen: FrozenModel) -> torch.Tensor:
        """Embeddings (length, H) of all of them."""
        said = torch.tensor([token.id for token in self.stream.said], dtype=torch.long, device=frozen.device)
        return torch.cat([self.embedded, frozen.embeddings(said)])


class Decoder:
    """Continues any number of streams, a token of each at every step.

    Rows of all streams are computed in one batch, padded on the left with explicit positions; a stream may be added
    while others are under way, and what a stream says does not depend on who is beside it. A model that cannot take
    rows of different lengths together is served by more batches.

    Parameters
    ----------
    frozen
        The model.
    batch_tokens
        Most tokens under way at once; further streams wait. None: `model.token_budget` or `BATCH_TOKENS`.

    Raises
    ------
    UserError
        The model does not generate after embeddings what its plain calls say.
    """

    def __init__(self, frozen: FrozenModel, batch_tokens: int | None = None) -> None:
        check_generation(frozen)
        self.frozen = frozen
        self.batch_tokens = batch_tokens or frozen.spec.token_budget or BATCH_TOKENS
        self.waiting: list[Stream] = []
        self.running: list[Stream] = []
        self._batches: list[_Batch] = []
        self._ends = set(end_tokens(frozen))
        self._layers = layers_for_few_rows(frozen)

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
            self._drop_finished()

    @torch.inference_mode()
    def step(self) -> list[Stream]:
        """Admit who waits, and say one more token of each stream. Those that got one or ended are returned."""
        self._admit()
        moved = list(self.running)
        rows: dict[Stream, list[_Row]] = {stream: [] for stream in moved}
        for batch in self._batches:
            for row in batch.rows:
                if row.stream in rows:
                    rows[row.stream].append(row)
        for stream in moved:
            self._say(stream, rows[stream])
        self.running = [stream for stream in self.running if stream.finish is None]
        self._drop_finished()
        for batch in self._batches:
            batch.advance()
        return moved

    def _say(self, stream: Stream, rows: list[_Row]) -> None:
        """Draw a stream's next token, or end it."""
        chosen = _draw(stream, mixture(torch.stack([row.logits for row in rows]), stream.weights))
        if chosen is None:
            stream.finish = "error"
        elif chosen.id in self._ends:
            stream.finish = "stop"
        else:
            stream.said.append(chosen)
            if len(stream.said) >= stream.sampling.max_tokens:
                stream.finish = "length"

    def _drop_finished(self) -> None:
        for batch in self._batches:
            batch.keep([row.stream.finish is None for row in batch.rows])
        self._batches = [batch for batch in self._batches if batch.rows]

    def _admit(self) -> None:
        """Begin with the streams for which there is room, in order of arrival; one always has."""
        used = sum(len(stream.rows) * stream.longest for stream in self.running)
        admitted: list[Stream] = []
        while self.waiting:
            cost = len(self.waiting[0].rows) * self.waiting[0].longest
            if used and used + cost > self.batch_tokens:
                break
            admitted.append(self.waiting.pop(0))
            used += cost
        if not admitted:
            return
        try:
            begun = [_Batch(self.frozen, rows, self._layers) for rows in self._together(admitted)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._wait_longer(admitted)
            return
        self.running += admitted
        for batch in begun:
            host = next((other for other in self._batches if other.takes(batch)), None)
            if host:
                host.merge(batch)
            else:
                self._batches.append(batch)

    def _wait_longer(self, admitted: list[Stream]) -> None:
        """Memory ran out: fewer at once from now on."""
        if not self.running and len(admitted) == 1:
            admitted[0].finish = "error"
            raise UserError(
                f"model {self.frozen.spec.name!r} runs out of memory on a single answer; use a smaller dtype, "
                "fewer experts or a shorter conversation"
            )
        self.waiting = admitted + self.waiting
        under_way = sum(len(stream.rows) * stream.longest for stream in (*self.running, *admitted))
        self.batch_tokens = max(1, under_way // 2)
        logger.warning("out of memory; going on with batches of at most %d tokens", self.batch_tokens)

    def _together(self, streams: list[Stream]) -> list[list[_Row]]:
        """Rows of new streams, in groups that the model does not mix up."""
        rows = [_Row(stream, embedded) for stream in streams for embedded in stream.rows]
        lengths = sorted(len(row.embedded) for row in rows)
        kind = rows_together(self.frozen, lengths[0], lengths[-1]) if len(rows) > 1 else "padded"
        if kind == "padded":
            return [rows]
        if kind == "single":
            return [[row] for row in rows]
        return [[row for row in rows if len(row.embedded) == length] for length in dict.fromkeys(lengths)]


class _Batch:
    """Rows with one key-value cache."""

    def __init__(self, frozen: FrozenModel, rows: list[_Row], layers: list[nn.Linear]) -> None:
        self.frozen, self.rows, self._layers = frozen, rows, layers
        known = inspect.signature(frozen.model.forward).parameters
        self._positions = "position_ids" in known
        self._keeps = "past_key_values" in known  # others, such as Mamba, read everything again at each step
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        self.cache: Any = None
        self.mask = torch.empty(0)  # which tokens are not padding, (rows, tokens)
        self._read([row.embedded for row in rows])

    @property
    def joinable(self) -> bool:
        """Whether rows can be put in and taken out: all layers keep plain keys and values."""
        from transformers.cache_utils import DynamicCache, DynamicLayer

        return type(self.cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in self.cache.layers)

    def takes(self, other: _Batch) -> bool:
        """Whether another batch's rows can go on in this one."""
        if not (self.joinable and other.joinable):
            return False
        lengths = [row.length for row in self.rows + other.rows]
        return rows_together(self.frozen, min(lengths), max(lengths)) == "padded"

    def merge(self, other: _Batch) -> None:
        """Take the rows of another batch in."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        mine, theirs = ([*range(len(batch.rows))] for batch in (self, other))
        for own, new in zip(self.cache.layers, other.cache.layers, strict=True):
            own.keys = torch.cat([_widened(own.keys[mine], width, -2), _widened(new.keys[theirs], width, -2)])
            own.values = torch.cat([_widened(own.values[mine], width, -2), _widened(new.values[theirs], width, -2)])
        self.mask = torch.cat([_widened(self.mask[mine], width, -1), _widened(other.mask[theirs], width, -1)])
        self.rows = self.rows + other.rows
        self._select([*range(len(self.rows))])

    def keep(self, wanted: list[bool]) -> None:
        """Go on with some of the rows; a cache that cannot give any up keeps all until none is wanted."""
        if all(wanted) or (any(wanted) and not self.joinable):
            return
        places = [place for place, stays in enumerate(wanted) if stays]
        self.rows = [self.rows[place] for place in places]
        if self.rows:
            self._select(places)

    def _select(self, places: list[int]) -> None:
        """Let these places of mask and cache be the batch's rows."""
        mask = self.mask[places]
        unused = int((mask.cumsum(dim=1) == 0).all(dim=0).sum())  # columns on the left that nobody reads
        self.mask = mask[:, unused:]
        for layer in self.cache.layers:
            layer.keys, layer.values = (part[places][:, :, unused:] for part in (layer.keys, layer.values))

    def _read(self, rows: list[torch.Tensor]) -> None:
        """Read whole rows, embeddings (tokens, H) each."""
        ones = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in rows]
        self.mask = pad_sequence(ones, batch_first=True, padding_side="left")
        padded = pad_sequence(rows, batch_first=True, padding_side="left")
        self._forward(padded, (self.mask.cumsum(dim=1) - 1).clamp(min=0))

    def advance(self) -> None:
        """Read the last token of each row's stream."""
        if not self._keeps:
            self._read([row.whole(self.frozen) for row in self.rows])
            return
        ids = [row.stream.said[-1].id if row.stream.said else 0 for row in self.rows]
        tokens = torch.tensor(ids, device=self.frozen.device)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], dim=1)
        self._forward(self.frozen.embeddings(tokens)[:, None], self.mask.sum(dim=1, keepdim=True) - 1)

    def _forward(self, embedded: torch.Tensor, positions: torch.Tensor) -> None:
        placed = {"position_ids": positions} if self._positions else {}
        with few_rows(self._layers):
            found = self.frozen.model(
                inputs_embeds=embedded,
                attention_mask=self.mask,
                use_cache=self._keeps,
                **({"past_key_values": self.cache} if self._keeps else {}),
                **placed,
                **self._last,
            )
        self.cache = found.past_key_values if self._keeps else None
        for row, logits in zip(self.rows, found.logits[:, -1].float(), strict=True):
            row.logits = logits


def _widened(part: torch.Tensor, width: int, dim: int) -> torch.Tensor:
    """The same with zeros on the left of a dimension, the last or the one before."""
    missing = width - part.shape[dim]
    return pad(part, (0, 0, missing, 0) if dim == -2 else (missing, 0)) if missing else part


def mixture(logits: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Log probabilities (vocabulary,) of the weighted mixture of the distributions of logits (rows, vocabulary).

    Rows that are not finite are left out; NaN where none is left.
    """
    if len(logits) == 1:
        return torch.log_softmax(logits[0], dim=-1)
    share = torch.tensor(weights, dtype=torch.float32, device=logits.device)
    scores = torch.log_softmax(logits, dim=-1)
    share = torch.where(torch.isfinite(scores.amax(dim=-1)), share, 0.0)
    mixed = torch.logsumexp(scores.nan_to_num(nan=-torch.inf) + (share / share.sum()).log()[:, None], dim=0)
    return mixed


def _draw(stream: Stream, scores: torch.Tensor) -> Token | None:
    """A token by its log probabilities (vocabulary,); None where they are not finite.

    The noise of a step is keyed by the stream's seed alone, see `evoprompt.llm.speak.sampled.gumbel`.
    """
    if not bool(torch.isfinite(scores.max())):
        return None
    sampling, chosen = stream.sampling, scores
    if sampling.temperature >= COLD:
        chosen = scores / sampling.temperature
        if sampling.top_p < 1:
            ranked, order = torch.softmax(chosen, dim=-1).sort(descending=True)
            beyond = ranked.cumsum(dim=-1) - ranked >= sampling.top_p
            chosen = chosen.index_fill(0, order[beyond], -torch.inf)
        key = np.random.SeedSequence((sampling.seed, len(stream.said))).generate_state(1, np.uint64).view(np.int64)
        chosen = chosen + gumbel(torch.from_numpy(key).to(scores.device), len(scores))[0]
    id = int(chosen.argmax())
    top = scores.topk(min(sampling.top, len(scores))) if sampling.top else None
    alternatives = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)) if top else ()
    return Token(id, float(scores[id]), alternatives)


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
            whole = whole[: len(whole) - self._held(whole)]
        new, self.text = whole[len(self.text) :], max(self.text, whole, key=len)
        return new

    def _held(self, text: str) -> int:
        """Length of the longest end of a text that begins a stop text."""
        lengths = (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(lengths, default=0)


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
                if texts[stream].stopped and stream.finish is None:
                    stream.finish = "stop"
                    decoder.remove(stream)
    return [texts[stream].text.strip() for stream in streams]
