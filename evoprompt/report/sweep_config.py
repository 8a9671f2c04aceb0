"""What the runs of a sweep were made with: what they share, and what they differ in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from evoprompt.report.elements import section, table
from evoprompt.report.sweep_rows import Row

SHOWN_VALUES = 12  # of a key
SHOWN_KEYS = 12  # more are folded


def configuration(rows: Sequence[Row]) -> str:
    """The section with the configuration and the versions."""
    settings, differing = compared([row.config for row in rows])
    made_with, found = compared([row.made_with for row in rows])
    lines = [("", [escape(key), _values(values)]) for key, values in (differing | found).items()]
    everything = "\n".join(f"{key}: {value}" for key, value in settings.items())
    shared = [("", [escape(key), escape(value)]) for key, value in made_with.items()]
    runs = "the run" if len(rows) == 1 else f"all {len(rows)} runs"
    content = _card("What the runs differ in", table("", ("key", "values"), lines, kind="left"), len(lines))
    content += _card(f"config.yaml: what {runs} share", f"<pre>{escape(everything)}</pre>", len(settings))
    content += _card(f"Made with: what {runs} share", table("", (), shared, kind="left"), len(shared))
    return section(
        "configuration",
        "Configuration and versions",
        "Keys as the command line names them. The whole configuration of a run is in the <code>config.yaml</code> of "
        "its folder, what it was run with in its <code>run.json</code>.",
        content,
    )


def compared(runs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, Counter[str]]]:
    """What all runs have alike, by key, and of every other key how many runs have which value.

    >>> compared([{"budget": 9, "seed": 0}, {"budget": 9, "seed": 1}])
    ({'budget': '9'}, {'seed': Counter({'0': 1, '1': 1})})
    """
    keys = dict.fromkeys(key for run in runs for key in run)
    counts = {key: Counter(_text(run[key]) if key in run else "not set" for run in runs) for key in keys}
    shared = {key: next(iter(values)) for key, values in counts.items() if len(values) == 1}
    return shared, {key: values for key, values in counts.items() if key not in shared}


def _text(value: Any) -> str:
    """A value in one line, as YAML reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _values(values: Counter[str]) -> str:
    """Each value with how many runs have it, the commonest first."""
    said = [f"{escape(value)} <small>×\u202f{count}</small>" for value, count in values.most_common()]
    left = len(said) - SHOWN_VALUES
    return ", ".join([*said[:SHOWN_VALUES], *([f"and {left} more"] if left > 0 else [])])


def _card(title: str, content: str, size: int) -> str:
    """A part of the section, folded where it is long; nothing where it has no lines."""
    if not size:
        return ""
    if size <= SHOWN_KEYS:
        return f'<div class="card"><h3>{title}</h3>{content}</div>'
    return f'<details><summary>{title} ({size} keys)</summary><div class="card">{content}</div></details>'
