"""One thread that owns the model and continues all requests' answers together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from evoprompt.llm import FrozenModel
from evoprompt.llm.speak.decoding import Decoder, Stream, Text, Token

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class EngineError(Exception):
    """An answer was lost by a fault of the engine's own, not of the request's."""


@dataclass(frozen=True)
class Piece:
    """News of one stream: new text, its new tokens, and how it ended if it has."""

    stream: int
    text: str
    tokens: tuple[Token, ...]
    finish: str | None


@dataclass(eq=False)
class _Job:
    streams: Sequence[Stream]
    texts: Sequence[Text]
    tell: Callable[[Any], None]
    told: list[int] = field(default_factory=list)  # tokens of each stream that were told
    ended: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.told = [0] * len(self.streams)


class Engine:
    """Decodes the streams of any number of requests in one running batch.

    What a request gets is its own streams' news and nothing else; it may leave at any time. A fault of the model ends
    the answers that were under way with an `EngineError`, and the engine goes on with new ones.

    Parameters
    ----------
    frozen
        The model, used by the engine's thread alone while it runs.
    """

    def __init__(self, frozen: FrozenModel) -> None:
        self.frozen = frozen
        self.tokens = 0  # said so far
        self.steps = 0
        self._decoder = Decoder(frozen)
        self._jobs: dict[Stream, _Job] = {}
        self._orders: deque[Callable[[], None]] = deque()  # what other threads want done
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    @property
    def under_way(self) -> tuple[int, int]:
        """Streams that are decoded, and streams that wait for room."""
        return len(self._decoder.running), len(self._decoder.waiting)

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop; answers under way end with an `EngineError`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout=30)

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run a function that uses the model, between two steps."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        given_up = threading.Event()

        def work() -> None:
            if given_up.is_set():
                return
            try:
                result = function()
            except Exception as error:
                _settle(loop, done, error=error)
            else:
                _settle(loop, done, result)

        self._order(work)
        try:
            return await done
        finally:
            given_up.set()

    async def run(
        self, streams: Sequence[Stream], stops: Sequence[str] = (), seconds: float | None = None
    ) -> AsyncGenerator[Piece]:
        """Decode streams to their ends, telling their news; left early, they are dropped.

        Raises
        ------
        TimeoutError
            They were not done after so many seconds.
        UserError
            A stream does not fit into the model's context.
        EngineError
            The model failed.
        """
        loop, news = asyncio.get_running_loop(), asyncio.Queue[Any]()
        job = _Job(streams, [Text(self.frozen, stops) for _ in streams], lambda item: _put(loop, news, item))
        self._order(lambda: self._begin(job))
        left = len(streams)
        deadline = None if seconds is None else loop.time() + seconds
        try:
            while left:
                async with asyncio.timeout_at(deadline):
                    item = await news.get()
                if isinstance(item, Exception):
                    raise item
                left -= item.finish is not None
                yield item
        finally:
            if left:
                with suppress(EngineError):  # a closed engine has forgotten it
                    self._order(lambda: self._forget(job))

    def _order(self, what: Callable[[], None]) -> None:
        with self._wake:
            if self._stopping:
                raise EngineError("the server is shutting down")
            self._orders.append(what)
            self._wake.notify()

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not (self._orders or self._jobs or self._stopping):
                    self._wake.wait()
                order = self._orders.popleft() if self._orders else None  # one at a time: none holds up the others
                stopping = self._stopping
            if stopping:
                self._fail(EngineError("the server is shutting down"))
                return
            try:
                if order is not None:
                    order()
                if self._jobs:
                    self._step()
            except Exception as error:
                self._start_anew(error)

    def _begin(self, job: _Job) -> None:
        try:
            for stream in job.streams:
                self._decoder.add(stream)
                self._jobs[stream] = job
        except Exception as error:
            self._forget(job)
            job.tell(error)

    def _forget(self, job: _Job) -> None:
        for stream in job.streams:
            self._jobs.pop(stream, None)
            self._decoder.remove(stream)

    def _step(self) -> None:
        moved = self._decoder.step()
        self.steps += 1
        for stream in moved:
            if stream in self._jobs:
                self._tell(self._jobs[stream], stream)

    def _tell(self, job: _Job, stream: Stream) -> None:
        place = job.streams.index(stream)
        text = job.texts[place]
        new = text.update(stream)
        if text.stopped and stream.finish is None:
            self._decoder.remove(stream)
        tokens = tuple(stream.said[job.told[place] :])
        job.told[place] = len(stream.said)
        self.tokens += len(tokens)
        if stream.finish is not None:
            del self._jobs[stream]
        finish = "stop" if text.stopped else stream.finish
        job.tell(Piece(place, new, tokens, finish))

    def _start_anew(self, error: Exception) -> None:
        """Go on after a fault: what was under way is lost, with a word to each."""
        logger.error("the model failed; %d answers are lost", len({*self._jobs.values()}), exc_info=error)
        self._decoder = Decoder(self.frozen)
        self._fail(EngineError(f"the model failed: {type(error).__name__}"))

    def _fail(self, error: Exception) -> None:
        for job in {*self._jobs.values()}:
            job.tell(error)
        self._jobs.clear()


def _put(loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Any], item: Any) -> None:
    """Hand something to a loop's queue; a loop that is closed wants nothing any more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, item)


def _settle(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    result: Any = None,
    error: Exception | None = None,
) -> None:
    def settle() -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(result)

    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)
