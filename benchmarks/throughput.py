"""How fast a population is scored on a language model: `python -m benchmarks.throughput [--device cuda]`.

The survey's own questions under random soft prompts, by a `generate` call a question (a), padded batches (b) and
`Respondent` (c), beside plain inference on as many tokens. All arms must give the same probabilities before any of them
is timed. Needs torch, transformers, numpy and safetensors only; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import result_file, throughput_table
from benchmarks.throughput_arms import Arm, Generate, Inputs, Ours, Padded, Pairs, Pure, require_equal
from benchmarks.throughput_machine import MatrixRate, Memory, device_name, predicted_peak_bytes, timed
from benchmarks.throughput_models import SHAPES, build
from benchmarks.throughput_work import Work, flops, generate_work, lengths, padded_work, plain_work, trie_work
from evoprompt.errors import UserError, unknown_name
from evoprompt.llm import FrozenModel, Respondent
from evoprompt.llm.write.sheet import PLACEMENTS
from evoprompt.surveys import Plan, balanced_plan, full_plan, vsm13
from evoprompt.surveys.questions import LABEL_SETS, ORDERS, ask

__all__ = ["PLANS", "main", "questions"]

PLANS = ("searched", "four", "balanced", "full")
ANSWER = 8  # new tokens of the short answer that published protocols generate
PADDED = (8, 24, 96, 384)  # questions of a batch, tried
PURE = (512, 2048, 8192, 32_768)  # tokens of a batch, tried
LONG = 3.0  # seconds after which a first call counts as any other, where only a size is chosen
CHECKED = 24  # (candidate, question) pairs that the arms are compared on


def questions(name: str) -> Plan:
    """The questions of a plan.

    `searched`: 24 items x 3 searched wordings in one form; `four`: the first held-out wording besides, for timing only;
    `balanced`: what a search asks, 24 items x 4 forms; `full`: 24 items x 3 searched wordings x 4 forms.
    """
    if name not in PLANS:
        raise unknown_name("plan", name, PLANS)
    if name == "balanced":
        return balanced_plan(vsm13())
    if name == "full":
        return full_plan(vsm13(), "searched")
    held_out = 1 if name == "four" else 0
    return Plan(
        tuple(
            ask(vsm13(), index, wording, ORDERS[0], LABEL_SETS[0])
            for index, item in enumerate(vsm13().items)
            for wording in (*item.searched[:3], *item.held_out[:held_out])
        )
    )


@dataclass(eq=False)
class Entry:
    """An arm, the pairs it is timed on (`candidates` worth), what a candidate takes, and what was measured."""

    arm: Arm
    pairs: Pairs
    candidates: float
    work: Work
    path: str | None = None
    setup: float | None = None
    lasting: int | None = None
    predicted: int | None = None
    peak: int | None = None
    seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Candidates a second, in the best round."""
        return self.candidates / min(self.seconds)

    def prepare(self, tokens: int) -> None:
        """First calls: what ours does once a run and keeps, then the memory that a call takes above that."""
        device = self.arm.inputs.frozen.device
        before = Memory(device)
        if isinstance(self.arm, Ours):
            asked = (self.arm.respondent, self.arm.inputs.sheet, tokens, len(self.arm.inputs.prompts))
            self.setup = timed(device, predicted_peak_bytes, *asked)
            self.predicted = predicted_peak_bytes(*asked)
        call = Memory(device)
        if call.base is not None and before.base is not None and self.setup is not None:
            self.lasting = max(0, call.base - before.base)
        self.arm(self.pairs)
        self.peak = call.peak()

    def ask_ours(self, tokens: int) -> None:
        """Take from ours which way it went and how many tokens it computes."""
        if isinstance(self.arm, Ours):
            computed = self.arm.respondent.computed_tokens(self.arm.inputs.sheet, tokens)
            self.path, self.work = self.arm.respondent.path, replace(self.work, tokens=computed)


class Case:
    """One model, one plan and one length of soft prompt."""

    def __init__(
        self, frozen: FrozenModel, plan: Plan, candidates: int, tokens: int, placements: Sequence[str]
    ) -> None:
        self.frozen, self.candidates, self.tokens = frozen, candidates, tokens
        self.texts, self.labels = plan.texts(), [question.labels for question in plan.questions]
        mean, spread = frozen.embedding_statistics
        noise = torch.randn(candidates, tokens, frozen.hidden, generator=torch.Generator().manual_seed(1))
        prompts = mean + spread * noise
        self.inputs = {
            placement: Inputs(frozen, Respondent(frozen, placement).sheet(self.texts, self.labels), prompts)
            for placement in dict.fromkeys(["prefix", *placements])
        }
        self.placements = placements
        self.sheet = self.inputs["prefix"].sheet
        self.every = [(c, q) for c in range(candidates) for q in range(len(self.texts))]

    def arms(self, batch: int = CHECKED) -> dict[str, Arm]:
        """All arms, new ones, by their names."""
        prefix = self.inputs["prefix"]
        return {
            "(a) generate, 1 token": Generate(prefix, 1),
            f"(a) generate, {ANSWER} tokens": Generate(prefix, ANSWER),
            "(b) padded, all logits": Padded(prefix, batch),
            "(b2) padded, last logits": Padded(prefix, batch, last_only=True),
            **{f"(c) {name}": Ours(self.inputs[name], Respondent(self.frozen, name)) for name in self.placements},
        }

    def check(self) -> tuple[dict[str, float], float]:
        """The largest difference of every arm, and how much the reference varies between questions."""
        sample = spread(self.every[: 2 * len(self.texts)], CHECKED)
        literal = torch.stack([self.inputs["prefix"].literal(*pair) for pair in sample]).log_softmax(dim=-1)
        return require_equal(self.arms(), sample), float(literal.std(dim=0).mean())

    def entries(self, seconds: float) -> dict[str, Entry]:
        """Arms in their best batch sizes, (a) and (b) with a sample that fills `seconds`, ours and pure with all."""
        sheet, tokens, vocabulary = self.sheet, self.tokens, self.frozen.model.config.vocab_size
        batch, each = self._best_batch()
        found = {}
        for name, arm in self.arms(batch).items():
            pairs: Pairs = self.every
            if isinstance(arm, Generate):
                few = spread(pairs, 4)
                pairs = spread(pairs, max(4, int(seconds / settled(self.frozen.device, arm, few) * 4)))
                work = generate_work(sheet, tokens, arm.new_tokens, vocabulary)
            elif isinstance(arm, Padded):
                whole = max(len(sheet), batch)
                pairs = pairs[: max(1, int(seconds / each / whole)) * whole]
                work = padded_work(sheet, tokens, batch, vocabulary, arm.last_only)
            elif isinstance(arm, Ours):
                work = trie_work(arm.inputs.sheet, tokens)
            found[name] = Entry(arm, pairs, len(pairs) / len(sheet), work)
        return found | {"pure inference": self._pure()}

    def _best_batch(self) -> tuple[int, float]:
        """Questions of a padded batch, and seconds a question in it."""
        most = len(self.every) if self.frozen.device.type == "cuda" else len(self.sheet)
        sizes = sorted({min(size, most) for size in (*PADDED, len(self.sheet))})
        arms = {size: Padded(self.inputs["prefix"], size) for size in sizes}
        return fastest(arms, {size: self.every[:size] for size in sizes}, self.frozen.device)

    def _pure(self) -> Entry:
        """Plain batches of rows as long as a question, with as many tokens as all candidates take under a prefix."""
        length = round(statistics.mean(lengths(self.sheet, self.tokens)))
        tokens = trie_work(self.sheet, self.tokens).tokens
        sizes = PURE if self.frozen.device.type == "cuda" else PURE[:2]
        make = partial(Pure, self.inputs["prefix"], length)
        batches = {rows: make(rows, 1) for rows in (size // length for size in sizes)}
        rows, _ = fastest(batches, {rows: range(batch.tokens) for rows, batch in batches.items()}, self.frozen.device)
        arm = make(rows, tokens * self.candidates)
        return Entry(arm, [], arm.tokens / tokens, plain_work(tokens, length))


def spread(pairs: Pairs, count: int) -> Pairs:
    """So many of the pairs, evenly spaced."""
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(count, len(pairs))).astype(int)]


def settled(device: torch.device, arm: Arm, work: Sequence[Any]) -> float:
    """Seconds of a call that is not the first, unless that took long anyway."""
    first = timed(device, arm, work)
    return first if first > LONG else min(timed(device, arm, work) for _ in range(2))


def fastest(arms: Mapping[int, Arm], work: Mapping[int, Sequence[Any]], device: torch.device) -> tuple[int, float]:
    """The size whose arm takes the least time a piece of its work, of those that fit into memory, and that time."""
    times = {}
    for size, arm in arms.items():
        try:
            times[size] = settled(device, arm, work[size]) / len(work[size])
        except torch.OutOfMemoryError:
            continue
    best = min(times, key=times.__getitem__)
    return best, times[best]


@torch.inference_mode()
def measure(case: Case, matrix: MatrixRate, seconds: float, repeats: int, say: Callable[[str], None]) -> list[dict]:
    """Rows of one case: check, then first calls for memory, then rounds in which the arms take turns."""
    differences, varies = case.check()
    say(f"all arms agree to {max(differences.values()):.1e} (between questions they vary by {varies:.1e})")
    entries = case.entries(seconds)
    for name, entry in entries.items():
        entry.prepare(case.tokens)
        say(f"{name}: timed on {entry.candidates:.3g} candidates")
    for turn in range(repeats):
        for entry in entries.values():
            matrix.measure()
            entry.seconds.append(timed(case.frozen.device, entry.arm, entry.pairs))
        say(f"round {turn + 1} of {repeats}")
    for entry in entries.values():
        entry.ask_ours(case.tokens)
    return [{**row, "difference": differences.get(str(row["arm"]))} for row in rows(case, entries, matrix.best)]


def rows(case: Case, entries: Mapping[str, Entry], matrix_flops: float) -> Iterator[dict[str, Any]]:
    """Every entry's figures, beside those it is compared with."""
    a, b = entries["(a) generate, 1 token"], entries["(b) padded, all logits"]
    pure = entries["pure inference"]
    for name, entry in entries.items():
        operations = flops(case.frozen.model.config, entry.work)
        yield {
            "arm": name,
            "path": entry.path,
            "timed_candidates": entry.candidates,
            "setup_seconds": entry.setup,
            "best_seconds": min(entry.seconds),
            "median_seconds": statistics.median(entry.seconds),
            "candidates_per_second": entry.rate,
            "questions_per_second": entry.rate * len(case.texts),
            "tokens_per_candidate": entry.work.tokens,
            "tokens_per_second": entry.rate * entry.work.tokens,
            "flops_per_candidate": operations,
            "share_of_peak": entry.rate * operations / matrix_flops,
            "matrix_flops": matrix_flops,
            "kept_bytes": entry.lasting,
            "peak_bytes": entry.peak,
            "predicted_bytes": entry.predicted,
            "times_a": entry.rate / a.rate,
            "times_b": entry.rate / b.rate,
            "share_of_pure": entry.rate * entry.work.tokens / (pure.rate * pure.work.tokens),
        }


def run(options: argparse.Namespace) -> Path:
    """Measure every shape and length of soft prompt; the path of the table."""
    path = Path(options.out) / f"throughput_{options.device}.csv"
    plan = questions(options.plan)
    file = result_file.ResultFile(path, throughput_table.COLUMNS, throughput_table.KEY)
    for shape in options.shapes.split(","):
        frozen = build(shape, options.device, options.dtype, options.threads, options.chat)
        on_cpu = SHAPES[shape].on_cpu if shape in SHAPES and options.device == "cpu" else options.candidates
        candidates = min(options.candidates, on_cpu)
        matrix = MatrixRate(options.matrix, frozen.device, frozen.dtype)
        for tokens in options.tokens:
            say = partial(print, f"{shape}, {tokens} soft tokens:", file=sys.stderr, flush=True)
            case = Case(frozen, plan, candidates, tokens, options.placements.split(","))
            for row in measure(case, matrix, options.seconds, options.repeats, say):
                where = {"device": device_name(frozen.device), "dtype": str(frozen.dtype).removeprefix("torch.")}
                asked = {
                    "plan": options.plan + ", in a chat" * options.chat,
                    "questions": len(plan.questions),
                    "candidates": candidates,
                }
                what = {"shape": shape, "soft_tokens": tokens, "threads": options.threads, "rounds": options.repeats}
                file.add({**where, **asked, **what, **row})
        del frozen, matrix, case
        gc.collect()
    text = throughput_table.markdown(result_file.rows(path)) + "\n" + result_file.remarks(path)
    path.with_suffix(".md").write_text(text)
    print(text)
    return path


def integers(text: str) -> list[int]:
    """Whole numbers between commas."""
    return [int(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--dtype", default="auto", help="auto: float32 on CPU, bfloat16 on CUDA (too coarse for pocket)"
    )
    parser.add_argument("--shapes", help=f"of pocket, {', '.join(SHAPES)}; pocket,135m,1b on CPU, 8b on CUDA")
    parser.add_argument("--candidates", type=int, help="32 on CPU (fewer for 1b), 64 on CUDA")
    parser.add_argument("--tokens", type=integers, default=[4, 20], help="lengths of the soft prompt")
    parser.add_argument("--plan", choices=PLANS, help="searched on CPU, four on CUDA; see `questions`")
    parser.add_argument("--chat", action="store_true", help="put the questions into a short chat template")
    parser.add_argument("--placements", default=",".join(PLACEMENTS))
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument(
        "--seconds", type=float, help="of (a) and (b) in a round, which are sampled: 10 on CPU, 3 on CUDA"
    )
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that everything works")
    parser.add_argument("--out", default="benchmarks/results")
    options = parser.parse_args(arguments)
    cuda = options.device == "cuda"
    options.shapes = options.shapes or ("pocket" if options.quick else "8b" if cuda else "pocket,135m,1b")
    options.plan = options.plan or ("four" if cuda else "searched")
    options.candidates = options.candidates or (2 if options.quick else 64 if cuda else 32)
    options.seconds = options.seconds or (3.0 if cuda else 10.0)
    options.matrix = 256 if options.quick else 8192 if cuda else 2048
    if options.quick:
        options.tokens, options.repeats, options.seconds = [4], 1, 0.1
    try:
        run(options)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
