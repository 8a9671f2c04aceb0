"""Training a router: example queries -> weights, with probabilities calibrated on queries that were left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold

from evoprompt.errors import UserError
from evoprompt.routing.encoders import Encoder, Vectors
from evoprompt.routing.lexicon import Lexicon
from evoprompt.routing.queries import UNSPECIFIC, Query
from evoprompt.routing.router import Router, log_odds, need_features
from evoprompt.routing.signals import FEATURES, Evidence, Profile, find_evidence
from evoprompt.routing.text import words
from evoprompt.typing import Bools, Doubles, Indices

FOLDS = 5
HIDDEN = 0.35  # share of a culture's terms that are taken for unknown in a second look at the training queries
THRESHOLDS = np.arange(0.1, 0.9, 0.02)
PLACED = 2  # users from known places who ask each unspecific question
FEWEST = 5  # examples of a culture without which it is not learnt
REGULARISATION = 10.0  # inverse strength, of the weights on encoded queries


def train(
    queries: Sequence[Query], make: Callable[[], Encoder], lexicon: Lexicon, seed: int = 0
) -> tuple[Router, dict[str, float]]:
    """Fit a router.

    The log-odds by examples that the second model learns to weigh come from folds in which the query was left out. It
    sees every query twice, once with some of the lexicon's terms hidden: real users know words that no lexicon has.

    Parameters
    ----------
    queries
        Examples of each culture and of none.
    make
        A fresh encoder, called for each fold and once more for all queries.
    lexicon
        Names and terms.
    seed
        Of the folds and of what is hidden.

    Returns
    -------
    tuple
        The router, and figures of its cross-validation.

    Raises
    ------
    UserError
        No culture has enough examples, or too few queries are about none, or the encoder can learn nothing from them.
    """
    rng = np.random.default_rng(seed)
    queries = [*queries, *_placed(queries, lexicon, rng)]
    counts = Counter(culture for query in queries for culture in query.cultures)
    cultures = tuple(sorted(culture for culture, count in counts.items() if count >= FEWEST))
    plain = sum(not query.cultural for query in queries)
    if not cultures or plain < FEWEST:
        raise UserError(
            f"training needs a culture with {FEWEST} queries and {FEWEST} queries about none; there are "
            f"{dict(counts)} and {plain}"
        )
    texts = [query.text for query in queries]
    labels = np.array([[*(c in q.cultures for c in cultures), q.cultural] for q in queries], dtype=np.int64)
    scores = np.zeros(labels.shape)
    for fitted, left_out in _folds(queries, labels, seed):
        encoder = _fitted(make, [texts[i] for i in fitted])
        weights, biases = _examples(encoder.encode([texts[i] for i in fitted]), labels[fitted])
        scores[left_out] = encoder.encode([texts[i] for i in left_out]) @ weights.T + biases
    # Words of queries that tell no culture are no misspelt names.
    common = frozenset(word for query in queries if not query.cultures for word in words(query.text) if word.isascii())
    terms = sorted({" ".join(words(str(t))) for lists in lexicon.entries.values() for t in lists.get("terms", ())})
    looks = [
        [
            find_evidence(query.text, query.profile, cultures, lexicon, row[:-1], row[-1], common, hidden)
            for query, row in zip(queries, scores, strict=True)
        ]
        for hidden in (frozenset(), frozenset(term for term in terms if rng.random() < HIDDEN))
    ]
    pair = _pair(looks, labels[:, :-1])
    seen = [[log_odds(evidence.features, pair) for evidence in look] for look in looks]
    rows = [[*map(need_features, look, odds)] for look, odds in zip(looks, seen, strict=True)]
    needed = np.array([query.needs_experts for query in queries])
    need = _fitted_weights(np.concatenate(rows), np.tile(needed, len(looks)))
    encoder = _fitted(make, texts)
    examples = _examples(encoder.encode(texts), labels)
    threshold, score = _best_threshold(expit(seen[1]), labels[:, :-1], queries)
    asked = expit(log_odds(np.array(rows[1]), need))
    need_threshold = round(float(max(THRESHOLDS, key=lambda at: ((asked >= at) == needed).mean())), 2)
    router = Router(encoder, lexicon, cultures, examples, pair, need, threshold, need_threshold, common)
    return router, {"f1": score, "threshold": threshold, "need_threshold": need_threshold, "queries": len(queries)}


def _placed(queries: Sequence[Query], lexicon: Lexicon, rng: np.random.Generator) -> list[Query]:
    """Queries that tell no culture, once more from users in known places, whose culture they need if they need any."""
    known = sorted({culture for query in queries for culture in query.cultures} & {*lexicon.entries})
    placed = []
    for query in queries:
        if (query.kind != UNSPECIFIC and (query.cultural or rng.random() > 0.3)) or not known:
            continue
        for culture in rng.choice(known, size=PLACED if query.cultural else 1):
            lists = lexicon.entries[str(culture)]
            place = str(rng.choice(list(lists.get("places", ())) or [str(culture)]))
            codes = [code for code in lists.get("codes", ()) if code.islower()]
            language = str(rng.choice(codes)) if codes else None
            known_of_user = (Profile(place), Profile(place, language), Profile(None, language))
            profile = known_of_user[int(rng.integers(len(known_of_user) if language else 1))]
            label = frozenset([str(culture)]) if query.cultural else frozenset()
            placed.append(Query(query.text, label, "profile" if query.cultural else query.kind, profile))
    return placed


def _folds(queries: Sequence[Query], labels: Indices, seed: int) -> list[tuple[Indices, Indices]]:
    """What is fitted and what is left out, by kinds; where this leaves a label without examples, by cultures."""
    cultures = [min(query.cultures, default="none") for query in queries]
    kinds = [query.kind or culture for query, culture in zip(queries, cultures, strict=True)]
    for strata in (kinds, cultures):
        counts = Counter(strata)
        commonest = max(counts, key=lambda stratum: counts[stratum])
        spread = [stratum if counts[stratum] >= FOLDS else commonest for stratum in strata]
        folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(spread, spread))
        shares = np.array([labels[fitted].mean(axis=0) for fitted, _ in folds])
        if shares.min() > 0 and shares.max() < 1:
            return folds
    raise UserError(f"the {len(queries)} queries cannot be parted so that each part has every culture; give more")


def _fitted(make: Callable[[], Encoder], texts: Sequence[str]) -> Encoder:
    encoder = make()
    try:
        encoder.fit(texts)
    except ValueError as error:  # such as no word at all
        raise UserError(f"the encoder can learn nothing from these queries: {error}") from None
    return encoder


def _examples(encoded: Vectors, labels: Indices) -> tuple[Doubles, Doubles]:
    """Weights (c + 1, d) and biases (c + 1,) of a logistic regression for each column."""
    models = [
        LogisticRegression(C=REGULARISATION, class_weight="balanced", solver="liblinear").fit(encoded, column)
        for column in labels.T
    ]
    return np.concatenate([model.coef_ for model in models]), np.concatenate([model.intercept_ for model in models])


def _pair(looks: Sequence[Sequence[Evidence]], labels: Indices) -> Doubles:
    features = np.concatenate([evidence.features for look in looks for evidence in look])
    wanted = np.concatenate([labels.ravel()] * len(looks))
    rng = np.random.default_rng(0)
    unseen = features.copy()  # every pair once more as if the culture had no examples
    unseen[:, FEATURES.index("examples")], unseen[:, FEATURES.index("unseen")] = 0.0, 1.0
    some = rng.random(len(unseen)) < 0.25
    return _fitted_weights(np.concatenate([features, unseen[some]]), np.concatenate([wanted, wanted[some]]))


def _fitted_weights(features: Doubles, wanted: Indices | Bools) -> Doubles:
    model = LogisticRegression(C=1.0, max_iter=2000).fit(features, wanted)
    return np.append(model.coef_[0], model.intercept_[0])


def _best_threshold(chance: Doubles, labels: Indices, queries: Sequence[Query]) -> tuple[float, float]:
    """The probability from which cultures are chosen that gives the best micro-averaged F1."""
    specific = np.array([query.kind != UNSPECIFIC for query in queries])
    found = [
        (float(f1_score(labels[specific], chance[specific] >= at, average="micro", zero_division=0)), -float(at))
        for at in THRESHOLDS
    ]
    score, at = max(found)
    return round(-at, 2), score
