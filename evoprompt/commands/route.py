"""The route command: `evoprompt route [--experts DIR] "How do I greet my host?"`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from evoprompt.checks import real_number, whole_number
from evoprompt.commands.tables import print_table
from evoprompt.errors import UserError
from evoprompt.experts import BUNDLED, Registry
from evoprompt.llm import ModelSpec, load_model
from evoprompt.llm.speak.decoding import Sampling
from evoprompt.routing import COMPOSITIONS, Committee, Opinion, Profile, Route, Voice, load_router
from evoprompt.surveys.quality import LABEL_MASS_LIMIT, percent

POCKET_NOTE = "the pocket model is a simulator: what it says is no advice and nothing about people"


def main(arguments: Sequence[str]) -> int:
    """Ask the committee. Returns the exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    _require_text(given)
    committee = open_committee(given)
    profile = Profile(given.location, given.language)
    voices = [committee.voice(given.expert)] if given.expert else None
    if given.options:
        _print_opinion(committee.opinion(given.query, given.options.split("|"), profile, voices), given)
    else:
        _answer(committee, given, profile, voices)
    if committee.frozen.spec.name == "pocket" and not given.json:
        print(f"\n({POCKET_NOTE})")
    return 0


def _require_text(given: argparse.Namespace) -> None:
    """Refuse bytes that are no UTF-8, which Python hands over as half surrogate pairs: no tokenizer takes these.

    A distribution over options is always a mixture.
    """
    if given.options and given.compose != "mixture":
        raise UserError(f"--compose {given.compose} is about answers in words; leave it or --options out")
    for name in ("query", "location", "language", "options"):
        try:
            (getattr(given, name) or "").encode()
        except UnicodeEncodeError:
            raise UserError(f"{name} {getattr(given, name)!r} is not UTF-8 text") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evoprompt route", description="Ask a committee of cultural experts; says who answered and why."
    )
    parser.add_argument("query")
    add_committee_arguments(parser)
    parser.add_argument("--expert", help="ask this expert, or base, whoever knows the culture")
    parser.add_argument("--compose", choices=COMPOSITIONS, default="mixture", help="how answers become one")
    parser.add_argument("--location", help="where the user is, such as Nairobi")
    parser.add_argument("--language", help="the user's language, such as sw")
    parser.add_argument("--options", help="ask for a distribution over options, written 'yes|no|it depends'")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 (default): the likeliest words")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def add_committee_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which committee: also those of `evoprompt.serve`."""
    parser.add_argument("--experts", default=BUNDLED, help="folder of experts (default: the 20 of the package)")
    parser.add_argument("--model", help="base model: pocket, a folder or a hub name (default: the experts' own)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the model")
    parser.add_argument("--router", type=Path, help="folder of a trained router (default: the bundled one)")
    parser.add_argument("-k", type=int, default=3, help="most experts of one answer")


def open_committee(given: argparse.Namespace) -> Committee:
    """The committee that the arguments describe; what is left out of the folder is said on standard error."""
    whole_number("-k", given.k, 1)
    name, revision = (given.model, None) if given.model else _base_of(Registry(given.experts))
    frozen = load_model(
        ModelSpec(name=name, revision=revision, device=given.device, dtype=given.dtype, threads=given.threads)
    )
    registry = Registry(given.experts, frozen)
    for path, reason in registry.left_out.items():
        print(f"left out: {path}: {reason}", file=sys.stderr)
    return Committee(frozen, registry, load_router(given.router, frozen), given.k)


def _base_of(registry: Registry) -> tuple[str, str | None]:
    """The base model of most experts."""
    bases = [expert.provenance["base_model"] for expert in registry.experts.values()]
    if not bases:
        reason = next(iter(registry.left_out.values()), "there is no expert.json below it")
        raise UserError(f"{registry.folder} has no expert that can be asked: {reason}")
    found = [(base["name"], base["revision"]) for base in bases]
    return max(found, key=found.count)


def _answer(committee: Committee, given: argparse.Namespace, profile: Profile, voices: list[Voice] | None) -> None:
    """Say who speaks, then the answer word for word as it comes."""
    route, chosen = (None, tuple(voices)) if voices else committee.route(given.query, profile)
    sampling = Sampling(
        whole_number("--max-tokens", given.max_tokens, 1),
        real_number("--temperature", given.temperature, 0, 2),
        seed=whole_number("--seed", given.seed, 0),
    )
    if given.json:
        said = committee.answer(given.query, given.compose, profile, chosen, sampling)
        found = {"answer": said.text, "composition": given.compose, "panel": said.panel, **shown_route(route, chosen)}
        print(json.dumps({"query": given.query, "model": committee.frozen.spec.name, **found}, ensure_ascii=False))
        return
    _print_route(route, chosen)
    committee.answer(given.query, given.compose, profile, chosen, sampling, partial(print, end="", flush=True))
    print()


def shown_route(route: Route | None, voices: Sequence[Voice]) -> dict[str, Any]:
    """Who speaks and why, as JSON has it."""
    found: dict[str, Any] = {
        "voices": [{"name": voice.name, "culture": voice.culture, "weight": voice.weight} for voice in voices]
    }
    if route is not None:
        found["route"] = {
            "reason": route.reason,
            "needs_experts": route.needs_experts,
            "spread": route.spread,
            "ranked": [asdict(claim) for claim in route.ranked[:10]],
        }
    return found


def _print_route(route: Route | None, voices: Sequence[Voice]) -> None:
    rows = []
    reasons = {} if route is None else {claim.culture: claim for claim in route.chosen}
    for voice in voices:
        claim = reasons.get(str(voice.culture))
        because = "it was asked for" if route is None else route.reason
        if claim is not None and route is not None and not route.spread:
            because = f"{', '.join(claim.reasons)} (probability {claim.probability:.2f})"
        rows.append((voice.label, f"{voice.weight:.0%}", because))
    print_table(("speaks", "share", "because"), rows, right=(1,))
    print()


def _print_opinion(opinion: Opinion, given: argparse.Namespace) -> None:
    if given.json:
        shares = dict(zip(opinion.options, opinion.shares.tolist(), strict=True))
        voiced = {
            name: dict(zip(opinion.options, found.tolist(), strict=True)) for name, found in opinion.by_voice.items()
        }
        found = {"query": given.query, "shares": shares, "by_voice": voiced, "label_mass": dict(opinion.label_mass)}
        print(json.dumps({**found, **shown_route(opinion.route, opinion.voices)}, ensure_ascii=False))
        return
    _print_route(opinion.route, opinion.voices)
    columns = [opinion.shares, *(opinion.by_voice[voice.name] for voice in opinion.voices)]
    rows = [(option, *(f"{shares[i]:.0%}" for shares in columns)) for i, option in enumerate(opinion.options)]
    titles = ("answer", "together", *(voice.label for voice in opinion.voices))
    print_table(titles, rows, right=range(1, len(titles)))
    least = min(opinion.label_mass.values())
    if least < LABEL_MASS_LIMIT:
        print(
            f"\nthe model hardly answers with an option at all: the labels have {percent(least)} of its words, and "
            "these are shares of that"
        )
