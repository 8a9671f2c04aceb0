"""The study's figures: one definition for every arm, with intervals and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import ndcg_score, precision_recall_fscore_support

from evoprompt.routing import Route
from evoprompt.surveys import committee
from evoprompt.typing import Doubles
from experiments.answer_figures import coverage, diversity, published_figures
from experiments.committee.arms import ARMS, COMPOSED, Reply, agreement
from experiments.committee.queries import LabelledQuery
from experiments.statistics import adjusted, mean_interval, paired

AGAINST = ("direct", "persona", "fixed expert", "single best", "oracle")
KEYS = tuple(culture.key for culture in committee())


def scored(query: LabelledQuery, reply: Reply, truth: Mapping[str, Doubles]) -> dict[str, float | str]:
    """One arm's reply to one query; the same function for every arm."""
    return {
        "labelled": " ".join(query.cultures),
        "asked": " ".join(reply.cultures),
        "experts": len(reply.cultures),
        "alignment": agreement(reply.shares, query, truth),
        "alignment_of_votes": agreement(reply.votes, query, truth),
        "diversity": diversity(reply.positions),
        **{f"answer_{value}": float(share) for value, share in enumerate(reply.shares, 1)},
    }


def results(
    queries: Sequence[LabelledQuery], replies: Mapping[str, Sequence[Reply]], truth: Mapping[str, Doubles]
) -> pd.DataFrame:
    """A row for each query and arm."""
    rows = []
    for number, query in enumerate(queries):
        about = {"query": query.name, "item": query.item, "cultures": len(query.cultures)}
        rows += [{**about, "arm": arm, **scored(query, given[number], truth)} for arm, given in replies.items()]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def by_arm(frame: pd.DataFrame, column: str) -> dict[str, Interval]:
    """The mean of a column over the queries, for each arm."""
    return {arm: Interval(*mean_interval(frame.loc[frame["arm"] == arm, column].to_numpy())) for arm in ARMS}


def comparisons(frame: pd.DataFrame) -> pd.DataFrame:
    """Each composition against each other arm, item by item; p adjusted over all of them.

    The queries of an item share its question and its answers: their mean counts once.
    """
    table = frame.pivot_table(index="item", columns="arm", values="alignment")
    rows = []
    for arm in COMPOSED:
        for other in AGAINST:
            found = paired(table[arm].to_numpy(), table[other].to_numpy())
            rows.append({"committee": arm, "against": other, **found.__dict__})
    return pd.DataFrame(rows).assign(adjusted=lambda shown: adjusted(shown["p"].tolist()))


def routing(queries: Sequence[LabelledQuery], routes: Sequence[Route], fixed: str) -> pd.DataFrame:
    """How well the labelled cultures are found: by the committee's choice, by its first alone, by one fixed expert."""
    labels = np.array([[key in query.cultures for key in KEYS] for query in queries])
    ranked = [{choice.culture: choice.probability for choice in route.ranked} for route in routes]
    likely = np.array([[one.get(key, 0.0) for key in KEYS] for one in ranked])
    chosen = np.array([[key in {choice.culture for choice in route.chosen} for key in KEYS] for route in routes])
    first = np.array([[key in {choice.culture for choice in route.chosen[:1]} for key in KEYS] for route in routes])
    same = np.array([[key == fixed for key in KEYS]] * len(queries))
    rows = []
    for name, asked, scores in (
        ("committee", chosen, likely),
        ("single best", first, likely),
        ("fixed expert", same, same.astype(float)),
    ):
        precision, recall, f1, _ = precision_recall_fscore_support(labels, asked, average="micro", zero_division=0)
        ndcg = float(ndcg_score(labels, scores, k=3))
        none = float(1 - asked.any(axis=1).mean())
        row = {"router": name, "precision": precision, "recall": recall, "f1": f1, "ndcg_at_3": ndcg}
        rows.append(row | {"no expert": none})
    return pd.DataFrame(rows)


def free_text_figures(answers: pd.DataFrame) -> pd.DataFrame:
    """Completeness and coverage of sensitive questions, for each arm."""
    complete, rows = by_arm(answers, "completeness"), []
    for arm in ARMS:
        mine = answers[(answers["arm"] == arm) & answers["sensitive"]]
        covered = coverage(mine["answer"].tolist(), mine["refused"].tolist())
        rows.append({"arm": arm, "completeness": str(complete[arm]), "coverage": covered})
    return pd.DataFrame(rows)


def as_published(
    queries: Sequence[LabelledQuery], replies: Mapping[str, Sequence[Reply]], routes: Sequence[Route]
) -> pd.DataFrame:
    """The figures of arXiv 2506.00242 by its own formulas, for each arm. Circular: see `published_figures`."""
    rows = []
    for arm, given in replies.items():
        answered = [set(reply.cultures) for reply in given]
        routed = arm in ("single best", *COMPOSED)
        chosen = [{choice.culture for choice in route.chosen} for route in routes] if routed else answered
        words = [
            len(query.options[int(reply.shares.argmax())].split()) for query, reply in zip(queries, given, strict=True)
        ]
        rows.append({"arm": arm, **published_figures(chosen, answered, words)})
    return pd.DataFrame(rows)
