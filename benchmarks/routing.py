"""Routers on held-out queries, and the price of a committee's answer.

`python -m benchmarks.routing quality` compares encoders with simple baselines; `python -m benchmarks.routing latency`
times routing, and committees of 1, 3 and 5 against one direct answer (`--device cuda --shapes 8b` for a GPU).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.result_file import ResultFile, remarks
from benchmarks.routing_figures import routing_figures
from benchmarks.throughput_models import build
from evoprompt.llm import FrozenModel, ModelSpec, load_model
from evoprompt.llm.speak.decoding import Decoder, Sampling, Stream, decode
from evoprompt.llm.write.conversation import make_context
from evoprompt.routing import Query, Router, bundled_queries, load_queries, load_router
from evoprompt.routing.encoders import TfidfEncoder, make_encoder
from evoprompt.routing.lexicon import bundled_lexicon
from evoprompt.routing.queries import UNSPECIFIC
from evoprompt.routing.training import train
from evoprompt.surveys import committee, cultures

HERE = Path(__file__).parent
HELD_OUT, DEVELOPMENT = (HERE / "data" / f"routing_{name}.jsonl" for name in ("held_out", "development"))
KEYS = tuple(culture.key for culture in committee())
MOST = 4  # cultures chosen for a query: some of the labelled ones are about four
EXPERTS = 200  # among whom a query is routed when that is timed
PLAIN = "transformers generate"
QUESTION = "What should I bring when I am invited to dinner, and how do I greet my host?"

Floats = NDArray[np.float64]


class Verdicts(NamedTuple):
    """Of n queries over c cultures: probabilities and choices (n, c), and how likely experts are needed (n,)."""

    probabilities: Floats
    chosen: NDArray[np.bool_]
    needs: Floats


def by_router(router: Router, queries: Sequence[Query], most: int = MOST) -> Verdicts:
    """What one of ours says."""
    found = [router.route(query.text, query.profile, KEYS, most) for query in queries]
    ranked = [{choice.culture: choice.probability for choice in route.ranked} for route in found]
    chosen = [{choice.culture for choice in route.chosen} for route in found]
    return Verdicts(
        np.array([[one[key] for key in KEYS] for one in ranked]),
        np.array([[key in one for key in KEYS] for one in chosen]),
        np.array([route.needs_experts for route in found]),
    )


def by_keywords(queries: Sequence[Query]) -> Verdicts:
    """Cultures that a word of the lexicon names, sharing what they have."""
    lexicon, rows = bundled_lexicon(), []
    for query in queries:
        hits = [hit for hit in lexicon.hits(query.text) if hit.kind in ("name", "term")]
        places = lexicon.of_place(query.profile.location) if query.profile.location else []
        rows.append([float(any(hit.culture == key for hit in hits) or (not hits and key in places)) for key in KEYS])
    found = np.array(rows)
    return Verdicts(found, found > 0, found.max(axis=1))


def by_centroids(queries: Sequence[Query], examples: Sequence[Query]) -> Verdicts:
    """Cosine to the mean example of each culture, above that to the mean of those about none."""
    encoder = TfidfEncoder()
    encoder.fit([query.text for query in examples])
    vectors = encoder.encode([query.text for query in examples])
    members = [[key in query.cultures for query in examples] for key in KEYS]
    members.append([not query.cultural for query in examples])
    centroids = np.concatenate([np.asarray(vectors[np.array(mine)].mean(axis=0)) for mine in members])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)

    def above(texts: Sequence[str]) -> Floats:
        scores = np.asarray(encoder.encode(texts) @ centroids.T)
        return np.asarray(scores[:, :-1] - scores[:, -1:], dtype=float)

    return _cut(above([query.text for query in queries]), above)


def by_semantic_router(queries: Sequence[Query], examples: Sequence[Query]) -> Verdicts:
    """The package semantic-router with a route for each culture, over the same vectors, made dense."""
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder
    from sklearn.decomposition import TruncatedSVD

    tfidf = TfidfEncoder()
    tfidf.fit([query.text for query in examples])
    reduced = TruncatedSVD(256, random_state=0).fit(tfidf.encode([query.text for query in examples]))

    class Dense(DenseEncoder):
        name: str = "tfidf-svd"

        def __call__(self, docs: list[str]) -> list[list[float]]:
            found = reduced.transform(tfidf.encode(docs))
            return list((found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)).tolist())

    of = {key: [query.text for query in examples if key in query.cultures] for key in KEYS}
    of["none"] = [query.text for query in examples if not query.cultural]
    routes = [Route(name=name, utterances=texts) for name, texts in of.items()]
    router = IndexedRouter(Dense(), routes, top_k=10, aggregation="mean")

    def above(texts: Sequence[str]) -> Floats:
        rows = []
        for text in texts:
            found = {choice.name: choice.confidence or 0.0 for choice in router(text, limit=None, threshold=-1.0)}
            rows.append([found.get(key, 0.0) - found.get("none", 0.0) for key in KEYS])
        return np.array(rows)

    return _cut(above([query.text for query in queries]), above)


def _cut(scores: Floats, above: Callable[[Sequence[str]], Floats]) -> Verdicts:
    """Choices by the cut that is best on the development queries, which are no examples."""
    queries = load_queries(DEVELOPMENT)
    known = above([query.text for query in queries])
    labels = np.array([[key in query.cultures for key in KEYS] for query in queries])

    def f1(cut: float) -> float:
        chosen = known >= cut
        return float(2 * (chosen & labels).sum() / max(1, chosen.sum() + labels.sum()))

    cut = max(np.quantile(known, np.linspace(0.5, 0.999, 400)), key=f1)
    chance = 1 / (1 + np.exp(-(scores - cut) * 10))
    return Verdicts(chance, scores >= cut, chance.max(axis=1))


def judged(verdicts: Verdicts, queries: Sequence[Query]) -> dict[str, float]:
    """The figures of a router on labelled queries, and F1 by kind."""
    labels = np.array([[key in query.cultures for key in KEYS] for query in queries])
    needed = np.array([query.needs_experts for query in queries])
    specific = np.array([query.kind != UNSPECIFIC for query in queries])
    found = routing_figures(labels, verdicts.probabilities, verdicts.chosen, needed, verdicts.needs, specific)
    row = dict(found.__dict__)
    for kind in dict.fromkeys(query.kind for query in queries):
        mine = np.array([query.kind == kind for query in queries])
        if labels[mine].any():
            right = (labels & verdicts.chosen)[mine].sum()
            row[f"f1 {kind}"] = float(2 * right / (labels[mine].sum() + verdicts.chosen[mine].sum()))
        elif kind != UNSPECIFIC:
            row[f"kept from experts, {kind}"] = float(1 - verdicts.chosen[mine].any(axis=1).mean())
    return row


def quality(options: argparse.Namespace) -> pd.DataFrame:
    """A row for each router."""
    queries, examples = load_queries(options.queries), bundled_queries()
    arms: dict[str, Callable[[], Verdicts]] = {
        "ours, tfidf (default)": lambda: by_router(load_router(), queries),
        "ours, hidden states of pocket": lambda: by_router(
            _trained("hidden", examples, load_model(ModelSpec())), queries
        ),
        "ours, tfidf, three cultures at most": lambda: by_router(load_router(), queries, 3),
        "keywords of the lexicon": lambda: by_keywords(queries),
        "nearest centroid, tfidf": lambda: by_centroids(queries, examples),
        "semantic-router, tfidf reduced to 256": lambda: by_semantic_router(queries, examples),
    }
    if options.encoder_model:
        make = partial(make_encoder, "sentence-transformers", options.encoder_model)
        arms[f"ours, {options.encoder_model}"] = lambda: by_router(train(examples, make, bundled_lexicon())[0], queries)
    rows = []
    for name, arm in arms.items():
        if options.only and options.only not in name:
            continue
        try:
            began = time.perf_counter()
            verdicts = arm()
            seconds = time.perf_counter() - began
        except ImportError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
            continue
        rows.append({"router": name, **judged(verdicts, queries), "seconds": seconds})
    return pd.DataFrame(rows)


def _trained(kind: str, examples: Sequence[Query], frozen: FrozenModel | None = None) -> Router:
    encoder = make_encoder(kind, None, frozen)  # one for all folds: it is not trained
    return train(examples, lambda: encoder, bundled_lexicon())[0]


def routing_milliseconds(queries: Sequence[Query]) -> tuple[float, float]:
    """Median and 95th percentile of routing a query among 200 experts, by this thread's CPU time."""
    router = load_router()
    known = (*KEYS, *(key for key in cultures() if key not in KEYS))
    keys = tuple(dict.fromkeys([*known, *(f"custom {i}" for i in range(EXPERTS))]))[:EXPERTS]
    times = []
    for query in queries:
        began = time.thread_time()
        router.route(query.text, query.profile, keys)
        times.append(1000 * (time.thread_time() - began))
    return float(np.median(times)), float(np.quantile(times, 0.95))


def latency(options: argparse.Namespace) -> pd.DataFrame:
    """Seconds of committees, each with the direct answer beside it in every round."""
    rows = []
    for shape in options.shapes.split(","):
        frozen = build(shape, options.device)
        arms = _arms(frozen, options.tokens, Sampling(options.answer))
        times: dict[str, list[float]] = {name: [] for name in (PLAIN, *arms)}
        for round_ in range(options.rounds + 1):
            seconds = _generate(frozen, options.answer)
            if round_:
                times[PLAIN].append(seconds)
            for name, stages in arms.items():
                began = time.perf_counter()
                for stage in stages:
                    _run(frozen, [Stream(*parts) for parts in stage])
                if round_:  # the first one warms up
                    times[name].append(time.perf_counter() - began)
        direct = np.array(times["direct"])
        for name, found in times.items():
            ratios = np.array(found) / direct
            row = {"model": shape, "device": options.device, "arm": name, "tokens": options.answer}
            row |= {"seconds": float(np.median(found)), "ratio": float(np.median(ratios))}
            rows.append(row | {"least": float(ratios.min()), "most": float(ratios.max())})
    return pd.DataFrame(rows)


def _generate(frozen: FrozenModel, answer: int) -> float:
    """Seconds of a direct answer by the model's own `generate`."""
    bare = make_context(frozen, [{"role": "user", "content": QUESTION}]).embedded(frozen)[None]
    ones = torch.ones(bare.shape[:2], dtype=torch.long, device=bare.device)
    began = time.perf_counter()
    frozen.model.generate(
        inputs_embeds=bare, attention_mask=ones, do_sample=False, min_new_tokens=answer, max_new_tokens=answer
    )
    if frozen.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


Parts = tuple[list[torch.Tensor], list[float], Sampling]


def _arms(frozen: FrozenModel, tokens: int, sampling: Sampling) -> dict[str, list[list[Parts]]]:
    """What is decoded, stage after stage: a direct answer, and each composition of 1, 3 and 5 experts."""
    generator = torch.Generator().manual_seed(0)
    mean, spread = frozen.embedding_statistics
    context = make_context(frozen, [{"role": "user", "content": QUESTION}])
    bare = context.embedded(frozen)
    voiced = [
        context.embedded(frozen, mean + spread * torch.randn(tokens, frozen.hidden, generator=generator))
        for _ in range(5)
    ]
    arms: dict[str, list[list[Parts]]] = {"direct": [[([bare], [1.0], sampling)]]}
    for k in (1, 3, 5):
        panel: list[Parts] = [([row], [1.0], sampling) for row in voiced[:k]]
        merging = torch.cat([bare] * (1 + k))  # about as long as a question with k answers
        arms[f"mixture {k}"] = [[(voiced[:k], [1.0] * k, sampling)]]
        arms[f"panel {k}"] = [panel]
        if k > 1:  # one voice alone has nothing to be merged with
            arms[f"synthesis {k}"] = [panel, [([merging], [1.0], sampling)]]
    return arms


def _run(frozen: FrozenModel, streams: Sequence[Stream]) -> None:
    """Every stream to its full length: an end token is a token like any other here."""
    decoder = Decoder(frozen)
    decoder._ends = set()
    decode(decoder, streams)
    if frozen.device.type == "cuda":
        torch.cuda.synchronize()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    of_quality = commands.add_parser("quality")
    of_quality.add_argument("--queries", type=Path, default=HELD_OUT)
    of_quality.add_argument("--encoder-model", help="a sentence-transformers model to compare")
    of_quality.add_argument("--only", help="only routers with this in their name")
    of_quality.add_argument("--out", type=Path, default=HERE / "results" / "routing_quality.csv")
    of_latency = commands.add_parser("latency")
    of_latency.add_argument("--shapes", default="pocket,135m")
    of_latency.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    of_latency.add_argument("--rounds", type=int, default=7)
    of_latency.add_argument("--tokens", type=int, default=4, help="soft tokens of an expert")
    of_latency.add_argument("--answer", type=int, default=48, help="tokens of an answer")
    of_latency.add_argument("--out", type=Path, default=HERE / "results" / "routing_latency.csv")
    options = parser.parse_args(arguments)
    table = quality(options) if options.what == "quality" else latency(options)
    shown = markdown(table)
    if options.what == "latency":
        median, late = routing_milliseconds(load_queries(HELD_OUT))
        shown += (
            f"\nrouting a query among {EXPERTS} experts: median {median:.1f} ms, 95 % within {late:.1f} ms of CPU\n"
        )
    print(shown)
    options.out.unlink(missing_ok=True)
    file = ResultFile(options.out, list(table.columns), list(table.columns[:3]))
    for row in table.to_dict("records"):
        file.add({str(key): value for key, value in row.items()})
    options.out.with_suffix(".md").write_text(f"{shown}\n{remarks(options.out)}", encoding="utf-8")


def markdown(table: pd.DataFrame) -> str:
    """A table of texts and rounded numbers."""
    heads = [str(name) for name in table.columns]
    lines = [heads, ["---"] * len(heads)]
    lines += [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.to_numpy()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    main()
