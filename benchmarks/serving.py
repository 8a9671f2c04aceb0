"""Many clients at once: `python -m benchmarks.serving [--clients 50] [--seconds 60]`.

Starts the real server on loopback with the experts of the package. Each client asks one expert over and over and checks
that text and token log probabilities of every answer are those of its own expert, computed beforehand in this process.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pandas as pd

from benchmarks.result_file import ResultFile, remarks
from benchmarks.routing import markdown
from evoprompt.experts import BUNDLED, Registry
from evoprompt.llm import ModelSpec, load_model
from evoprompt.llm.speak.decoding import Decoder, Sampling, decode
from evoprompt.routing import Committee

__all__ = ["main"]

QUESTIONS = ("How do I greet my host?", "How do I praise a colleague?", "What should I do with a gift of money?")
TOKENS = 16

Expected = dict[tuple[str, str], tuple[str, np.ndarray]]


@dataclass
class Tally:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    mixed_up: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def expected_answers() -> Expected:
    """Text and log probabilities of each expert's answer to each question."""
    frozen = load_model(ModelSpec(device="cpu"))
    committee = Committee(frozen, Registry(Path(BUNDLED), frozen))
    found: Expected = {}
    for name in committee.registry:
        for question in QUESTIONS:
            asked = [{"role": "user", "content": question}]
            (stream,) = committee.streams(asked, [committee.voice(name)], "mixture", Sampling(TOKENS))
            (text,) = decode(Decoder(frozen), [stream], committee.stops)
            found[name, question] = text, np.array([token.log_probability for token in stream.said])
    return found


def client(number: int, url: str, until: float, expected: Expected, tally: Tally) -> None:
    """Ask one expert, a question after the other."""
    names = sorted({name for name, _ in expected})
    name, count = names[number % len(names)], 0
    with httpx.Client(timeout=120) as own:
        while time.monotonic() < until:
            question = QUESTIONS[(number + count) % len(QUESTIONS)]
            asked = {"messages": [{"role": "user", "content": question}], "max_tokens": TOKENS, "logprobs": True}
            began = time.monotonic()
            try:
                response = own.post(f"{url}/v1/chat/completions", json={"model": f"expert:{name}", **asked})
                response.raise_for_status()
                (choice,) = response.json()["choices"]
            except (httpx.HTTPError, ValueError, KeyError) as error:
                with tally.lock:
                    tally.errors.append(f"{type(error).__name__}: {error}")
                continue
            took = time.monotonic() - began
            scores = np.array([token["logprob"] for token in choice["logprobs"]["content"]])
            text, wanted = expected[name, question]
            same = choice["message"]["content"] == text and np.allclose(scores, wanted, atol=1e-3)
            with tally.lock:
                tally.seconds.append(took)
                tally.mixed_up += not same
            count += 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "serving.csv")
    options = parser.parse_args(arguments)
    expected, tally = expected_answers(), Tally()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "evoprompt.serve", "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(f"{url}/health", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        until = time.monotonic() + options.seconds
        threads = [
            threading.Thread(target=client, args=(number, url, until, expected, tally))
            for number in range(options.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        alive = httpx.get(f"{url}/health", timeout=30).json()["status"] == "ok"
    finally:
        server.terminate()
        server.wait(timeout=60)
    times = np.array(tally.seconds)
    row = {
        "clients": options.clients,
        "seconds": options.seconds,
        "answers": len(times),
        "errors": len(tally.errors),
        "mixed up": tally.mixed_up,
        "p50 s": float(np.quantile(times, 0.5)),
        "p99 s": float(np.quantile(times, 0.99)),
        "answers/s": len(times) / options.seconds,
        "server alive": alive,
    }
    shown = markdown(pd.DataFrame([row]))
    print(shown, *dict.fromkeys(tally.errors), sep="\n")
    options.out.unlink(missing_ok=True)
    file = ResultFile(options.out, list(row), ["clients", "seconds"])
    file.add(row)
    options.out.with_suffix(".md").write_text(f"{shown}\n{remarks(options.out)}", encoding="utf-8")


if __name__ == "__main__":
    main()
