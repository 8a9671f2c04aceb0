"""What the runs of a sweep were made with: what they share, and what they differ in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

SHOWN_VALUES = 12  # of a key
SHOWN_KEYS = 12  # more are folded


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
