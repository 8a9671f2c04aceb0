"""The gate that every request passes: token, host and size of the body before it, headers and counts after it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field

from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evoprompt.serving.limits import Limits
from evoprompt.serving.protocol import problem

READ_S = 30.0  # for a request's body to arrive
COUNTED = ("/", "/health", "/metrics", "/v1/models", "/v1/experts", "/v1/chat/completions")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(eq=False)
class Counts:
    """What `/metrics` tells, in Prometheus' form."""

    collectors: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        own = {"registry": self.collectors}
        self.requests = Counter("evoprompt_requests", "Requests by path and status", ["path", "status"], **own)
        self.seconds = Histogram("evoprompt_answer_seconds", "Seconds from request to the answer's end", **own)
        self.tokens = Counter("evoprompt_tokens", "Tokens said", **own)
        self.chosen = Counter("evoprompt_chosen", "Answers by who spoke", ["expert"], **own)
        self.open = Gauge("evoprompt_open_requests", "Answers under way or waiting", **own)
        self.experts = Gauge("evoprompt_experts", "Experts that can be asked", **own)


class Gate:
    """Middleware that refuses requests by headers and size, before the application sees them, and counts them all."""

    def __init__(
        self, app: ASGIApp, limits: Limits, counts: Counts, token: str | None, hosts: Collection[str] | None
    ) -> None:
        self.app, self.limits, self.counts, self.hosts = app, limits, counts, hosts
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
            self.counts.requests.labels(known, str(status)).inc()

    async def _read(self, receive: Receive) -> tuple[JSONResponse | None, bytes]:
        """The whole body, or the answer to one that is too large."""
        body, more = b"", True
        try:
            async with asyncio.timeout(READ_S):
                while more:
                    message = await receive()
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self.limits.body_bytes:
                        return self._too_large(), b""
        except TimeoutError:
            told = f"the body did not arrive within {READ_S:g} s"
            return JSONResponse(problem(told, "invalid_request_error"), 408, headers={"Connection": "close"}), b""
        return None, body

    def _too_large(self) -> JSONResponse:
        told = f"the body has more than {self.limits.body_bytes} bytes"
        return JSONResponse(problem(told, "invalid_request_error", "too_large"), 413, headers={"Connection": "close"})

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> JSONResponse | None:
        """The answer to a request that is refused by its headers alone."""
        if self.token is not None and (path.startswith("/v1/") or path == "/metrics"):
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if not hmac.compare_digest(given, self.token) or scheme.lower() != b"bearer":
                body = problem("give the server's token as bearer token", "authentication_error", "invalid_api_key")
                return JSONResponse(body, 401, headers={"WWW-Authenticate": "Bearer"})
        host = _host_of(headers.get(b"host", b"").decode("latin-1"))
        if self.hosts is not None and host not in self.hosts:
            told = f"this server is not called {host[:80]!r}; its owner can allow the name with --allow-host"
            return JSONResponse(problem(told, "invalid_request_error", "unknown_host"), 421)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            return JSONResponse(problem("content-length is no number", "invalid_request_error"), 400)
        return self._too_large() if int(length) > self.limits.body_bytes else None


def _host_of(header: str) -> str:
    """The name in a Host header, without port, brackets and the dot of the root.

    >>> _host_of("LOCALHOST.:8000"), _host_of("[::1]"), _host_of("[::1]:80"), _host_of("")
    ('localhost', '::1', '::1', '')
    """
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].rstrip(".").lower()


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then whatever else comes: that the client has gone."""
    left = [body]

    async def next_message() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return next_message
