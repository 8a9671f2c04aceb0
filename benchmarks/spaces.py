"""Search spaces and placements of the soft prompt at equal budgets, on the pocket model's survey loss.

`python -m benchmarks.spaces screen` tries many variants of each space shortly; `python -m benchmarks.spaces` then
compares the best one of each kind, and the default, at length. Only searched wordings are asked: a run
searches as a study does, on the balanced plan, and its winner is then asked every searched wording in every form; that
loss is compared. The same command after an interruption goes on where it was.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks import result_file, workers
from evoprompt.errors import UserError, unknown_name
from evoprompt.llm import FrozenModel, ModelSpec, Respondent, load_model, prompt_cost
from evoprompt.llm.write.sheet import PLACEMENTS
from evoprompt.objectives import SurveyAlignmentFactory
from evoprompt.optim import minimize
from evoprompt.parallel import LocalEvaluator
from evoprompt.prompts import DEFAULT_SPACE, Space, space_for, space_options
from evoprompt.prompts.spaces import TEXTS
from evoprompt.prompts.start import resolve_start
from evoprompt.study.arms import SurveyPanel
from evoprompt.study.settings import ExecutorSettings, SurveySettings
from evoprompt.study.study import SEARCH_RESPONDENTS
from evoprompt.surveys import (
    Constant,
    anchored_constant,
    balanced_plan,
    choose_anchors,
    full_plan,
    get_culture,
    l1_loss,
    raw_scores,
    sample_respondents,
    vsm13,
)

__all__ = ["COMPARED", "SCREENED", "best_of_each_kind", "main", "markdown", "options_of", "variant"]

KEY = ("space", "placement", "budget", "culture", "seed")
COLUMNS = (*KEY, "dim", "status", "loss", "search_loss", "evaluations", "perplexity_ratio", "kl", "seconds")
SCREENED = (
    "full",
    "full scale=2",
    "full init_text=Answer:",
    "random_projection dimensions=64",
    "random_projection dimensions=128",
    "random_projection dimensions=256",
    "random_projection dimensions=64 scale=1",
    "random_projection dimensions=64 spread=dimension",
    "random_projection dimensions=64 init=vocabulary",
    "random_projection dimensions=64 init_text=Answer:",
    "vocab_pca components=16",
    "vocab_pca components=16 scale=1",
    "vocab_pca components=32",
    "vocab_pca components=16 init=vocabulary",
    "vocab_pca components=16 init_text=Answer:",
    "low_rank rank=1",
    "low_rank rank=2",
    "low_rank rank=1 init_text=Answer:",
)
"""What the first stage tries: a kind, then those of its options that are not its defaults."""
COMPARED = ("prefix", "suffix")
"""The pocket model has neither a chat template nor a BOS token, so that `system` is `prefix`."""
CULTURES = "mexico,russia"  # none that is reported on
SCREEN_FILE = "benchmarks/results/spaces_screen.csv"
STAGES = {
    "screen": {"budgets": "1000", "seeds": 2, "out": SCREEN_FILE},
    "compare": {"budgets": "2000,5000", "seeds": 5, "out": "benchmarks/results/spaces.csv"},
}


def variant(text: str) -> str:
    """The full name of a variant: every option that its kind has, so that a result says what it was made with.

    >>> variant("low_rank rank=2")
    'low_rank tokens=4 init=mean rank=2 scale=1 limit=3'
    """
    options = space_options(options_of(text))
    options["init"] = resolve_start(options)
    named = {key: value for key, value in options.items() if key != "kind" and value is not None}
    shown = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in named.items()]
    return shlex.join([options["kind"], *shown])


def options_of(name: str) -> dict[str, Any]:
    """The options that the name of a variant gives."""
    kind, *given = shlex.split(name)
    pairs = (part.partition("=") for part in given)
    return {"kind": kind} | {key: value if key in TEXTS else _number(value) for key, _, value in pairs}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True)
class Runs:
    """The runs of one space under one placement for one culture, in one process."""

    space: str
    placement: str
    culture: str
    items: tuple[tuple[int, int], ...]

    def results(self) -> Iterator[dict[str, Any]]:
        """A row per (budget, seed)."""
        for budget, seed in self.items:
            yield {**self.key(budget, seed), **_run(self.space, self.placement, budget, self.culture, seed)}

    def after(self, done: int, reason: str) -> tuple[dict[str, Any], Runs | None]:
        """The row of the run that killed its process, and the runs behind it."""
        failed = {"status": f"failed: {reason}", "dim": 0, "loss": np.inf, "evaluations": 0}
        row = dict.fromkeys(COLUMNS, np.nan) | self.key(*self.items[done]) | failed
        rest = self.items[done + 1 :]
        return row, replace(self, items=rest) if rest else None

    def key(self, budget: int, seed: int) -> dict[str, Any]:
        """What tells this run from others."""
        return dict(zip(KEY, (self.space, self.placement, budget, self.culture, seed), strict=True))


def _run(name: str, placement: str, budget: int, culture: str, seed: int) -> dict[str, Any]:
    frozen = _frozen()
    space = space_for(frozen, options_of(name), seed)
    objective = survey_factory(frozen, space, culture).around(_respondent(placement))
    began = time.process_time()
    with LocalEvaluator(objective, ExecutorSettings().batch_size) as evaluator:
        found = minimize(None, space.bounds, budget=budget, evaluator=evaluator, seed=seed)
    seconds = time.process_time() - began
    prompt = space.decode(found.x[None])[0]
    cost = prompt_cost(frozen, prompt, placement=placement)
    return {
        "dim": space.d, "status": "ok" if found.success else f"failed: {found.message}",
        "loss": _loss_on_all(prompt, placement, culture), "search_loss": float(found.fun),
        "evaluations": found.nfev, "perplexity_ratio": cost.perplexity_ratio, "kl": cost.kl, "seconds": seconds,
    }  # fmt: skip


def survey_factory(frozen: FrozenModel, space: Space, culture: str) -> SurveyAlignmentFactory:
    """The loss that a study of this culture would search on, as shipped."""
    survey = SurveySettings()
    people = sample_respondents(SEARCH_RESPONDENTS, survey.respondent_seed)
    plan = balanced_plan(vsm13(), "searched", people, survey.counterbalanced)
    return SurveyAlignmentFactory(frozen.spec, space, plan, get_culture(culture).target, _constant(culture).array)


def _loss_on_all(prompt: torch.Tensor, placement: str, culture: str) -> float:
    """Loss of a soft prompt (T, H) on every searched wording in every form, asked of the search's respondents."""
    plan = full_plan(vsm13(), "searched", sample_respondents(SEARCH_RESPONDENTS, SurveySettings().respondent_seed))
    respondent = _respondent(placement)
    sheet = respondent.sheet(plan.texts(), [question.labels for question in plan.questions])
    scores = raw_scores(plan.item_means(respondent.answer(prompt[None], sheet))) + _constant(culture).array
    return float(l1_loss(scores, get_culture(culture).target)[0])


@lru_cache(maxsize=1)
def _frozen() -> FrozenModel:
    return load_model(ModelSpec(device="cpu", threads=1))


@lru_cache(maxsize=len(PLACEMENTS))
def _respondent(placement: str) -> Respondent:
    return Respondent(_frozen(), placement)


def _constant(culture: str) -> Constant:
    """Fitted to the bare model as a study fits it."""
    anchors = choose_anchors([get_culture(key) for key in SurveySettings().anchors], get_culture(culture))
    return anchored_constant(anchors, np.stack([_raw(anchor.key) for anchor in anchors]))


@lru_cache
def _raw(anchor: str) -> NDArray[np.float64]:
    """Raw scores (6,) of a culture asked by persona line."""
    survey = SurveySettings()
    people = sample_respondents(SEARCH_RESPONDENTS + survey.respondents, survey.respondent_seed)
    panel = SurveyPanel(_respondent(PLACEMENTS[0]), vsm13(), people[SEARCH_RESPONDENTS:])
    return panel.raw(get_culture(anchor).persona())


def _mean_ranks(rows: pd.DataFrame, among: Sequence[str]) -> pd.Series:
    """Mean rank by loss of what the columns `among` name, over everything else in the key."""
    losses = rows.assign(loss=rows["loss"].astype(float).fillna(np.inf))
    others = [name for name in KEY if name not in among]
    wide = losses.pivot_table(index=others, columns=list(among), values="loss")
    ranks: pd.Series = wide.round(9).rank(axis=1).mean().sort_values(kind="stable")
    return ranks


def best_of_each_kind(rows: pd.DataFrame, placement: str) -> list[str]:
    """The variants with the best mean rank of each kind under a placement, and the default."""
    here = rows[rows["placement"] == placement]
    best: dict[str, str] = {}
    for name in _mean_ranks(here if len(here) else rows, ["space"]).index:
        best.setdefault(name.split()[0], name)
    return list(dict.fromkeys([*best.values(), variant(DEFAULT_SPACE)]))


def markdown(rows: pd.DataFrame) -> str:
    """A row per space and placement, best mean rank first, with losses by budget."""
    default = (variant(DEFAULT_SPACE), PLACEMENTS[0])
    budgets = sorted(rows["budget"].unique())
    heads = ["", "space", "placement", "d", "mean rank"]
    heads += [f"{statistic}, {budget}" for budget in budgets for statistic in ("median", "mean")]
    heads += ["perplexity ratio", "of the best", "ms/eval"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    ranks = _mean_ranks(rows, ["space", "placement"])
    whole, notes = rows.groupby(["budget", "culture", "seed"]).ngroups, []
    for place, (name, placement) in enumerate(ranks.index, start=1):
        mine = rows[(rows["space"] == name) & (rows["placement"] == placement)]
        losses = mine.groupby("budget")["loss"].agg(["median", "mean"])
        cells = [f"{value:.2f}" for budget in budgets for value in losses.reindex(budgets).loc[budget]]
        typical = mine.loc[mine["budget"] == mine["budget"].max(), "perplexity_ratio"].median()
        of_best = mine.loc[mine["loss"].idxmin(), "perplexity_ratio"]
        speed = 1e3 * mine["seconds"].sum() / max(1, mine["evaluations"].sum())
        marked = f"{name} (default)" if (name, placement) == default else name
        cells = [marked, placement, f"{mine['dim'].max()}", f"{ranks[name, placement]:.2f}", *cells]
        lines.append(f"| {place} | {' | '.join(cells)} | {typical:.2f} | {of_best:.2f} | {speed:.2f} |")
        failed = mine[mine["status"].str.startswith("failed")]
        if len(failed):
            notes.append(f"{name}, {placement}: {len(failed)} runs failed: {failed['status'].iloc[0][8:]}")
        if len(mine) < whole:
            notes.append(f"{name}, {placement}: {len(mine)} of {whole} runs only; its rank is over those.")
    title = (
        f"Loss in points after a budget on the searched wordings, over {rows['seed'].nunique()} seeds and the cultures "
        f"{', '.join(sorted(rows['culture'].unique()))}, by the default optimizer on the pocket model. Mean rank: over "
        "budgets, cultures and seeds. Perplexity ratio: on neutral text, prompted over base, of the prompts of the "
        "largest budget (median) and of the best one. ms/eval is CPU time on one thread, everything included. "
        "The pocket model has neither a chat template nor a BOS token: the placement system is prefix."
    )
    return "\n\n".join([title, "\n".join(lines), *notes]) + "\n"


def _wanted(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Spaces, placements and cultures to run, every one with every other.

    Raises
    ------
    UserError
        One of them is unknown, or nothing was screened yet.
    """
    placements, cultures = options.placements.split(","), options.cultures.split(",")
    for placement in placements:
        if placement not in PLACEMENTS:
            raise unknown_name("placement", placement, PLACEMENTS)
    for culture in cultures:
        get_culture(culture)
    if options.spaces or options.stage == "screen":
        named = [variant(text) for text in (options.spaces.split(",") if options.spaces else SCREENED)]
        spaces = dict.fromkeys(placements, named)
    elif Path(options.screened).exists():
        screened = result_file.read([options.screened])
        spaces = {placement: best_of_each_kind(screened, placement) for placement in placements}
    else:
        raise UserError(f"{options.screened} is not there: run `python -m benchmarks.spaces screen` or give --spaces")
    return [
        (space, placement, culture) for placement in placements for space in spaces[placement] for culture in cultures
    ]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", nargs="?", choices=STAGES, default="compare")
    parser.add_argument("--spaces", help='with commas between, for example "full,low_rank rank=2 init=vocabulary"')
    parser.add_argument("--placements", default=",".join(COMPARED))
    parser.add_argument("--budgets", help="by default 1000 to screen, 2000,5000 to compare")
    parser.add_argument("--seeds", type=int, help="by default 2 to screen, 5 to compare")
    parser.add_argument("--cultures", default=CULTURES)
    parser.add_argument("--screened", default=SCREEN_FILE, help="where the best of each kind are looked up")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds after which a run counts as failed")
    parser.add_argument("--out")
    options = parser.parse_args(arguments)
    for name, value in STAGES[options.stage].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print the table."""
    options = _arguments(arguments)
    try:
        wanted = _wanted(options)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    file = result_file.ResultFile(options.out, COLUMNS, KEY)
    budgets, tasks = [int(budget) for budget in options.budgets.split(",")], []
    for seed, case in product(range(options.seeds), wanted):  # a seed of everything before the next of anything
        runs = Runs(*case, ())
        left = tuple((budget, seed) for budget in budgets if runs.key(budget, seed) not in file)
        if left:
            tasks.append(replace(runs, items=left))
    began = time.monotonic()

    def note(row: dict[str, Any]) -> None:
        file.add(row)
        where = ", ".join(str(row[name]) for name in KEY)
        print(f"{time.monotonic() - began:.0f} s: {where}: {row['loss']:.4g} {row['status']}", flush=True)

    workers.run(tasks, options.jobs, note, options.limit)
    text = markdown(result_file.read([options.out])) + "\n" + result_file.remarks(options.out)
    Path(options.out).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
