"""How a command ends that cannot do what it was asked: one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps

from evoprompt.errors import UserError

__all__ = ["refused", "refusing", "say"]

Main = Callable[[Sequence[str] | None], int]


def say(message: str) -> None:
    """Print a message on standard error."""
    print(f"evoprompt: {message}", file=sys.stderr)


def refused(error: Exception) -> int:
    """Say what was wrong. Returns the exit code for bad input, 2."""
    say(" ".join(str(error).split()))
    return 2


def refusing(main: Main) -> Main:
    """A command that returns 2, with one line, for bad input; and 1 if nobody reads its output any more."""

    @wraps(main)
    def wrapped(arguments: Sequence[str] | None = None) -> int:
        try:
            code = main(arguments)
            sys.stdout.flush()
        except UserError as error:
            return refused(error)
        except BrokenPipeError:  # the reader has seen enough, and what is left in the buffer must go somewhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        return code

    return wrapped
