"""The reply to one request: it is routed, decoded and composed, and told whole or as it comes."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from evoprompt.errors import UserError
from evoprompt.llm.speak.decoding import Sampling, Stream, Token
from evoprompt.routing import Opinion, Profile, Route, Voice
from evoprompt.routing.committee import panel_text
from evoprompt.serving.engine import EngineError, Piece
from evoprompt.serving.protocol import (
    ChatRequest,
    chunk,
    completion,
    problem,
    shown_committee,
    shown_opinion,
    shown_tokens,
    usage,
)
from evoprompt.serving.service import Service

DEFAULT_TOKENS = 128
GRACE_S = 5.0  # for the last words of an answer to be read
ROUTED = 2_000  # characters of a question by which it is routed


class Reply:
    """The answer to one request, from routing to its last word."""

    def __init__(
        self,
        service: Service,
        asked: ChatRequest,
        messages: list[dict[str, str]],
        composition: str,
        voices: list[Voice] | None,
    ) -> None:
        self.service, self.asked, self.messages, self.composition = service, asked, messages, composition
        self.voices: Sequence[Voice] = voices or ()
        self.route: Route | None = None
        self.streams: list[Stream] = []
        self.opinion: Opinion | None = None
        self.identity = f"chatcmpl-{uuid.uuid4().hex}"
        self.began = time.monotonic()
        self.closed = False
        top = asked.top_logprobs if asked.logprobs else 0
        length = asked.tokens or min(DEFAULT_TOKENS, service.limits.tokens)
        self.sampling = Sampling(length, asked.temperature, asked.top_p, asked.seed % 2**63, top)
        self.said: list[Token] = []

    @property
    def about(self) -> dict[str, Any]:
        """Who answers and why."""
        return shown_committee(self.route, self.voices, self.composition)

    @property
    def prompt_tokens(self) -> int:
        return sum(len(row) for stream in self.streams for row in stream.rows)

    async def prepare(self) -> None:
        """Route, and check that the model takes the conversation."""
        profile = self.asked.profile
        known = Profile(profile.location, profile.language) if profile else Profile()
        committee = self.service.committee
        if not self.voices:
            query = self.messages[-1]["content"][:ROUTED]
            asking = partial(committee.route, query, known, self.asked.k)
            reads_model = committee.router is not None and committee.router.kind == "hidden"
            found = await (self.service.engine.call(asking) if reads_model else asyncio.to_thread(asking))
            self.route, self.voices = found
        voices = self.voices
        if self.asked.options is None:
            self.streams = await asyncio.to_thread(
                committee.streams, self.messages, voices, self.composition, self.sampling
            )
            limit = committee.frozen.max_length
            for stream in self.streams:
                if limit and stream.longest > limit:
                    raise UserError(
                        f"the conversation has {stream.longest - stream.sampling.max_tokens} tokens and asks for "
                        f"{stream.sampling.max_tokens} more; the model takes {limit} in all"
                    )
            if self.asked.logprobs and len(self.streams) > 1:
                raise UserError(f"logprobs: several voices speak in a {self.composition}; ask a mixture or an expert")
            if self.composition == "synthesis" and len(voices) > 1:  # refused now rather than after the panel
                await asyncio.to_thread(committee.synthesis, self.messages, voices, ["…"] * len(voices), self.sampling)
        for voice in voices:
            self.service.counts.chosen.labels(voice.name).inc()

    async def whole(self) -> dict[str, Any]:
        """The answer at once."""
        if self.asked.options is not None:
            return await self._opinion()
        pieces, finish = [], "stop"
        about = self.about
        async with aclosing(self._pieces()) as news:
            async for text, ended, _, said in news:
                pieces.append(text)
                finish = ended or finish
                about |= {"panel": said} if said else {}
        shown = shown_tokens(self.service.committee.frozen, self.said) if self.asked.logprobs else None
        return completion(
            self.identity, self.asked.model, "".join(pieces).strip(), finish, usage(self.prompt_tokens, len(self.said)),
            about, shown,
        )  # fmt: skip

    async def _opinion(self) -> dict[str, Any]:
        """The likeliest option as text, and the distribution beside it."""
        options, voices = self.asked.options or [], self.voices
        committee, question = self.service.committee, self.messages[-1]["content"]
        async with asyncio.timeout(self.left()):
            opinion = await self.service.engine.call(lambda: committee.opinion(question, options, Profile(), voices))
        likeliest = opinion.options[int(opinion.shares.argmax())]
        about = self.about | {"opinion": shown_opinion(opinion)}
        return completion(self.identity, self.asked.model, likeliest, "stop", usage(0, 0), about, None)

    async def events(self) -> AsyncGenerator[str]:
        """The answer as server-sent events."""
        frozen, model = self.service.committee.frozen, self.asked.model
        try:
            yield _event(chunk(self.identity, model, {"role": "assistant", "content": ""}) | {"evoprompt": self.about})
            async with aclosing(self._pieces()) as pieces:
                async for text, finish, tokens, said in pieces:
                    shown = shown_tokens(frozen, tokens) if self.asked.logprobs else None
                    if text or shown:
                        yield _event(chunk(self.identity, model, {"content": text}, None, shown))
                    if finish:
                        last = chunk(self.identity, model, {}, finish)
                        yield _event(last | ({"evoprompt": self.about | {"panel": said}} if said else {}))
            if self.asked.stream_options and self.asked.stream_options.include_usage:
                last = chunk(self.identity, model, {}) | {"choices": []}
                yield _event(last | {"usage": usage(self.prompt_tokens, len(self.said))})
        except TimeoutError:
            yield _event(
                problem(f"no whole answer within {self.service.limits.seconds:g} s", "server_error", "timeout")
            )
        except (EngineError, UserError) as error:
            yield _event(problem(" ".join(str(error).split()), "server_error"))
        yield "data: [DONE]\n\n"

    async def _pieces(self) -> AsyncGenerator[tuple[str, str | None, Sequence[Token], dict[str, str]]]:
        """Pieces of the answer: text, how it ended if it has, tokens, and at its end each voice's own answer."""
        committee, voices = self.service.committee, self.voices
        if len(self.streams) == 1:
            async with aclosing(self._run(self.streams)) as news:
                async for piece in news:
                    yield piece.text, _ended(piece.finish), piece.tokens, {}
            return
        texts, ends = [""] * len(voices), ["stop"] * len(voices)
        async with aclosing(self._run(self.streams)) as news:
            async for piece in news:
                texts[piece.stream] += piece.text
                ends[piece.stream] = _ended(piece.finish) or "stop"
        answers = [text.strip() for text in texts]
        panel = {voice.name: text for voice, text in zip(voices, answers, strict=True)}
        if self.composition == "panel":
            yield panel_text(voices, answers), max(ends, key=("stop", "length").index), (), panel
            return
        merging = await asyncio.to_thread(committee.synthesis, self.messages, voices, answers, self.sampling)
        self.streams.append(merging)
        async with aclosing(self._run([merging])) as news:
            async for piece in news:
                yield piece.text, _ended(piece.finish), piece.tokens, panel if piece.finish else {}

    async def _run(self, streams: Sequence[Stream]) -> AsyncGenerator[Piece]:
        """News of streams until the request's time is up."""
        stops = (*self.service.committee.stops, *self.asked.stops)
        async with aclosing(self.service.engine.run(streams, stops, self.left())) as news:
            async for piece in news:
                self.said += piece.tokens
                yield piece

    def left(self) -> float:
        """Seconds until the request's time is up."""
        return max(0.0, self.began + self.service.limits.seconds - time.monotonic())

    def close(self) -> None:
        """Count the request as done, once."""
        if not self.closed:
            self.closed = True
            self.service.open -= 1
            self.service.counts.seconds.observe(time.monotonic() - self.began)
            self.service.counts.tokens.inc(len(self.said))


class Events(StreamingResponse):
    """A reply as server-sent events; however it ends, nothing of it is left behind.

    A client that reads too slowly is cut off when its time is up.
    """

    def __init__(self, reply: Reply) -> None:
        self.reply, self.text = reply, reply.events()
        super().__init__(self.text, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, and close the reply whatever happens."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.reply.left() + GRACE_S):
                    await super().__call__(scope, receive, send)
        finally:
            await self.text.aclose()
            self.reply.close()


def _ended(finish: str | None) -> str | None:
    """How an answer ended in OpenAI's words.

    Raises
    ------
    EngineError
        The model's output was not finite.
    """
    if finish == "error":
        raise EngineError("the model's output is not finite")
    return finish


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
