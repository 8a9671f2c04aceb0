"""The train command: `evoprompt train --queries queries.jsonl --out FOLDER`, a router of your own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from evoprompt.errors import UserError
from evoprompt.llm import ModelSpec, load_model
from evoprompt.routing.encoders import ENCODERS, make_encoder
from evoprompt.routing.lexicon import bundled_lexicon, load_lexicon
from evoprompt.routing.queries import bundled_queries, load_queries
from evoprompt.routing.training import train


def main(arguments: Sequence[str]) -> int:
    """Fit a router and write it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="evoprompt train", description="Train a router on your own queries.")
    parser.add_argument(
        "--queries",
        type=Path,
        action="append",
        help='JSON lines {"query": ..., "cultures": [...]}; may be given again (default: the bundled ones)',
    )
    parser.add_argument("--bundled", action="store_true", help="use the bundled queries beside one's own")
    parser.add_argument("--lexicon", type=Path, help="YAML of names and terms (default: the bundled one)")
    parser.add_argument("--encoder", default="tfidf", choices=ENCODERS)
    parser.add_argument("--encoder-model", help="of sentence-transformers: a name or folder")
    parser.add_argument("--model", default="pocket", help="base model whose states --encoder hidden reads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the router")
    given = parser.parse_args(arguments)
    if given.out.exists() and not given.out.is_dir():
        raise UserError(f"--out {given.out} is a file; give a folder")
    queries = [query for path in given.queries or () for query in load_queries(path)]
    if given.bundled or not queries:
        queries += bundled_queries()
    frozen = load_model(ModelSpec(name=given.model)) if given.encoder == "hidden" else None
    make = partial(make_encoder, given.encoder, given.encoder_model, frozen)
    lexicon = load_lexicon(given.lexicon) if given.lexicon else bundled_lexicon()
    router, figures = train(queries, make, lexicon, given.seed)
    try:
        router.save(given.out)
    except OSError as error:
        raise UserError(f"--out {given.out} cannot be written: {error}") from None
    print(f"{len(router.cultures)} cultures, {len(queries)} queries; cross-validated F1 {figures['f1']:.3f}")
    print(f"chosen from probability {router.threshold:.2f}, experts asked from {router.need_threshold:.2f}")
    print(f"router  {given.out}")
    return 0
