"""The router: which experts should answer a query, how sure that is, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.special import expit

from evoprompt.checks import whole_number
from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel
from evoprompt.routing.encoders import Encoder, encoder_from
from evoprompt.routing.lexicon import DATA, Lexicon, bundled_lexicon
from evoprompt.routing.signals import FEATURES, LIMIT, UNKNOWN, Evidence, Profile, find_evidence
from evoprompt.typing import Doubles

SCHEMA_VERSION = 1
TABLE, WEIGHTS = "router.json", "router.safetensors"
EXPLAINED = 10  # of the likeliest cultures, reasons are told
NEED_FEATURES = ("best", "second", "need", "named elsewhere", "told elsewhere", "profile")
_REASONS = {
    "name": "names {}",
    "term": "says {}",
    "ambiguous": "may mean {}",
    "spelling": "may be misspelt: {}",
    "script": "is written in the script of {}",
    "location": "the user is in {}",
    "language": "the user's language is {}",
}


@dataclass(frozen=True)
class Claim:
    """One culture's claim to a query: a calibrated probability and its reasons, the strongest first."""

    culture: str
    probability: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """What a router makes of a query.

    Attributes
    ----------
    chosen
        Cultures whose experts should answer, the likeliest first; empty: the base model alone.
    ranked
        Every culture by probability, the likeliest ones with their reasons.
    needs_experts
        Probability that the answer depends on a culture that there is an expert of, or on culture as such.
    reason
        In words, why these or none.
    spread
        Whether the question depends on culture and tells none, so that contrasting ones were chosen.
    """

    chosen: tuple[Claim, ...]
    ranked: tuple[Claim, ...]
    needs_experts: float
    reason: str
    spread: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of the chosen, summing to 1: their probabilities, all alike for a spread."""
        shares = [1.0 if self.spread else claim.probability for claim in self.chosen]
        return tuple(share / sum(shares) for share in shares)


@dataclass(frozen=True, eq=False)
class Router:
    """Scores cultures for queries: two linear models over an encoder and a lexicon.

    The first reads encoded queries and has weights for each culture with examples. The second weighs its log-odds
    together with names, terms, spelling, script and profile; it is one model for all cultures, so that a culture
    without examples is served too. Its probabilities are calibrated, see `evoprompt.routing.training`.

    Attributes
    ----------
    encoder, lexicon
        Where the signals come from.
    cultures
        Those with examples, c of them.
    examples
        (c + 1, d) weights and (c + 1,) biases on encoded queries; the last row is for being about culture at all.
    pair, need
        Weights on `FEATURES` and on `NEED_FEATURES`, and after these a bias.
    threshold, need_threshold
        Probabilities from which a culture is chosen, and from which experts are asked at all.
    common
        Words that are never misspelt names.
    """

    encoder: Encoder
    lexicon: Lexicon
    cultures: tuple[str, ...]
    examples: tuple[Doubles, Doubles]
    pair: Doubles
    need: Doubles
    threshold: float
    need_threshold: float
    common: frozenset[str]

    def route(
        self,
        query: str,
        profile: Profile = UNKNOWN,
        available: Sequence[str] | None = None,
        k: int = 3,
        contrast: Mapping[str, Sequence[float]] | None = None,
    ) -> Route:
        """Choose who answers a query.

        Parameters
        ----------
        query, profile
            What is asked, and what is known of the user.
        available
            Cultures that there are experts of; None: those of the examples.
        k
            Most cultures to choose.
        contrast
            Positions of the available cultures, among which the ones farthest apart are chosen where a question
            depends on culture and tells none; None: the base model answers it.

        Raises
        ------
        UserError
            The query is empty, or k is less than one.
        """
        if not query.strip():
            raise UserError("the query is empty; ask something")
        whole_number("k", k, 1)
        cultures = tuple(self.cultures if available is None else available)
        if not cultures:
            return Route((), (), 0.0, "there are no experts")
        evidence = self.evidence(query, profile, cultures)
        logits = log_odds(evidence.features, self.pair)
        needs = float(expit(log_odds(need_features(evidence, logits), self.need)))
        order = np.argsort(-logits, kind="stable")
        chances = expit(logits)
        ranked = tuple(
            Claim(cultures[i], float(chances[i]), self._reasons(evidence, cultures, i) if place < EXPLAINED else ())
            for place, i in enumerate(order)
        )
        if needs < self.need_threshold:
            elsewhere = evidence.named_elsewhere
            reason = f"is about {elsewhere}, of which there is no expert" if elsewhere else "needs no culture"
            return Route((), ranked, needs, reason)
        chosen = tuple(claim for claim in ranked[:k] if claim.probability >= self.threshold)
        if chosen:
            named = "; ".join(f"{claim.culture}: {', '.join(claim.reasons)}" for claim in chosen)
            return Route(chosen, ranked, needs, named)
        sharing = tuple(claim for claim in ranked if {"name", "term"} & set(evidence.words.get(claim.culture, {})))
        if sharing:
            named = f"{', '.join(sharing[0].reasons)}, as several cultures do"
            return Route(sharing[:k], ranked, needs, named, spread=True)
        if contrast:
            picked = {culture: place for culture, place in contrast.items() if culture in cultures}
            apart = farthest(picked, k)
            by_culture = {claim.culture: claim for claim in ranked}
            spread = tuple(by_culture[culture] for culture in apart)
            return Route(spread, ranked, needs, "depends on culture and tells none: views far apart", spread=True)
        return Route((), ranked, needs, "depends on culture and tells none")

    def evidence(self, query: str, profile: Profile, cultures: Sequence[str]) -> Evidence:
        """What speaks for each of the cultures."""
        weights, biases = self.examples
        scores = np.asarray(self.encoder.encode([query]) @ weights.T)[0] + biases
        known = dict(zip(self.cultures, scores[:-1], strict=True))
        examples = np.array([known.get(culture, np.nan) for culture in cultures])
        return find_evidence(query, profile, cultures, self.lexicon, examples, float(scores[-1]), self.common)

    def _reasons(self, evidence: Evidence, cultures: Sequence[str], row: int) -> tuple[str, ...]:
        """What raised a culture's log-odds, the strongest first."""
        culture = cultures[row]
        told: dict[str, float] = {}
        for feature, value, weight in zip(FEATURES, evidence.features[row], self.pair, strict=False):
            for kind in (feature, feature.partition(" of a ")[0], feature.partition(" in a ")[0]):
                if kind in _REASONS and value * weight > 0:
                    told[kind] = told.get(kind, 0.0) + value * weight
                    break
        gained = evidence.features[row, FEATURES.index("examples")]
        found = [
            (share, _REASONS[kind].format(", ".join(evidence.words.get(culture, {}).get(kind, []))))
            for kind, share in told.items()
        ]
        if gained > -1:
            found.append(((gained + LIMIT / 2) * float(self.pair[0]), "resembles its examples"))
        return tuple(text for _, text in sorted(found, key=lambda pair: -pair[0]))

    def save(self, folder: Path) -> None:
        """Write it as JSON and safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        table = {
            "schema_version": SCHEMA_VERSION,
            "cultures": self.cultures,
            "encoder": self.encoder.state(),
            "pair": dict(zip((*FEATURES, "bias"), self.pair.round(5).tolist(), strict=True)),
            "need": dict(zip((*NEED_FEATURES, "bias"), self.need.round(5).tolist(), strict=True)),
            "threshold": self.threshold,
            "need_threshold": self.need_threshold,
            "common": sorted(self.common),
        }
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
        (folder / TABLE).write_text(text + "\n", encoding="utf-8")
        weights, biases = (torch.from_numpy(np.ascontiguousarray(part)) for part in self.examples)
        save_file({"weights": weights.half(), "biases": biases.float()}, folder / WEIGHTS)


def log_odds(features: Doubles, weights: Doubles) -> Doubles:
    """Log-odds (...,) of features (..., f) by weights (f + 1,), of which the last is the bias."""
    return np.asarray(features @ weights[:-1] + weights[-1])


def need_features(evidence: Evidence, logits: Doubles) -> Doubles:
    """`NEED_FEATURES` of a query: log-odds of its two likeliest cultures among them."""
    best, second = np.sort(np.concatenate([logits, [-LIMIT, -LIMIT]]))[::-1][:2].clip(-LIMIT, LIMIT)
    need = evidence.features[0, FEATURES.index("need")]
    named = evidence.features[:, FEATURES.index("name")].max(initial=0.0)
    elsewhere = evidence.named_elsewhere is not None
    rivals = evidence.features[:, [FEATURES.index("rival name"), FEATURES.index("rival term")]].min(axis=0)
    placed = evidence.features[:, [FEATURES.index("location"), FEATURES.index("language")]].max(initial=0.0)
    return np.array([best, second, need, elsewhere * (named == 0), float(rivals.max()), placed])


def farthest(positions: Mapping[str, Sequence[float]], k: int) -> list[str]:
    """The k of some positions that are far apart: the pair farthest apart, then always the farthest from those taken.

    >>> farthest({"a": [0, 0], "b": [1, 0], "c": [9, 0], "d": [4, 5]}, 3)
    ['a', 'c', 'd']
    """
    names = sorted(positions)
    if not names:
        return []
    known = np.array([positions[name] for name in names], dtype=float)
    there = ~np.isnan(known)
    means = np.where(there, known, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    centred = np.where(there, known, means)
    distance = np.linalg.norm(centred[:, None] - centred[None], axis=-1)
    first = np.unravel_index(int(distance.argmax()), distance.shape)
    taken = [int(place) for place in first][: min(k, len(names))] if k > 1 else [0]
    while len(taken) < min(k, len(names)):
        nearest = distance[:, taken].min(axis=1)
        nearest[taken] = -1.0
        taken.append(int(nearest.argmax()))
    return [names[i] for i in dict.fromkeys(taken)]


def load_router(
    folder: Path | None = None, frozen: FrozenModel | None = None, lexicon: Lexicon | None = None
) -> Router:
    """A trained router; None is the one that comes with the package.

    Raises
    ------
    UserError
        The folder holds none, or one of another version, or its encoder cannot be had.
    """
    path = folder or DATA / "router"
    try:
        table: dict[str, Any] = json.loads((path / TABLE).read_text(encoding="utf-8"))
        tensors = load_file(path / WEIGHTS)
        if table["schema_version"] != SCHEMA_VERSION:
            raise UserError(
                f"router {path} has schema version {table['schema_version']!r}, not {SCHEMA_VERSION}; train it again"
            )
        pair = np.array([table["pair"][name] for name in (*FEATURES, "bias")], np.float64)
        need = np.array([table["need"][name] for name in (*NEED_FEATURES, "bias")], np.float64)
        examples = (tensors["weights"].float().numpy(), tensors["biases"].numpy().astype(np.float64))
        encoder, cultures = encoder_from(table["encoder"], frozen), tuple(table["cultures"])
        thresholds = float(table["threshold"]), float(table["need_threshold"])
        common = frozenset(table["common"])
        rows = len(cultures) + 1
        shapes = [part.shape for part in (*examples, pair, need)]
        wanted = [(rows, encoder.encode(["tea"]).shape[1]), (rows,), (len(FEATURES) + 1,), (len(NEED_FEATURES) + 1,)]
        if shapes != wanted:
            raise ValueError(f"weights of the shapes {shapes} are not {wanted}, as {len(cultures)} cultures need")
    except UserError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no router: {error}; train one with evoprompt train") from None
    return Router(encoder, lexicon or bundled_lexicon(), cultures, examples, pair, need, *thresholds, common)
