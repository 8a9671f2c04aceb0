"""The table of the throughput benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["COLUMNS", "KEY", "markdown"]

KEY = ("device", "dtype", "threads", "plan", "candidates", "shape", "soft_tokens", "arm")
COLUMNS = (
    *KEY, "path", "questions", "rounds", "timed_candidates", "setup_seconds", "best_seconds", "median_seconds",
    "candidates_per_second", "questions_per_second", "tokens_per_candidate", "tokens_per_second", "flops_per_candidate",
    "share_of_peak", "matrix_flops", "kept_bytes", "peak_bytes", "predicted_bytes", "times_a", "times_b",
    "share_of_pure", "difference",
)  # fmt: skip

HEADS = (
    "shape", "soft tokens", "arm", "candidates/s", "questions/s", "tokens a candidate", "tokens/s", "share of peak",
    "kept MiB", "peak MiB", "predicted MiB", "x (a)", "x (b)", "share of pure", "setup / best call, s",
    "timed on", "differs by",
)  # fmt: skip

EXPLANATION = """\
Every row is the best of its rounds, in which the arms took turns. (a) is a `generate` call a question with the soft
prompt in `inputs_embeds`, once for one new token (what `x (a)` refers to) and once for a short answer; (b) a padded
batch in the fastest of a few sizes, with the logits of all positions, or (b2, for information) of the last alone; (c)
ours, by placement; pure inference is the decoder alone on dense causal rows as long as a question, in the fastest of a
few sizes, for as many tokens as (c) computes for a prefix. (a) and (b) are timed on a sample (`timed on`: candidates'
worth of questions, of all candidates) and scaled up. Tokens a candidate: those that go through the layers; what ours
computes once a run for all candidates is in its setup, with the check of its own paths, and not in its calls. Share of
peak: operations counted from the model's shape, by the rate of large matrix products measured in the same run in the
same dtype; attention counts visible pairs, the output head what the arm computes of it, ours the last layer at answers
only. Kept: what that setup leaves in memory above the weights; peak: what a call takes above that, allocated on CUDA
and resident on a CPU; predicted: the same as ours expects it. Differs by: the largest difference in log-probability
from the literal reference (one sequence, no cache, batch or padding) of the same placement, on 24 pairs of candidate
and question, checked before anything was timed."""


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A table for each device, dtype and plan; of rows made twice the last."""
    last = {tuple(row[name] for name in KEY): row for row in rows}
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = {}
    for row in last.values():
        groups.setdefault(tuple(row[name] for name in KEY[:4]), []).append(row)
    return "\n".join([*(_group(part) for part in groups.values()), EXPLANATION]) + "\n"


def _group(rows: Sequence[Mapping[str, str]]) -> str:
    first = rows[0]
    fastest = max(float(row["matrix_flops"]) for row in rows)
    title = (
        f"{first['device']}, {first['dtype']}, {first['threads']} CPU threads; plan `{first['plan']}`, "
        f"{first['questions']} questions; {first['rounds']} rounds; "
        f"matrix products at {fastest / 1e12:.3g} TFLOP/s at best."
    )
    lines = [f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}"]
    return "\n".join([title, "", *lines, *(f"| {' | '.join(_cells(row))} |" for row in rows), ""])


def _cells(row: Mapping[str, str]) -> list[str]:
    return [
        row["shape"], row["soft_tokens"], row["arm"] + (f", {row['path']}" if row["path"] else ""),
        _number(row["candidates_per_second"]), _number(row["questions_per_second"]), row["tokens_per_candidate"],
        _number(row["tokens_per_second"]), _number(row["share_of_peak"], 100, "%"),
        _number(row["kept_bytes"], 2**-20), _number(row["peak_bytes"], 2**-20), _number(row["predicted_bytes"], 2**-20),
        _number(row["times_a"]), _number(row["times_b"]), _number(row["share_of_pure"], 100, "%"),
        f"{_number(row['setup_seconds'])} / {_number(row['best_seconds'])}",
        f"{_number(row['timed_candidates'])} of {row['candidates']}",
        f"{float(row['difference']):.1e}" if row["difference"] else "-",
    ]  # fmt: skip


def _number(text: str, factor: float = 1.0, unit: str = "") -> str:
    if not text:
        return "-"
    value = float(text) * factor
    return (f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}") + unit
