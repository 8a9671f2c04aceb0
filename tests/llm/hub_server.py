"""A model hub for tests: a real HTTP server that speaks as much of the hub's protocol as loading a model takes."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = tuple[int, dict[str, str], bytes]

GATED, DOWN, LIMITED, SLOW, FORBIDDEN = "org/gated", "org/down", "org/limited", "org/slow", "org/forbidden"
WRONG_TOKEN = "hf_wrong"


def commit_of(name: str, revision: str) -> str:
    """The commit that a branch of a repository stands at."""
    return hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories: `repositories[name][branch] = folder`.

    Some names answer as the hub does in bad times: gated, forbidden, down, rate-limited, or too slow.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, repositories: dict[str, dict[str, Path]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories = repositories
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """What HF_ENDPOINT takes."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        """Go away: whoever asks is refused the connection."""
        self.shutdown()
        self.server_close()

    def answer(self, path: str, token: str | None) -> Answer:
        """Status, headers and body for a path."""
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        name = "/".join(parts[:2])
        branches = self.repositories.get(name)
        if token == WRONG_TOKEN:
            return _refusal(401, message="Invalid credentials in Authorization header")
        if name == GATED:
            return _refusal(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted")
        if name == FORBIDDEN:
            return _refusal(403, message="This token has no read access")
        if name == DOWN:
            return _refusal(500)
        if name == LIMITED:
            return 429, {"Retry-After": "600", "RateLimit": '"resolvers";r=0;t=600'}, b""
        if name == SLOW:
            time.sleep(30)
        if branches is None:
            return _refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        revision = parts[3] if len(parts) > 3 else "main"
        branch = {commit_of(name, known): known for known in branches}.get(revision, revision)
        if branch not in branches:
            return _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        commit = {"X-Repo-Commit": commit_of(name, branch)}
        if api and parts[2:3] == ["tree"]:
            folder = branches[branch] / "/".join(parts[4:])
            return _json([_listed(file) for file in folder.iterdir()]) if folder.is_dir() else _missing(commit)
        if api:
            return _json({"id": name, "sha": commit["X-Repo-Commit"], "tags": [], "siblings": []})
        file = branches[branch] / "/".join(parts[4:])
        if not file.is_file():
            return _missing(commit)
        body = file.read_bytes()
        return 200, {**commit, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}, body


class Handler(BaseHTTPRequestHandler):
    """HEAD and GET; a HEAD has no body."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self) -> None:
        """Answer with headers and body."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.server.asked.append(f"{self.command} {self.path}")
        status, headers, body = self.server.answer(self.path.split("?")[0], token)
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """Stay quiet."""


def _refusal(status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None) -> Answer:
    named = {"X-Error-Code": code, "X-Error-Message": message}
    return status, {**(headers or {}), **{key: value for key, value in named.items() if value}}, b""


def _missing(commit: dict[str, str]) -> Answer:
    return _refusal(404, "EntryNotFound", "Entry not found", commit)


def _listed(file: Path) -> dict[str, Any]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}


def _json(content: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()
