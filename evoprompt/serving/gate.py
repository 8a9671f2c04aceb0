"""The gate that every request passes: token, host and size of the body before it, headers and counts after it."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evoprompt.serving.protocol import RefusedError
from evoprompt.serving.service import Counts, Limits

READ_S = 30.0  # for a request's body to arrive
COUNTED = ("/", "/health", "/metrics", "/v1/models", "/v1/experts", "/v1/chat/completions")
CLOSE = {"Connection": "close"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


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
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            self._check(path, Headers(scope=scope))
            body = await self._read(receive)
        except RefusedError as refused:
            await refused.response(scope, receive, counted)
        else:
            await self.app(scope, _replayed(body, receive), counted)
        finally:
            known = path if path in COUNTED else "other"
            self.counts.requests.labels(known, str(status)).inc()

    async def _read(self, receive: Receive) -> bytes:
        """The whole body, unless it is too large or late."""
        body, more = b"", True
        try:
            async with asyncio.timeout(READ_S):
                while more:
                    message = await receive()
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > self.limits.body_bytes:
                        raise self._too_large()
        except TimeoutError:
            raise RefusedError(408, f"the body did not arrive within {READ_S:g} s", headers=CLOSE) from None
        return body

    def _too_large(self) -> RefusedError:
        told = f"the body has more than {self.limits.body_bytes} bytes"
        return RefusedError(413, told, code="too_large", headers=CLOSE)

    def _check(self, path: str, headers: Headers) -> None:
        """Refuse what its headers alone tell."""
        if self.token is not None and (path.startswith("/v1/") or path == "/metrics"):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if not hmac.compare_digest(given.encode(), self.token) or scheme.lower() != "bearer":
                told, asked = "give the server's token as bearer token", {"WWW-Authenticate": "Bearer"}
                raise RefusedError(401, told, "authentication_error", "invalid_api_key", asked)
        host = _host_of(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts:
            told = f"this server is not called {host[:80]!r}; its owner can allow the name with --allow-host"
            raise RefusedError(421, told, code="unknown_host")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise RefusedError(400, "content-length is no number")
        if int(length) > self.limits.body_bytes:
            raise self._too_large()


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
