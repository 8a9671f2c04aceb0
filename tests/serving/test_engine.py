"""What nobody waits for any more is not computed, and a reader who is too slow is cut off."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import MutableMapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from evoprompt.experts import BUNDLED, Registry
from evoprompt.llm import FrozenModel
from evoprompt.llm.speak.decoding import Sampling, Stream
from evoprompt.routing import Committee
from evoprompt.serving import Engine, Limits, make_app
from evoprompt.serving.engine import Piece


def endless(pocket: FrozenModel) -> Engine:
    """An engine for which no token ends an answer."""
    engine = Engine(pocket)
    engine._decoder._ends = set()
    return engine


def long_stream(pocket: FrozenModel) -> Stream:
    return Stream([torch.zeros(4, pocket.hidden)], (1.0,), Sampling(900))


def test_an_answer_that_is_left_early_is_computed_no_further(pocket: FrozenModel) -> None:
    engine = endless(pocket)

    async def leave() -> None:
        async with aclosing(engine.run([long_stream(pocket)])) as news:
            async for _ in news:
                break
        await asyncio.sleep(0.5)

    try:
        asyncio.run(leave())
        assert engine.under_way == (0, 0)
        said = engine.tokens
        time.sleep(0.3)
        assert engine.tokens == said < 400
    finally:
        engine.close()


def test_the_news_of_answers_have_each_of_their_tokens_once(pocket: FrozenModel) -> None:
    engine, lengths = endless(pocket), (9, 6)
    streams = [Stream([torch.zeros(4, pocket.hidden)], (1.0,), Sampling(length)) for length in lengths]

    async def heard() -> list[Piece]:
        async with aclosing(engine.run(streams)) as news:
            return [piece async for piece in news]

    try:
        pieces = asyncio.run(heard())
        for place, stream in enumerate(streams):
            assert [token for piece in pieces if piece.stream == place for token in piece.tokens] == stream.said
        assert [len(stream.said) for stream in streams] == list(lengths)
        assert engine.tokens == sum(lengths)
    finally:
        engine.close()


def test_what_was_given_up_before_its_turn_is_never_run(pocket: FrozenModel) -> None:
    engine, gate, ran = endless(pocket), threading.Event(), []

    async def give_up() -> None:
        first = asyncio.ensure_future(engine.call(gate.wait))
        second = asyncio.ensure_future(engine.call(lambda: ran.append("second")))
        await asyncio.sleep(0.1)
        second.cancel()
        await asyncio.sleep(0.1)
        gate.set()
        assert await first
        assert await engine.call(lambda: "third") == "third"

    try:
        asyncio.run(give_up())
        assert ran == []
    finally:
        engine.close()


def test_an_answer_has_its_time_and_no_more(pocket: FrozenModel) -> None:
    engine = endless(pocket)

    async def wait() -> None:
        async with aclosing(engine.run([long_stream(pocket)], seconds=0.2)) as news:
            async for _ in news:
                pass

    try:
        with pytest.raises(TimeoutError):
            asyncio.run(wait())
    finally:
        engine.close()


def test_a_client_that_does_not_read_loses_its_place_when_its_time_is_up(pocket: FrozenModel) -> None:
    app = make_app(Committee(pocket, Registry(Path(BUNDLED), pocket)), Limits(seconds=1.0))
    body = b'{"model": "expert:usa", "messages": [{"role": "user", "content": "Why?"}], "stream": true}'

    async def receive() -> dict[str, Any]:
        if asked:
            return {"type": "http.request", "body": asked.pop(), "more_body": False}
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    async def unread() -> str:
        async with app.router.lifespan_context(app):
            headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
            path = "/v1/chat/completions"
            scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode()}
            scope |= {"query_string": b"", "headers": headers, "client": ("127.0.0.1", 1), "scheme": "http"}
            await asyncio.wait_for(app({**scope, "server": ("localhost", 80), "root_path": ""}, receive, send), 30)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
                return (await client.get("/metrics")).text

    asked = [body]
    assert "evoprompt_open_requests 0.0" in asyncio.run(unread())
