"""The reply to one request: it is routed, decoded and composed, and told whole or as it comes."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from evoprompt.errors import UserError
from evoprompt.llm.speak.decoding import Sampling, Stream, Token
from evoprompt.routing import Profile, Route, Voice
from evoprompt.routing.committee import panel_text
from evoprompt.routing.encoders import HiddenEncoder
from evoprompt.serving.engine import EngineError, Piece
from evoprompt.serving.protocol import ChatRequest, problem, shown_committee, shown_opinion, shown_tokens
from evoprompt.serving.service import Service

DEFAULT_TOKENS = 128
GRACE_S = 5.0  # for the last words of an answer to be read
ROUTED = 2_000  # characters of a question by which it is routed


@dataclass(eq=False)
class Reply:
    """The answer to one request, from routing to its last word."""

    service: Service
    asked: ChatRequest
    messages: list[dict[str, str]]
    composition: str
    voices: Sequence[Voice]  # none: whom the router chooses
    route: Route | None = None
    streams: list[Stream] = field(default_factory=list)
    panel: dict[str, str] = field(default_factory=dict)  # each voice's own answer, once they are told together
    said: list[Token] = field(default_factory=list)
    identity: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    began: float = field(default_factory=time.monotonic)

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        asked, most = self.asked, min(DEFAULT_TOKENS, self.service.limits.tokens)
        top = asked.top_logprobs if asked.logprobs else 0
        return Sampling(asked.tokens or most, asked.temperature, asked.top_p, asked.seed % 2**63, top)

    @property
    def about(self) -> dict[str, Any]:
        """Who answers and why."""
        about = shown_committee(self.route, self.voices, self.composition)
        return about | {"panel": self.panel} if self.panel else about

    @property
    def usage(self) -> dict[str, int]:
        """How many tokens were read and said."""
        read, said = sum(len(row) for stream in self.streams for row in stream.rows), len(self.said)
        return {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}

    def body(
        self, kind: str, part: dict[str, Any], finish: str | None = None, tokens: Sequence[Token] | None = None
    ) -> dict[str, Any]:
        """The answer or a piece of it, in OpenAI's form."""
        logprobs = None
        if self.asked.logprobs and tokens is not None:
            logprobs = {"content": shown_tokens(self.service.committee.frozen, tokens), "refusal": None}
        return {
            "id": self.identity,
            "object": kind,
            "created": int(time.time()),
            "model": self.asked.model,
            "choices": [{"index": 0, **part, "logprobs": logprobs, "finish_reason": finish}],
        }

    async def prepare(self) -> None:
        """Route, and check that the model takes the conversation."""
        profile = self.asked.profile
        known = Profile(profile.location, profile.language) if profile else Profile()
        committee = self.service.committee
        if not self.voices:
            query = self.messages[-1]["content"][:ROUTED]
            asking = partial(committee.route, query, known, self.asked.k)
            reads_model = committee.router is not None and isinstance(committee.router.encoder, HiddenEncoder)
            found = await (self.service.engine.call(asking) if reads_model else asyncio.to_thread(asking))
            self.route, self.voices = found
        voices = self.voices
        if self.asked.options is None:
            asked = self.messages, voices, self.composition, self.sampling
            self.streams = await asyncio.to_thread(committee.streams, *asked)
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
        text, finish = "", "stop"
        opinion: dict[str, Any] = {}
        if self.asked.options is not None:
            text, opinion = await self._opinion(self.asked.options)
        else:
            async with aclosing(self._pieces()) as news:
                async for piece in news:
                    text += piece.text
                    finish = piece.finish or finish
        message = {"role": "assistant", "content": text.strip(), "refusal": None}
        body = self.body("chat.completion", {"message": message}, finish, None if opinion else self.said)
        return body | {"usage": self.usage, "evoprompt": self.about | opinion}

    async def _opinion(self, options: list[str]) -> tuple[str, dict[str, Any]]:
        """The likeliest option as text, and the distribution."""
        committee, question, voices = self.service.committee, self.messages[-1]["content"], self.voices
        async with asyncio.timeout(self.left()):
            opinion = await self.service.engine.call(lambda: committee.opinion(question, options, Profile(), voices))
        return opinion.options[int(opinion.shares.argmax())], {"opinion": shown_opinion(opinion)}

    async def events(self) -> AsyncGenerator[str]:
        """The answer as server-sent events."""
        chunk = partial(self.body, "chat.completion.chunk")
        try:
            yield _event(chunk({"delta": {"role": "assistant", "content": ""}}) | {"evoprompt": self.about})
            async with aclosing(self._pieces()) as pieces:
                async for piece in pieces:
                    if piece.text or (self.asked.logprobs and piece.tokens):
                        yield _event(chunk({"delta": {"content": piece.text}}, None, piece.tokens))
                    if piece.finish:
                        about = {"evoprompt": self.about} if self.panel else {}
                        yield _event(chunk({"delta": {}}, piece.finish) | about)
            if self.asked.stream_options and self.asked.stream_options.include_usage:
                yield _event(chunk({"delta": {}}) | {"choices": [], "usage": self.usage})
        except TimeoutError:
            told = f"no whole answer within {self.service.limits.seconds:g} s"
            yield _event(problem(told, "server_error", "timeout"))
        except (EngineError, UserError) as error:
            yield _event(problem(" ".join(str(error).split()), "server_error"))
        yield "data: [DONE]\n\n"

    async def _pieces(self) -> AsyncGenerator[Piece]:
        """Pieces of the answer, the last with how it ended."""
        committee, voices, last = self.service.committee, self.voices, self.streams
        if len(last) > 1:
            texts, ends = [""] * len(voices), ["stop"] * len(voices)
            async with aclosing(self._run(self.streams)) as news:
                async for piece in news:
                    texts[piece.stream] += piece.text
                    ends[piece.stream] = piece.finish or "stop"
            answers = [text.strip() for text in texts]
            self.panel = {voice.name: text for voice, text in zip(voices, answers, strict=True)}
            if self.composition == "panel":
                yield Piece(0, panel_text(voices, answers), (), max(ends, key=("stop", "length").index))
                return
            last = [await asyncio.to_thread(committee.synthesis, self.messages, voices, answers, self.sampling)]
            self.streams = [*self.streams, *last]
        async with aclosing(self._run(last)) as news:
            async for piece in news:
                yield piece

    async def _run(self, streams: Sequence[Stream]) -> AsyncGenerator[Piece]:
        """News of streams until the request's time is up.

        Raises
        ------
        EngineError
            The model's output was not finite.
        """
        stops = (*self.service.committee.stops, *self.asked.stops)
        async with aclosing(self.service.engine.run(streams, stops, self.left())) as news:
            async for piece in news:
                self.said += piece.tokens
                if piece.finish == "error":
                    raise EngineError("the model's output is not finite")
                yield piece

    def left(self) -> float:
        """Seconds until the request's time is up."""
        return max(0.0, self.began + self.service.limits.seconds - time.monotonic())

    def close(self) -> None:
        """Count the request as done."""
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


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
