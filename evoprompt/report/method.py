"""The method of a run in words: all that tells methods apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHOD = ("model", "optimizer", "space", "placement", "respondent", "settings")
NO_METHOD = ("culture", "seed", "report", "executor", "resume", "hydra")  # whose, which repeat, where and how computed

Metrics = Mapping[str, Any]


def method_words(metrics: Metrics, config: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """For each of `METHOD` its name and the options that it was used with; `settings` are nameless: all other keys.

    Runs with the same words differ in the keys of `NO_METHOD` only. The variant of an optimizer is told also where its
    own name chose it, a seed or the size of a space in coordinates never.

    >>> metrics = {"model": "m", "optimizer": {"name": "de", "variant": "jso"}, "respondent": "sampled"}
    >>> metrics["space_options"] = {"kind": "full", "tokens": 2, "coordinates": 128}
    >>> config = {"optimizer": {"name": "jso", "popsize": 8}, "respondent": {"samples": 3, "seed": 0}, "budget": 9}
    >>> for words in method_words(metrics, config):
    ...     print(words)
    ('m',)
    ('de', 'popsize=8', 'variant=jso')
    ('full', 'tokens=2')
    ('–',)
    ('sampled', 'samples=3')
    ('', 'budget=9')
    """
    found, given, (kind, space) = metrics["optimizer"], config.get("optimizer"), _space(metrics, config)
    optimizer = dict(given) if isinstance(given, Mapping) else {}
    optimizer["variant"] = optimizer.get("variant") or found.get("variant")
    others = {key: value for key, value in config.items() if key not in (*METHOD, *NO_METHOD)}
    return (
        (str(metrics.get("model") or "–"), *_words(config.get("model"))),
        (str(found.get("name") or "–"), *_words(optimizer)),
        (kind, *_words({key: value for key, value in space.items() if key != "coordinates"})),
        (str(metrics.get("placement") or "–"),),
        (respondent_kind(metrics), *_words(config.get("respondent"))),
        ("", *(word.removeprefix("survey.") for word in _words(others))),
    )


def respondent_kind(metrics: Metrics) -> str:
    """`options` or `sampled`."""
    return str(metrics.get("respondent") or "options")


def space_fact(metrics: Metrics, config: Mapping[str, Any]) -> str:
    """The space in a line: kind, size and where it starts.

    >>> options = {"tokens": 2, "coordinates": 128, "init_text": "Answer:"}
    >>> space_fact({"space": "full", "space_options": options}, {})
    'full space: 2 tokens, 128 coordinates, from the text “Answer:”'
    """
    kind, options = _space(metrics, config)
    sizes = [f"{options[key]} {key}" for key in ("tokens", "coordinates") if options.get(key) is not None]
    starts = {"init_text": "from the text “{}”", "init_expert": "from the expert {}"}
    sizes += [words.format(options[key]) for key, words in starts.items() if options.get(key)]
    return f"{kind} space" + (f": {', '.join(sizes)}" if sizes else "")


def _space(metrics: Metrics, config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The kind and the options of the space as the run recorded them, else as it was configured."""
    found = metrics.get("space_options") or config.get("space")
    options = found if isinstance(found, Mapping) else {}
    return str(metrics.get("space") or options.get("kind") or "unnamed"), options


def flattened(options: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Every value by its dotted key, as the command line names it.

    >>> flattened({"budget": 9, "survey": {"examples": 6, "confirm": {}}})
    {'budget': 9, 'survey.examples': 6, 'survey.confirm': {}}
    """
    found: dict[str, Any] = {}
    for key, value in options.items():
        nested = isinstance(value, Mapping) and value
        found |= flattened(value, f"{above}{key}.") if nested else {f"{above}{key}": value}
    return found


def _words(options: Any) -> list[str]:
    """`key=value` for each option but the name, the seed, and those that are not set."""
    known = flattened(options) if isinstance(options, Mapping) else {}
    return [
        f"{key}={known[key]}" for key in sorted(known) if known[key] is not None and key not in ("kind", "name", "seed")
    ]
