"""The experts command: `evoprompt experts list|verify|card|diff|blend|add|remove`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evoprompt.commands.start import say
from evoprompt.commands.tables import print_table
from evoprompt.errors import UserError
from evoprompt.experts.artifact import CARD, Expert
from evoprompt.experts.registry import BUNDLED, Registry
from evoprompt.surveys import DIMENSIONS

if TYPE_CHECKING:
    from evoprompt.llm import FrozenModel


def main(arguments: Sequence[str]) -> int:
    """Show or change a folder of experts. Returns the exit code: 1 if `verify` found damage."""
    given = _parser().parse_args(arguments)
    registry = Registry(given.experts, _model(given.model) if given.model else None)
    return given.run(registry, given) or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="evoprompt experts", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--experts", default=BUNDLED, help="folder of experts (default: those of the package)")
        made.set_defaults(run=run, model=None)
        return made

    command("list", _list, "All experts of a folder: culture, scores, base model; and what is left out, and why.")
    verify = command("verify", _verify, "Check files, hashes, shapes and, with --model, the base model's fingerprint.")
    verify.add_argument("--model", help="base model to check against: pocket, a folder or a name on the hub")
    command("card", _card, "Print an expert's model card.").add_argument("name")
    diff = command("diff", _diff, "What tells two experts apart: provenance, scores and prompts.")
    diff.add_argument("one")
    diff.add_argument("other")
    mixed = command("blend", _blend, "Make an expert between others, with its survey scores measured.")
    mixed.add_argument("names", nargs="+", metavar="NAME[=WEIGHT]", help="such as arab=2 usa=1")
    mixed.add_argument("--out", required=True, type=Path, help="folder of the new expert")
    mixed.add_argument("--wordings", help="wording file that the experts were evolved on, if not the bundled one")
    add = command("add", _add, "Copy an expert into the folder, verified first.")
    add.add_argument("source", type=Path)
    add.add_argument("--name")
    command("remove", _remove, "Delete an expert.").add_argument("name")
    return parser


def _list(registry: Registry, given: argparse.Namespace) -> None:
    rows = []
    for name, expert in registry.experts.items():
        base, losses = expert.provenance["base_model"]["name"], (_loss(expert, arm) for arm in ("naive", "evolved"))
        shown = expert.provenance["culture"]["name"]
        rows.append((name, shown, base, expert.placement, str(expert.tokens), *losses))
    titles = ("name", "culture", "base model", "placement", "tokens", "naive", "held out")
    print_table(titles, rows, right=(4, 5, 6))
    print(
        f"{len(registry)} experts; naive and held out: loss in points on held-out wordings without and with the prompt"
    )
    for path, reason in registry.left_out.items():
        print(f"left out: {path}: {reason}")


def _verify(registry: Registry, given: argparse.Namespace) -> int:
    for name in registry:
        print(f"good: {name}")
    for path, reason in registry.left_out.items():
        print(f"bad: {path}: {reason}")
    return 1 if registry.left_out or not registry else 0


def _card(registry: Registry, given: argparse.Namespace) -> None:
    path = registry.path(given.name) / CARD
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the card {path} cannot be read: {error}") from None
    print(text)


def _diff(registry: Registry, given: argparse.Namespace) -> None:
    one, other = (registry[name] for name in (given.one, given.other))
    mine, others = (_flat(expert.provenance) for expert in (one, other))
    found = [(key, mine.get(key, "-"), others.get(key, "-")) for key in {**mine, **others}]
    print_table(("", given.one, given.other), [row for row in found if row[1] != row[2]])
    if one.array.shape == other.array.shape:
        a, b = (expert.array.ravel().astype(np.float64) for expert in (one, other))
        distance, cosine = np.linalg.norm(a - b), a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        print(f"prompts: distance {distance:.3g}, cosine {cosine:.3f}")


def _flat(value: object, name: str = "") -> dict[str, str]:
    """Leaves of nested mappings by dotted names, numbers rounded; of arms only the evolved, held out."""
    if isinstance(value, dict):
        pairs = [_flat(part, f"{name}.{key}" if name else key) for key, part in value.items()]
        skipped = ("arms.naive", "arms.persona", "arms.icl", "arms.evolved.searched", "versions", "prompt_sha256")
        return {key: text for pair in pairs for key, text in pair.items() if not key.startswith(skipped)}
    return {name: f"{value:.3g}" if isinstance(value, float) else str(value)}


def _blend(registry: Registry, given: argparse.Namespace) -> None:
    from evoprompt.study.measured_blend import measure_blend

    names, weights = zip(*(_weighted(text) for text in given.names), strict=True)
    experts = [registry[name] for name in names]
    base = experts[0].provenance["base_model"]
    measured, linear = measure_blend(
        _model(base["name"], base["revision"]), experts, weights, given.out, given.wordings
    )
    rows = [("target", "", *(_whole(measured.culture.targets.get(d)) for d in DIMENSIONS))]
    for arm, splits in measured.arms.items():
        found = splits["held_out"]
        scores = (_whole(found["dimensions"][d]) for d in DIMENSIONS)
        rows.append(("blend" if arm == "evolved" else arm, f"{found['loss']:.1f}", *scores))
    rows.append(("mean of the experts", "", *(_whole(linear[d]) for d in DIMENSIONS)))
    print_table(("held-out wordings", "loss", *DIMENSIONS), rows, right=range(1, 2 + len(DIMENSIONS)))
    print(f"expert  {given.out}")
    own, naive = (measured.arms[arm]["held_out"]["loss"] for arm in ("evolved", "naive"))
    if own >= naive:
        say(f"no prompt is nearer to the target than this blend: {naive:.1f} points")


def _weighted(text: str) -> tuple[str, float]:
    name, equals, weight = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError:
        raise UserError(f"{text!r} is no expert with a weight; write it like arab=2") from None


def _model(name: str, revision: str | None = None) -> FrozenModel:
    from evoprompt.llm import ModelSpec, load_model  # takes seconds, and most of the commands have no use for it

    return load_model(ModelSpec(name=name, revision=revision))


def _add(registry: Registry, given: argparse.Namespace) -> None:
    print(f"added: {registry.add(given.source, given.name)}")


def _remove(registry: Registry, given: argparse.Namespace) -> None:
    registry.remove(given.name)
    print(f"removed: {given.name}")


def _loss(expert: Expert, arm: str) -> str:
    loss = expert.measured(arm).get("loss")
    return "-" if loss is None else f"{loss:.1f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
