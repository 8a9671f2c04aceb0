"""How long each arm takes, beside a direct answer to the same query in the same round."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from evoprompt.routing import Committee, Voice
from evoprompt.routing.committee import BASE
from experiments.committee.arms import ARMS, COMPOSED
from experiments.committee.free_text import say, speakers
from experiments.committee.queries import LabelledQuery

TIMED = 9  # queries of each kind


def latency(
    committee: Committee,
    survey: Sequence[LabelledQuery],
    everyday: Sequence[LabelledQuery],
    voices: Mapping[str, Voice],
    fixed: str,
    part: str,
    rounds: int,
) -> pd.DataFrame:
    """Medians of seconds and of ratios to direct, routing included.

    `ratio` is by the clock on the wall, with its quartiles; `processor ratio` by this process's processor time, which
    other work on the machine touches less and which tells nothing about a GPU.
    """
    if not rounds:
        return pd.DataFrame()
    kinds = {
        "answer in words": [_worded(committee, query, voices, fixed, part) for query in _some(everyday)],
        "opinion over options": [_opinion(committee, query, voices, fixed, part) for query in _some(survey)],
    }
    rows = []
    for kind, jobs in kinds.items():
        timed = [[[_timed(run) for run in job.values()] for job in jobs] for _ in range(rounds + 1)]
        taken = np.array(timed)[1:]  # (rounds, queries, arms, 2); the first round warms up
        ratios = taken / taken[..., :1, :]
        for place, arm in enumerate(jobs[0]):
            seconds, _ = np.median(taken[..., place, :], axis=(0, 1))
            low, middle, high = np.quantile(ratios[..., place, 0], [0.25, 0.5, 0.75])
            row = {"kind": kind, "arm": arm, "seconds": seconds, "ratio": middle}
            row |= {"lower quartile": low, "upper quartile": high}
            rows.append(row | {"processor ratio": np.median(ratios[..., place, 1])})
    return pd.DataFrame(rows)


def _some(queries: Sequence[LabelledQuery]) -> Sequence[LabelledQuery]:
    return queries[:: max(1, len(queries) // TIMED)][:TIMED]


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock on the wall, and of the processor."""
    began, worked = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - began, time.process_time() - worked


def _worded(
    committee: Committee, query: LabelledQuery, voices: Mapping[str, Voice], fixed: str, part: str
) -> dict[str, Callable[[], object]]:
    def run(arm: str) -> object:
        routed = committee.route(query.text, query.profile)[1] if arm in ("single best", *COMPOSED) else (BASE,)
        return say(committee, query, arm, speakers(query, routed, voices, fixed)[arm], part)

    return {arm: partial(run, arm) for arm in ARMS}


def _opinion(
    committee: Committee, query: LabelledQuery, voices: Mapping[str, Voice], fixed: str, part: str
) -> dict[str, Callable[[], object]]:
    def run(arm: str) -> object:
        routed = committee.route(query.text, query.profile)[1] if arm in ("single best", "mixture") else (BASE,)
        who = speakers(query, routed, voices, fixed)[arm]
        return committee.opinion(query.read(part), query.options, voices=who)

    return {arm: partial(run, arm) for arm in ("direct", "single best", "mixture", "oracle")}
