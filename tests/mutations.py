"""Proves the fast suite: forty one-line faults, of which its tests must find nearly all.

    python tests/mutations.py                      # all forty
    python tests/mutations.py optim 17 serving     # a room's, or single ones
    python tests/mutations.py --list

Each fault is put into a copy of the checkout, never into the checkout itself. First the test files that are nearest to
it run, then, where these find nothing, the room's whole fast suite with its doctests. `tests/test_mutations.py` holds
the list to the code: every fragment occurs exactly once.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = 38  # of all faults
PATIENCE_S = 1800  # for one command: a search that never ends is a fault found


@dataclass(frozen=True)
class Fault:
    """A line of a file that is wrong in one place, and the tests that lie nearest to it."""

    file: str
    right: str
    wrong: str
    breaks: str
    near: str

    @property
    def room(self) -> str:
        """The room of evoprompt that it is in."""
        return self.file.split("/")[0]

    @property
    def path(self) -> Path:
        """Its file below a checkout."""
        return Path("evoprompt") / self.file

    def applied(self, text: str) -> str:
        """The file's text with the fault in it.

        Raises
        ------
        ValueError
            The right line is not there exactly once.
        """
        if text.count(self.right) != 1:
            raise ValueError(f"{self.path} has {self.right!r} {text.count(self.right)} times, not once")
        return text.replace(self.right, self.wrong)


FAULTS = (
    Fault(
        "optim/engine/ledger.py",
        "max(0, self.budget - self.asked - self.foreign)",
        "max(0, self.budget - self.asked)",
        "points told without being asked cost nothing of the budget",
        "tests/optim/test_conformance.py",
    ),
    Fault(
        "optim/engine/ledger.py",
        "np.lexsort((received.ids, received.loss, violation))",
        "np.lexsort((received.loss, violation))",
        "of equal losses told together the best depends on their order",
        "tests/optim/test_ledger.py",
    ),
    Fault(
        "optim/engine/ledger.py",
        "return min(1.0, max(shares[1:]))",
        "return min(1.0, min(shares[1:]))",
        "of budget and time the one that is spent less says how far a run is",
        "tests/optim/test_ledger.py",
    ),
    Fault(
        "optim/engine/rng.py",
        "np.flatnonzero(np.diff(trials) != 1) + 1",
        "np.flatnonzero(np.diff(trials) != 1)",
        "trials whose numbers are not successive get each other's random numbers",
        "tests/optim/test_variants.py",
    ),
    Fault(
        "optim/de/mutation.py",
        "index += index >= other",
        "index += index > other",
        "partners of a mutation may be the same member",
        "tests/optim/test_variants.py",
    ),
    Fault(
        "optim/de/mutation.py",
        "distinct(draws.u[:, 2], m + len(pool.other), draws.target, r1)",
        "distinct(draws.u[:, 2], m, draws.target, r1)",
        "nothing is ever taken from the archive",
        "tests/optim/papers/test_jade.py",
    ),
    Fault(
        "optim/de/mutation.py",
        "(step.minus, np.subtract)",
        "(step.minus, np.add)",
        "the second difference of a donor is a sum",
        "tests/optim/papers/test_classic.py",
    ),
    Fault(
        "optim/de/crossover.py",
        "keep[np.arange(len(ids)), (u[:, 0] * d).astype(np.int64)] = False",
        "keep[np.arange(len(ids)), 0] = False",
        "the coordinate that always comes from the donor is always the first",
        "tests/optim/papers/test_classic.py",
    ),
    Fault(
        "optim/de/population.py",
        "no_worse = loss <= old_loss if ties else loss < old_loss",
        "no_worse = loss < old_loss",
        "a trial that is as good as its parent does not replace it",
        "tests/optim/test_variants.py",
    ),
    Fault(
        "optim/de/archive.py",
        "members = rows[won]",
        "members = rows[: len(won)]",
        "other parents than those that were beaten are archived",
        "tests/optim/papers/test_jade.py",
    ),
    Fault(
        "optim/de/memory.py",
        "return float((weights * values * values).sum()) / denominator",
        "return float((weights * values).sum()) / weights.sum()",
        "F is learnt by the arithmetic mean",
        "tests/optim/papers/test_shade.py",
    ),
    Fault(
        "optim/portfolio/gaussian.py",
        "order = np.lexsort((losses, violation))",
        "order = np.lexsort((violation, losses))",
        "the sampling stage learns from points that violate constraints as if they did not",
        "tests/optim/test_portfolio.py",
    ),
    Fault(
        "llm/score/trie.py",
        "static.append(bool(tokens) and token >= 0 and (node < 0 or static[node]))",
        "static.append(bool(tokens) and (node < 0 or static[node]))",
        "what follows a soft token is computed once for all candidates",
        "tests/llm/test_paths.py",
    ),
    Fault(
        "llm/score/trie.py",
        "steps += [(row * len(labels) + number,",
        "steps += [(row * len(labels) + len(labels) - 1 - number,",
        "the options' scores are in the wrong order",
        "tests/llm/test_paths.py",
    ),
    Fault(
        "llm/score/head.py",
        "first[1:] = flat[1:] != flat[:-1]",
        "first[1:] = flat[1:] == flat[:-1]",
        "first tokens of labels are normalised and further ones are not",
        "tests/llm/test_paths.py",
    ),
    Fault(
        "llm/score/head.py",
        "return cap * torch.tanh(logits / cap) if cap else logits",
        "return torch.tanh(logits / cap) if cap else logits",
        "soft-capped logits lose their scale",
        "tests/llm/test_paths.py",
    ),
    Fault(
        "llm/score/tree_attention.py",
        "seen &= self.distance < window",
        "seen &= self.distance <= window",
        "a sliding window is a token too long",
        "tests/llm/test_paths.py",
    ),
    Fault(
        "llm/speak/decoding.py",
        "if len(stream.said) >= stream.sampling.max_tokens:",
        "if len(stream.said) > stream.sampling.max_tokens:",
        "answers are a token too long",
        "tests/llm/test_decoding.py",
    ),
    Fault(
        "llm/speak/decoding.py",
        "beyond = (ranked.cumsum(dim=-1) - ranked >= most)",
        "beyond = (ranked.cumsum(dim=-1) >= most)",
        "the token that reaches top_p cannot be drawn",
        "tests/llm/test_decoding.py",
    ),
    Fault(
        "llm/speak/decoding.py",
        "gumbel(torch.tensor(keys, device=scores.device), scores.shape[1])",
        "gumbel(torch.tensor(keys, device=scores.device) * 0, scores.shape[1])",
        "every token of every seed is drawn with the same noise",
        "tests/llm/test_decoding.py",
    ),
    Fault(
        "llm/speak/parsing.py",
        "return left.pop() if len(left) == 1 else None",
        "return left.pop() if left else None",
        "an answer that names several options counts as one of them",
        "tests/llm/test_parsing.py",
    ),
    Fault(
        "llm/write/sheet.py",
        "begun = {t: i if i[: len(self.lead)] == self.lead else self.lead + i for t, i in ids.items()}",
        "begun = {t: self.lead + i for t, i in ids.items()}",
        "texts that bring their beginning token get two",
        "tests/llm/test_sheet.py",
    ),
    Fault(
        "surveys/questions.py",
        "options, values = options[::-1], values[::-1]",
        "options = options[::-1]",
        "answers to turned options are not turned back",
        "tests/surveys/test_counterbalancing.py",
    ),
    Fault(
        "surveys/questions.py",
        "wording = wordings[(index + combination) % len(wordings)]",
        "wording = wordings[index % len(wordings)]",
        "of each item one wording is searched on",
        "tests/surveys/test_counterbalancing.py",
    ),
    Fault(
        "surveys/vsm13.py",
        '"lto": ((40, 13, 14), (25, 19, 22))',
        '"lto": ((40, 13, 14), (25, 22, 19))',
        "a term of long-term orientation has the wrong sign",
        "tests/surveys/test_vsm13.py",
    ),
    Fault(
        "surveys/vsm13.py",
        "known = np.isfinite(wanted)",
        "known, wanted = np.ones(len(wanted), bool), np.nan_to_num(wanted)",
        "a dimension without a published score counts as a target of 0",
        "tests/surveys/test_vsm13.py",
    ),
    Fault(
        "surveys/anchoring.py",
        "values = published - np.asarray(raw).mean(axis=0)",
        "values = np.asarray(raw).mean(axis=0) - published",
        "the constant has the wrong sign",
        "tests/surveys",
    ),
    Fault(
        "parallel/batching.py",
        "if evaluation is None and len(trials) > 1:",
        "if evaluation is None and len(trials) > 2:",
        "of two candidates the one that raises takes the other with it",
        "tests/parallel/test_batching.py",
    ),
    Fault(
        "parallel/batching.py",
        "column[row] = values",
        "column[row - 1] = values",
        "metrics land on other candidates than their losses",
        "tests/parallel/test_batching.py",
    ),
    Fault(
        "parallel/pool.py",
        "if job.deaths <= self.max_retries:",
        "if job.deaths < self.max_retries:",
        "a micro-batch is tried once less than was asked for",
        "tests/parallel/test_pool.py tests/parallel/test_faulty_pool.py",
    ),
    Fault(
        "parallel/local.py",
        "            trials = self._queue[0]\n",
        "            trials = self._queue[-1]\n",
        "micro-batches are evaluated from the end and dropped from the front",
        "tests/parallel/test_local_evaluator.py",
    ),
    Fault(
        "parallel/loops.py",
        "[losses[number] for number in trials.ids.tolist()]",
        "[losses[number] for number in losses]",
        "a generation's losses are told in the order in which they came",
        "tests/parallel/test_loops.py",
    ),
    Fault(
        "routing/router.py",
        "claim for claim in ranked[:k] if claim.probability >= self.threshold",
        "claim for claim in ranked if claim.probability >= self.threshold",
        "more cultures are chosen than were asked for",
        "tests/routing/test_router.py",
    ),
    Fault(
        "routing/router.py",
        "if needs < self.need_threshold:",
        "if needs < self.threshold:",
        "whether experts are needed is decided by the threshold of a single culture",
        "tests/routing/test_router.py",
    ),
    Fault(
        "routing/committee.py",
        "np.stack([row[np.argsort(order)] for row, order in zip(asked, orders, strict=True)])",
        "np.stack([row for row, order in zip(asked, orders, strict=True)])",
        "opinions on turned options are not turned back",
        "tests/routing/test_committee.py",
    ),
    Fault(
        "routing/committee.py",
        "key=lambda item: _held_out_loss(item[1])",
        "key=lambda item: -_held_out_loss(item[1])",
        "of several experts of a culture the worst is asked",
        "tests/routing/test_committee.py",
    ),
    Fault(
        "serving/gate.py",
        'if not hmac.compare_digest(given.encode(), self.token) or scheme.lower() != "bearer":',
        'if not hmac.compare_digest(given.encode(), self.token) and scheme.lower() != "bearer":',
        "any bearer token opens the server",
        "tests/serving/test_api.py",
    ),
    Fault(
        "serving/gate.py",
        "if len(body) > self.limits.body_bytes:",
        "if len(body) > self.limits.body_bytes * 1024:",
        "a body without a length is read whatever its size",
        "tests/serving/test_api.py",
    ),
    Fault(
        "serving/engine.py",
        "tokens = tuple(stream.said[heard.told :])",
        "tokens = tuple(stream.said)",
        "tokens are told again and again",
        "tests/serving/test_engine.py",
    ),
    Fault(
        "serving/engine.py",
        "await asyncio.wrap_future(done)",
        "await asyncio.shield(asyncio.wrap_future(done))",
        "what nobody waits for any more is computed all the same",
        "tests/serving/test_engine.py",
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Try faults; 0 where enough of them are found."""
    parser = argparse.ArgumentParser(prog="tests/mutations.py", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("which", nargs="*", help="rooms or numbers of faults; none: all")
    parser.add_argument("--list", action="store_true", help="show the faults and try none")
    given = parser.parse_args(arguments)
    numbered = list(enumerate(FAULTS, start=1))
    chosen = [(n, f) for n, f in numbered if not given.which or {str(n), f.room} & set(given.which)]
    if given.list:
        print("\n".join(f"{number:2} {fault.path}: {fault.breaks}" for number, fault in chosen))
        return 0
    print("| | fault | what it breaks | found by |\n|---|---|---|---|")
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied(Path(folder) / "checkout")
        for number, fault in chosen:
            began = time.monotonic()
            found = _found_by(fault, copy)
            survived += found is None
            print(f"| {number} | {fault.path} | {fault.breaks} | {found or '**nothing**'} |", flush=True)
            print(f"{number}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(f"\n{len(chosen) - survived} of {len(chosen)} found")
    return int(survived > len(FAULTS) - NEEDED)


def _copied(target: Path) -> Path:
    """A copy of the checkout's files, those that git ignores left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def _found_by(fault: Fault, copy: Path) -> str | None:
    """The test that fails with the fault and not without it, None where none fails."""
    file = copy / fault.path
    right = file.read_text(encoding="utf-8")
    for paths in (fault.near.split(), [f"tests/{fault.room}", f"evoprompt/{fault.room}"]):
        file.write_text(fault.applied(right), encoding="utf-8")
        try:
            found = _first_failure(paths, copy)
        except subprocess.TimeoutExpired:
            return f"{' '.join(paths)}, which did not end"
        finally:
            file.write_text(right, encoding="utf-8")
        if found:
            if _first_failure([found], copy):
                raise RuntimeError(f"{found} fails without any fault too")
            return f"`{found}`"
    return None


def _first_failure(paths: list[str], copy: Path) -> str | None:
    options = ["-x", "-n", "0", "-q", "-p", "no:cacheprovider", "--durations=0", "-rfE", "--tb=no"]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *paths]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode not in (1, 2) or not failed:  # 2: a module cannot be imported
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return failed[1]


if __name__ == "__main__":
    raise SystemExit(main())
