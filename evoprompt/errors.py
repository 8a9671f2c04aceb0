"""The one exception type whose message is meant for the person who typed the input."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message is one line: what was wrong, the value, what would be right."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not one of `known`, with the closest ones offered.

    >>> str(unknown_name("culture", "arabb", ["arab", "usa"]))
    "unknown culture 'arabb'; did you mean arab? Known: arab, usa"
    """
    names = sorted(known)
    close = difflib.get_close_matches(str(name).lower(), names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return UserError(f"unknown {kind} {str(name)!r}{hint} Known: {', '.join(names)}")
