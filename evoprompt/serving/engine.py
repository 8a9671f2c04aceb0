"""One thread that owns the model and continues all requests' answers together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
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
class _Listener:
    """Who is told of a stream, and what they know of it."""

    tell: Callable[[Any], None]
    stream: int
    text: Text
    told: int = 0  # tokens


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
        self._decoder = Decoder(frozen)
        self._listeners: dict[Stream, _Listener] = {}
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # what other threads want done
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
        self._stopping = True
        self._orders.put(None)
        self._thread.join(timeout=30)

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run a function that uses the model, between two steps; never, if it is cancelled before its turn."""
        done: Future[Result] = Future()
        self._order(lambda: _settle(done, function))
        return await asyncio.wrap_future(done)

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

        def tell(item: Any) -> None:
            if not loop.is_closed():  # a closed one wants nothing any more
                loop.call_soon_threadsafe(news.put_nowait, item)

        def begin() -> None:
            for place, stream in enumerate(streams):
                self._decoder.add(stream)
                self._listeners[stream] = _Listener(tell, place, Text(self.frozen, stops))

        def forget() -> None:
            for stream in streams:
                self._listeners.pop(stream, None)
                self._decoder.remove(stream)

        left = len(streams)
        deadline = None if seconds is None else loop.time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self.call(begin)
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
                    self._order(forget)

    def _order(self, what: Callable[[], None]) -> None:
        if self._stopping:
            raise EngineError("the server is shutting down")
        self._orders.put(what)

    def _loop(self) -> None:
        while True:
            order = None
            with suppress(Empty):  # one at a time between two steps: none holds up the others
                order = self._orders.get(block=not self._listeners)
            if self._stopping:
                self._fail(EngineError("the server is shutting down"))
                return
            try:
                if order is not None:
                    order()
                if self._listeners:
                    self._step()
            except Exception as error:  # what was under way is lost, with a word to each, and it goes on with new ones
                lost = len({id(heard.tell) for heard in self._listeners.values()})  # a request hears all of its streams
                logger.error("the model failed; %d answers are lost", lost, exc_info=error)
                self._decoder = Decoder(self.frozen)
                self._fail(EngineError(f"the model failed: {type(error).__name__}"))

    def _step(self) -> None:
        for stream in self._decoder.step():
            if heard := self._listeners.get(stream):
                new = heard.text.update(stream)
                if heard.text.stopped and stream.finish is None:
                    self._decoder.remove(stream)
                tokens = tuple(stream.said[heard.told :])
                heard.told = len(stream.said)
                self.tokens += len(tokens)
                if stream.finish is not None:
                    del self._listeners[stream]
                finish = "stop" if heard.text.stopped else stream.finish
                heard.tell(Piece(heard.stream, new, tokens, finish))

    def _fail(self, error: Exception) -> None:
        for heard in self._listeners.values():
            heard.tell(error)
        self._listeners.clear()


def _settle(done: Future[Result], function: Callable[[], Result]) -> None:
    """Run a function for whoever waits for its result, unless nobody does any more."""
    if done.set_running_or_notify_cancel():
        try:
            done.set_result(function())
        except Exception as error:
            done.set_exception(error)
