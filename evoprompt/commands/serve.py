"""The serve command: `evoprompt serve [--experts DIR]`, an OpenAI-compatible API and a page."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evoprompt.checks import whole_number
from evoprompt.commands.route import add_committee_arguments, open_committee
from evoprompt.errors import UserError
from evoprompt.extras import require

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
TOKEN = "EVOPROMPT_TOKEN"
"""Environment variable with the bearer token that clients have to show."""


def main(arguments: Sequence[str]) -> int:
    """Serve until stopped. Returns the exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    require("evoprompt serve", "serve")
    import uvicorn

    from evoprompt.serving import Limits, make_app

    whole_number("--port", given.port, 1, 65535)
    limits = Limits(given.max_body, given.max_requests, given.timeout, given.max_tokens)
    token = _read_token(given.token_file)
    address = _bound(given.host, given.port)
    committee = open_committee(given)
    here = given.host in LOOPBACK
    hosts = (*LOOPBACK, given.host, *map(str.lower, given.allow_host)) if here or given.allow_host else None
    app = make_app(committee, limits, token, hosts)
    if token is None and not here:
        print(f"anyone who reaches {given.host} may ask: no token is set", file=sys.stderr)
    shown = f"[{given.host}]" if ":" in given.host else given.host
    print(f"{len(committee.registry)} experts over {committee.frozen.spec.name}")
    print(f"page http://{shown}:{given.port}/   API http://{shown}:{given.port}/v1   Ctrl+C stops", flush=True)
    config = uvicorn.Config(app, given.host, given.port, log_level="warning", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run([address])
    return 0 if server.started else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evoprompt serve", description="Serve a committee of cultural experts over HTTP, with a page."
    )
    add_committee_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name it answers to beside its addresses, such as that of a proxy before it; may be given several times",
    )
    parser.add_argument("--token-file", type=Path, help=f"file with a bearer token that clients must show (or {TOKEN})")
    parser.add_argument("--max-requests", type=int, default=64, help="answers under way at once, others get 429")
    parser.add_argument("--max-tokens", type=int, default=512, help="of one answer")
    parser.add_argument("--max-body", type=int, default=256 * 1024, help="bytes of a request")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one answer")
    return parser


def _bound(host: str, port: int) -> socket.socket:
    """A socket at an address; it does not listen yet, so that clients are refused until there is somebody to answer."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        return made
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise UserError(f"cannot listen on {host} port {port}: {reason}; choose --port or --host") from None


def _read_token(file: Path | None) -> str | None:
    """The token from a file or the environment, if there is one."""
    try:
        token = os.environ.get(TOKEN) if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"token file {file} cannot be read: {error}") from None
    if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
        raise UserError(f"the token of {file or TOKEN} must be printable ASCII without blanks, and not empty")
    return token
