"""The web application: routes, limits, errors."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evoprompt import __version__
from evoprompt.errors import UserError
from evoprompt.llm.conversation import check_messages
from evoprompt.llm.decoding import Sampling, Stream, Token
from evoprompt.routing import COMPOSITIONS, Committee, Opinion, Profile, Route, Voice
from evoprompt.routing.committee import panel_text, profile_of
from evoprompt.serving.engine import Engine, EngineError
from evoprompt.serving.limits import USUAL, Limits
from evoprompt.serving.protocol import (
    ChatRequest,
    chunk,
    completion,
    model_entry,
    problem,
    shown_committee,
    shown_opinion,
    shown_tokens,
    usage,
)
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS

logger = logging.getLogger(__name__)

RELOAD_S = 2.0  # between looks at the experts' folder
DEFAULT_TOKENS = 128
MOST_EXPERTS = 5  # of one answer, unless the operator allows more
ROUTED = 2_000  # characters of a question by which it is routed
READ_S = 30.0  # for a request's body to arrive
PAGE = {"": ("page.html", "text/html"), "page.js": ("page.js", "text/javascript"), "page.css": ("page.css", "text/css")}
COUNTED = ("/", "/health", "/metrics", "/v1/models", "/v1/experts", "/v1/chat/completions")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class RefusedError(Exception):
    """A request that is not served: status, message, and OpenAI's type and code."""

    def __init__(self, status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.body = status, problem(message, kind, code)


@dataclass(eq=False)
class _Metrics:
    """What `/metrics` tells, in Prometheus' form."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        own = {"registry": self.registry}
        self.requests = Counter("evoprompt_requests", "Requests by path and status", ["path", "status"], **own)
        self.seconds = Histogram("evoprompt_answer_seconds", "Seconds from request to the answer's end", **own)
        self.tokens = Counter("evoprompt_tokens", "Tokens said", **own)
        self.chosen = Counter("evoprompt_chosen", "Answers by who spoke", ["expert"], **own)
        self.open = Gauge("evoprompt_open_requests", "Answers under way or waiting", **own)
        self.experts = Gauge("evoprompt_experts", "Experts that can be asked", **own)


def make_app(
    committee: Committee, limits: Limits = USUAL, token: str | None = None, hosts: Collection[str] | None = None
) -> FastAPI:
    """The application that serves a committee.

    Parameters
    ----------
    committee
        Who answers.
    limits
        What is taken from clients.
    token
        If given, whoever asks must show it as bearer token; the page and `/health` are open.
    hosts
        Names by which it may be called; None: any. Where only this machine may ask, a page from elsewhere that has its
        own name resolve to this machine must not.
    """
    server = _Server(committee, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.engine = Engine(committee.frozen)
        watching = asyncio.create_task(server.watch())
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await asyncio.to_thread(server.engine.close)

    app = FastAPI(
        title="evoprompt", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(_Gate, server=server, token=token, hosts=hosts)

    app.add_api_route("/health", server.health, methods=["GET"])
    app.add_api_route("/metrics", server.metrics_page, methods=["GET"])
    app.add_api_route("/v1/models", server.models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", server.model, methods=["GET"])
    app.add_api_route("/v1/experts", server.experts, methods=["GET"])
    app.add_api_route("/v1/chat/completions", server.chat, methods=["POST"], response_model=None)
    for name, (file, kind) in PAGE.items():
        app.add_api_route(f"/{name}", _static(file, kind), methods=["GET"])

    @app.exception_handler(RefusedError)
    async def _refused(request: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse(error.body, error.status)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(problem(_first_fault(error.errors()), "invalid_request_error"), 400)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(problem(str(error.detail), "invalid_request_error"), error.status_code)

    @app.exception_handler(Exception)
    async def _failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(problem("the server failed on this request", "server_error"), 500)

    return app


def _static(file: str, kind: str) -> Any:
    content = (resources.files("evoprompt.serving") / "page" / file).read_bytes()

    async def send() -> Response:
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return send


def _first_fault(faults: Sequence[Any]) -> str:
    """The first thing that is wrong with a body, in a line."""
    fault = faults[0]
    if fault["type"] == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']}"
    where = ".".join(str(part) for part in fault["loc"] if part != "body") or "body"
    shown = repr(fault.get("input"))
    return f"{where}: {fault['msg']}" + (f", not {shown[:80]}" if len(shown) < 200 else "")


class _Server:
    """Answers requests; one for each application."""

    def __init__(self, committee: Committee, limits: Limits) -> None:
        self.committee, self.limits = committee, limits
        self.engine: Engine
        self.counts = _Metrics()
        self.created = int(time.time())
        self.open = 0

    async def watch(self) -> None:
        """Keep the registry true to its folder."""
        registry = self.committee.registry
        while True:
            self.counts.experts.set(len(registry))
            await asyncio.sleep(RELOAD_S)
            try:
                left_out = registry.left_out
                changes = await asyncio.to_thread(registry.reload)
            except Exception as error:  # the next look may find it mended
                logger.warning("the folder of experts cannot be read: %s", error)
                continue
            if changes:
                logger.warning(
                    "experts changed: added %s, removed %s, changed %s",
                    *(", ".join(names) or "none" for names in (changes.added, changes.removed, changes.changed)),
                )
            for path in [path for path in registry.left_out if path not in left_out]:
                logger.warning("left out: %s: %s", path, registry.left_out[path])

    async def health(self) -> JSONResponse:
        """Whether answers can be had."""
        running, waiting = self.engine.under_way
        found = {
            "status": "ok" if self.engine.alive else "failed",
            "model": self.committee.frozen.spec.name,
            "experts": len(self.committee.registry),
            "left_out": len(self.committee.registry.left_out),
            "streams": {"running": running, "waiting": waiting},
        }
        return JSONResponse(found, 200 if self.engine.alive else 503)

    async def metrics_page(self) -> Response:
        """Counters for Prometheus."""
        self.counts.experts.set(len(self.committee.registry))
        self.counts.open.set(self.open)
        return Response(generate_latest(self.counts.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def models(self) -> dict[str, Any]:
        """Committees, experts and the base model."""
        base = self.committee.frozen.spec.name
        names = [
            "committee",
            *(f"committee:{kind}" for kind in COMPOSITIONS),
            *(f"expert:{name}" for name in self.committee.registry.experts),
            "base",
        ]
        return {"object": "list", "data": [model_entry(name, self.created, base_model=base) for name in names]}

    async def model(self, name: str) -> dict[str, Any]:
        """One of these."""
        self._asked(name)
        return model_entry(name, self.created, base_model=self.committee.frozen.spec.name)

    async def experts(self) -> dict[str, Any]:
        """Experts with what they were measured to score, for the page."""
        found = [
            {
                "name": name,
                "label": expert.provenance["culture"]["name"],
                "dimensions": dict(zip(DIMENSIONS, map(_number, profile_of(expert)), strict=True)),
                "target": {d: expert.provenance["culture"].get("targets", {}).get(d) for d in DIMENSIONS},
            }
            for name, expert in self.committee.registry.experts.items()
        ]
        return {"model": self.committee.frozen.spec.name, "dimensions": DIMENSION_NAMES, "experts": found}

    async def chat(self, asked: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        if self.open >= self.limits.requests:
            raise RefusedError(429, f"{self.open} answers are under way; try again later", "rate_limit_error", "busy")
        composition, voices = self._asked(asked.model)
        messages = [message.turn for message in asked.messages]
        if sum(len(message["content"]) for message in messages) > self.limits.text:
            raise RefusedError(413, f"the conversation has more than {self.limits.text} characters", code="too_long")
        if asked.tokens is not None and asked.tokens > self.limits.tokens:
            raise RefusedError(400, f"max_tokens: {asked.tokens} is more than this server's {self.limits.tokens}")
        most = max(MOST_EXPERTS, self.committee.k)
        if asked.k is not None and asked.k > most:
            raise RefusedError(400, f"k: {asked.k} is more than this server's {most}")
        if asked.options is not None and (asked.stream or len(messages) > 1):
            raise RefusedError(400, "options: they go with one question, and not with stream")
        if asked.options is not None:
            check_messages(messages)
        answer = _Answer(self, asked, messages, composition, voices)
        self.open += 1
        started = False
        try:
            async with asyncio.timeout(self.limits.seconds):
                await answer.prepare()
            if asked.stream and asked.options is None:
                started = True
                return StreamingResponse(
                    answer.events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
                )
            return JSONResponse(await _unless_gone(answer.whole(), request))
        except UserError as error:
            raise RefusedError(400, " ".join(str(error).split())) from None
        except EngineError as error:
            raise RefusedError(500, str(error), "server_error") from None
        except TimeoutError:
            raise RefusedError(504, f"no answer within {self.limits.seconds:g} s", "server_error", "timeout") from None
        finally:
            if not started:
                answer.close()

    def _asked(self, model: str) -> tuple[str, list[Voice] | None]:
        """Composition, and the voices where they are named, of a model's name."""
        kind, _, name = model.partition(":")
        if kind == "committee" and (not name or name in COMPOSITIONS):
            return name or "mixture", None
        if model == "base":
            return "mixture", [self.committee.voice("base")]
        if kind == "expert" and name in self.committee.registry:
            return "mixture", [self.committee.voice(name)]
        if kind == "expert" and (reason := self.committee.registry.why_left_out(name)):
            logger.warning("asked for expert %s, which is left out: %s", name, reason)
            raise RefusedError(
                503, f"expert {name!r} is damaged or does not fit the base model", "server_error", "left_out"
            )
        raise RefusedError(404, f"the model {model!r} does not exist; see /v1/models", code="model_not_found")


class _Answer:
    """One request's way: route, decode, compose."""

    def __init__(
        self,
        server: _Server,
        asked: ChatRequest,
        messages: list[dict[str, str]],
        composition: str,
        voices: list[Voice] | None,
    ) -> None:
        self.server, self.asked, self.messages, self.composition = server, asked, messages, composition
        self.voices: Sequence[Voice] = voices or ()
        self.route: Route | None = None
        self.streams: list[Stream] = []
        self.opinion: Opinion | None = None
        self.identity = f"chatcmpl-{uuid.uuid4().hex}"
        self.began = time.monotonic()
        self.closed = False
        top = asked.top_logprobs if asked.logprobs else 0
        length = asked.tokens or min(DEFAULT_TOKENS, server.limits.tokens)
        self.sampling = Sampling(length, asked.temperature, asked.top_p, asked.seed, top)
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
        committee = self.server.committee
        if not self.voices:
            query = self.messages[-1]["content"][:ROUTED]
            self.route, self.voices = await asyncio.to_thread(committee.route, query, known, self.asked.k)
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
        for voice in voices:
            self.server.counts.chosen.labels(voice.name).inc()

    async def whole(self) -> dict[str, Any]:
        """The answer at once."""
        if self.asked.options is not None:
            return await self._opinion()
        pieces, finish = [], "stop"
        about = self.about
        async for text, ended, _, said in self._pieces():
            pieces.append(text)
            finish = ended or finish
            about |= {"panel": said} if said else {}
        shown = shown_tokens(self.server.committee.frozen, self.said) if self.asked.logprobs else None
        return completion(
            self.identity, self.asked.model, "".join(pieces).strip(), finish, usage(self.prompt_tokens, len(self.said)),
            about, shown,
        )  # fmt: skip

    async def _opinion(self) -> dict[str, Any]:
        """The likeliest option as text, and the distribution beside it."""
        options, voices = self.asked.options or [], self.voices
        committee, question = self.server.committee, self.messages[-1]["content"]
        async with asyncio.timeout(self._left()):
            opinion = await self.server.engine.call(lambda: committee.opinion(question, options, Profile(), voices))
        likeliest = opinion.options[int(opinion.shares.argmax())]
        about = self.about | {"opinion": shown_opinion(opinion)}
        return completion(self.identity, self.asked.model, likeliest, "stop", usage(0, 0), about, None)

    async def events(self) -> AsyncIterator[str]:
        """The answer as server-sent events."""
        frozen, model = self.server.committee.frozen, self.asked.model
        try:
            yield _event(chunk(self.identity, model, {"role": "assistant", "content": ""}) | {"evoprompt": self.about})
            async for text, finish, tokens, said in self._pieces():
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
            yield _event(problem(f"no whole answer within {self.server.limits.seconds:g} s", "server_error", "timeout"))
        except (EngineError, UserError) as error:
            yield _event(problem(" ".join(str(error).split()), "server_error"))
        finally:
            self.close()
        yield "data: [DONE]\n\n"

    async def _pieces(self) -> AsyncIterator[tuple[str, str | None, Sequence[Token], dict[str, str]]]:
        """Text, how the answer ended if it has, tokens, and at its end each voice's own answer."""
        committee, voices = self.server.committee, self.voices
        stops = (*committee.stops, *self.asked.stops)
        async with asyncio.timeout(self._left()):
            if len(self.streams) == 1:
                async for piece in self.server.engine.run(self.streams, stops):
                    self.said += piece.tokens
                    yield piece.text, _ended(piece.finish), piece.tokens, {}
                return
            texts, ends = [""] * len(voices), ["stop"] * len(voices)
            async for piece in self.server.engine.run(self.streams, stops):
                self.said += piece.tokens
                texts[piece.stream] += piece.text
                ends[piece.stream] = _ended(piece.finish) or "stop"
            answers = [text.strip() for text in texts]
            panel = {voice.name: text for voice, text in zip(voices, answers, strict=True)}
            if self.composition == "panel":
                yield panel_text(voices, answers), max(ends, key=("stop", "length").index), (), panel
                return
            merging = committee.synthesis(self.messages, voices, answers, self.sampling)
            self.streams.append(merging)
            async for piece in self.server.engine.run([merging], stops):
                self.said += piece.tokens
                yield piece.text, _ended(piece.finish), piece.tokens, panel if piece.finish else {}

    def _left(self) -> float:
        """Seconds until the request's time is up."""
        return max(0.0, self.began + self.server.limits.seconds - time.monotonic())

    def close(self) -> None:
        """Count it out, once."""
        if not self.closed:
            self.closed = True
            self.server.open -= 1
            self.server.counts.seconds.observe(time.monotonic() - self.began)
            self.server.counts.tokens.inc(len(self.said))


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


def _number(value: float) -> float | None:
    return None if value != value else round(value, 1)


async def _unless_gone(work: Any, request: Request) -> Any:
    """What a coroutine returns; it is stopped when the client hangs up."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=0.25)
            if not task.done() and await request.is_disconnected():
                raise RefusedError(499, "the client has gone")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


class _Gate:
    """Before everything else: the token, the size of the body; after it: headers and counts."""

    def __init__(self, app: ASGIApp, server: _Server, token: str | None, hosts: Collection[str] | None) -> None:
        self.app, self.server, self.hosts = app, server, hosts
        self.token = token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, status = scope["path"], 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(key.lower().encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            refusal, body = self._refusal(path, dict(scope["headers"])), b""
            if refusal is None:
                refusal, body = await self._read(receive)
            if refusal is not None:
                await refusal(scope, receive, counted)
            else:
                await self.app(scope, _replayed(body, receive), counted)
        finally:
            known = path if path in COUNTED else "other"
            self.server.counts.requests.labels(known, str(status)).inc()

    async def _read(self, receive: Receive) -> tuple[JSONResponse | None, bytes]:
        """The whole body, or the answer to one that is too large."""
        body, more = b"", True
        try:
            async with asyncio.timeout(READ_S):
                while more:
                    message = await receive()
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self.server.limits.body_bytes:
                        return self._too_large(), b""
        except TimeoutError:
            told = f"the body did not arrive within {READ_S:g} s"
            return JSONResponse(problem(told, "invalid_request_error"), 408, headers={"Connection": "close"}), b""
        return None, body

    def _too_large(self) -> JSONResponse:
        told = f"the body has more than {self.server.limits.body_bytes} bytes"
        return JSONResponse(problem(told, "invalid_request_error", "too_large"), 413, headers={"Connection": "close"})

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> JSONResponse | None:
        """The answer to a request that is refused by its headers alone."""
        if self.token is not None and (path.startswith("/v1/") or path == "/metrics"):
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if not hmac.compare_digest(given, self.token) or scheme.lower() != b"bearer":
                body = problem("give the server's token as bearer token", "authentication_error", "invalid_api_key")
                return JSONResponse(body, 401, headers={"WWW-Authenticate": "Bearer"})
        host = headers.get(b"host", b"").decode("latin-1").rpartition(":")[0] or headers.get(b"host", b"").decode(
            "latin-1"
        )
        if self.hosts is not None and host not in self.hosts:
            told = f"this server is not {host[:80]!r}"
            return JSONResponse(problem(told, "invalid_request_error", "unknown_host"), 421)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return JSONResponse(problem("content-length is no number", "invalid_request_error"), 400)
        return self._too_large() if int(length) > self.server.limits.body_bytes else None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then whatever else comes: that the client has gone."""
    left = [body]

    async def next_message() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return next_message
