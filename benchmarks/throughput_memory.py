"""Memory of a pass against what the token budget predicts: `python -m benchmarks.throughput_memory [--device cuda]`.

On a CPU what is resident counts, in a process whose allocator returns freed memory at once: by default glibc keeps it,
so that a process may hold half as much again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import result_file
from benchmarks.throughput import questions
from benchmarks.throughput_machine import Memory, predicted_peak_bytes
from benchmarks.throughput_models import build
from evoprompt.llm import FrozenModel, Respondent
from evoprompt.llm.write.sheet import PLACEMENTS

__all__ = ["main", "measured"]

AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # glibc: larger blocks go back to the system when they are freed
MIB = 2**20


def measured(frozen: FrozenModel, placement: str, candidates: int, tokens: int) -> tuple[int, int, int | None]:
    """Tokens of the largest pass, predicted and found peak bytes above what is there before the call."""
    plan = questions("searched")
    respondent = Respondent(frozen, placement)
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    prompts = torch.randn(candidates, tokens, frozen.hidden, generator=torch.Generator().manual_seed(0)) * 0.1
    respondent.answer(prompts, sheet)
    predicted = predicted_peak_bytes(respondent, sheet, tokens, candidates)
    memory = Memory(frozen.device)
    respondent.answer(prompts, sheet)
    return respondent.pass_tokens(sheet, tokens, candidates), predicted, memory.peak()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--shapes", default="pocket,135m")
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.device == "cpu" and not AT_ONCE.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", __spec__.name, *sys.argv[1:]], {**os.environ, **AT_ONCE})
    lines = [
        "| model | placement | tokens of a pass | predicted, MiB | measured, MiB | difference |",
        "|---|---|---|---|---|---|",
    ]
    for shape in options.shapes.split(","):
        frozen = build(shape, options.device)
        for placement in PLACEMENTS:
            size, predicted, found = measured(frozen, placement, options.candidates, options.tokens)
            shown = ("n/a", "n/a") if found is None else (f"{found / MIB:.1f}", f"{found / predicted - 1:+.0%}")
            lines.append(f"| {shape} | {placement} | {size} | {predicted / MIB:.1f} | {' | '.join(shown)} |")
    head = f"{options.candidates} candidates, {options.tokens} soft tokens, {result_file.processor()}"
    text = "\n".join([f"Peak memory above the weights ({options.device}; {head}).", "", *lines, ""])
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
