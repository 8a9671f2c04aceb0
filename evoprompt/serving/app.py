"""The web application: its endpoints, and how what goes wrong is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from math import isnan
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route

from evoprompt import __version__
from evoprompt.errors import UserError
from evoprompt.llm.write.conversation import check_messages
from evoprompt.routing import COMPOSITIONS, Committee, Voice
from evoprompt.routing.committee import profile_of
from evoprompt.serving.engine import Engine, EngineError
from evoprompt.serving.gate import Gate
from evoprompt.serving.protocol import ChatRequest, RefusedError, problem
from evoprompt.serving.reply import Events, Reply
from evoprompt.serving.service import USUAL, Limits, Service
from evoprompt.surveys import DIMENSION_NAMES, DIMENSIONS

logger = logging.getLogger(__name__)

RELOAD_S = 2.0  # between looks at the experts' folder
MOST_EXPERTS = 5  # of one answer, unless the operator allows more
PAGE = {"": ("page.html", "text/html"), "page.js": ("page.js", "text/javascript"), "page.css": ("page.css", "text/css")}


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
    server = Server(committee, limits)

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
    app.add_middleware(Gate, limits=limits, counts=server.counts, token=token, hosts=hosts)

    app.add_api_route("/health", server.health, methods=["GET"])
    app.add_api_route("/metrics", server.metrics_page, methods=["GET"])
    app.add_api_route("/v1/models", server.models, methods=["GET"])
    app.add_api_route("/v1/models/{name:path}", server.model, methods=["GET"])
    app.add_api_route("/v1/experts", server.experts, methods=["GET"])
    app.add_api_route("/v1/chat/completions", server.chat, methods=["POST"], response_model=None)
    for name, (file, kind) in PAGE.items():
        content = (Path(__file__).with_name("page") / file).read_bytes()
        page = Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})
        app.router.routes.append(Route(f"/{name}", page, methods=["GET"]))

    for wrong in (RefusedError, UserError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(wrong, _told)
    return app


async def _told(request: Request, error: Exception) -> JSONResponse:
    """What went wrong, in OpenAI's form."""
    match error:
        case RefusedError():
            return error.response
        case UserError():
            return JSONResponse(problem(" ".join(str(error).split()), "invalid_request_error"), 400)
        case RequestValidationError():
            return JSONResponse(problem(_first_fault(error.errors()), "invalid_request_error"), 400)
        case HTTPException():
            return JSONResponse(problem(str(error.detail), "invalid_request_error"), error.status_code)
    return JSONResponse(problem("the server failed on this request", "server_error"), 500)


def _first_fault(faults: Sequence[Any]) -> str:
    """The first thing that is wrong with a body, in a line."""
    fault = faults[0]
    if fault["type"] == "json_invalid":
        return f"the body is not JSON: {fault['ctx']['error']}"
    where = ".".join(str(part) for part in fault["loc"] if part != "body") or "body"
    shown = repr(fault.get("input"))
    return f"{where}: {fault['msg']}" + (f", not {shown[:80]}" if len(shown) < 200 else "")


class Server(Service):
    """The application's endpoints."""

    async def watch(self) -> None:
        """Reload the experts whenever their folder has changed, until cancelled."""
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
        """The state of the server: whether answers can be had, and of whom."""
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
        return Response(generate_latest(self.counts.collectors), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def models(self) -> dict[str, Any]:
        """The list of models: committees, experts and the base model."""
        names = [
            "committee",
            *(f"committee:{kind}" for kind in COMPOSITIONS),
            *(f"expert:{name}" for name in self.committee.registry.experts),
            "base",
        ]
        return {"object": "list", "data": [self._entry(name) for name in names]}

    async def model(self, name: str) -> dict[str, Any]:
        """The entry of one model."""
        self._asked(name)
        return self._entry(name)

    def _entry(self, name: str) -> dict[str, Any]:
        about = {"id": name, "object": "model", "created": self.created, "owned_by": "evoprompt"}
        return about | {"base_model": self.committee.frozen.spec.name}

    async def experts(self) -> dict[str, Any]:
        """Experts with what they were measured to score, for the page."""
        found = [
            {
                "name": name,
                "label": expert.provenance["culture"]["name"],
                "dimensions": {
                    d: None if isnan(score) else round(score, 1)
                    for d, score in zip(DIMENSIONS, profile_of(expert), strict=True)
                },
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
        reply = Reply(self, asked, messages, composition, voices)
        self.open += 1
        started = False
        try:
            async with asyncio.timeout(self.limits.seconds):
                await reply.prepare()
            if asked.stream and asked.options is None:
                started = True
                return Events(reply)
            return JSONResponse(await _unless_gone(reply.whole(), request))
        except EngineError as error:
            raise RefusedError(500, str(error), "server_error") from None
        except TimeoutError:
            raise RefusedError(504, f"no answer within {self.limits.seconds:g} s", "server_error", "timeout") from None
        finally:
            if not started:
                reply.close()

    def _asked(self, model: str) -> tuple[str, list[Voice]]:
        """The composition that a model's name means, and the voices where it names them."""
        kind, _, name = model.partition(":")
        if kind == "committee" and (not name or name in COMPOSITIONS):
            return name or "mixture", []
        if model == "base":
            return "mixture", [self.committee.voice("base")]
        if kind == "expert" and (expert := self.committee.registry.experts.get(name)):
            return "mixture", [Voice(name, expert)]
        if kind == "expert" and (reason := self.committee.registry.why_left_out(name)):
            logger.warning("asked for expert %s, which is left out: %s", name, reason)
            told = f"expert {name!r} is damaged or does not fit the base model"
            raise RefusedError(503, told, "server_error", "left_out")
        raise RefusedError(404, f"the model {model!r} does not exist; see /v1/models", code="model_not_found")


async def _unless_gone(work: Any, request: Request) -> Any:
    """What a coroutine returns; it is stopped when the client hangs up."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=0.25))[0]:
            if await request.is_disconnected():
                raise RefusedError(499, "the client has gone")
        return task.result()
    finally:
        task.cancel()  # where it is not done
        with suppress(asyncio.CancelledError, Exception):
            await task
