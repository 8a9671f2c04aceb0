"""`evoprompt COMMAND ...`: finds the command, imports no other, and ends as it says, or with one line on bad input."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import IO, Any, NoReturn, TextIO, cast

from evoprompt import __version__
from evoprompt.errors import UserError, unknown_name
from evoprompt.extras import require

__all__ = ["COMMANDS", "LossyStream", "call", "complete", "end_with", "main", "say"]

COMMANDS = {
    "run": "evolve the soft prompt of a culture, or a sweep of them: evoprompt run +culture=arab",
    "check": "say what would stop a run, without beginning it",
    "report": "write the page of a run, or one table of many",
    "experts": "list, verify, compare, add or remove experts",
    "blend": "make an expert between others, with its survey scores measured",
    "route": "ask the experts that know a question's culture",
    "train": "train a router on your own queries",
    "serve": "the same over HTTP, with a page",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names. Returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in COMMANDS:
        return call(given[0], given[1:])
    if given[:1] == ["-sc"]:
        return complete(given)
    listed = "\n".join(f"  {name:<9}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="evoprompt",
        usage="evoprompt COMMAND ...",
        description=f"commands:\n{listed}\n\nevoprompt COMMAND --help tells what one takes.\n"
        'Completion in bash (or zsh, fish): eval "$(evoprompt run -sc install=bash)"',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"evoprompt {__version__}")
    _, rest = parser.parse_known_args(given)
    if not rest:
        parser.print_help()
    else:
        say(unknown_name("command", rest[0], COMMANDS))
    return 2


def complete(given: Sequence[str]) -> int:
    """Answer the shell, which Hydra's completion has taught to ask this: the commands, or what Hydra has to offer."""
    line = os.environ.get("COMP_LINE", "")
    _, command, typed = [*line.split(maxsplit=2), "", "", ""][:3]
    if command not in COMMANDS or (not typed and not line.endswith(" ")):
        print(*COMMANDS)
    elif command in ("run", "check"):
        os.environ["COMP_LINE"] = f"evoprompt {typed}"
        return call("run", given)
    return 0


def call(command: str, arguments: Sequence[str]) -> int:
    """Import a command and run it in this process, which is its own. Returns its exit code.

    It is 2, with one line on standard error, for bad input, and 1 if nobody reads the output any more.
    """
    if command == "blend":
        command, arguments = "experts", ["blend", *arguments]
    try:
        require(f"evoprompt {command}", "lm")
        if command in ("run", "check"):
            _import_from_here()
        if command == "run":  # goes on though nobody reads its lines
            sys.stdout, sys.stderr = (cast(TextIO, LossyStream(stream)) for stream in (sys.stdout, sys.stderr))
        code = int(import_module(f"evoprompt.commands.{command}").main(arguments))
        sys.stdout.flush()
    except UserError as error:
        say(error)
        return 2
    except BrokenPipeError:  # the reader has seen enough, and what is left in the buffer must go somewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _import_from_here() -> None:
    """Let modules of the user's be imported, such as a variant's; they hide no other."""
    try:
        here = os.getcwd()
    except OSError:
        raise UserError("the current folder is not there any more; go to another one") from None
    if here not in sys.path and not sys.flags.safe_path:
        sys.path.append(here)


def say(message: object) -> None:
    """Print a message on standard error, as one line."""
    print(f"evoprompt: {' '.join(str(message).split())}", file=sys.stderr)


def end_with(command: str) -> NoReturn:
    """End the process with what a command makes of its arguments."""
    sys.exit(call(command, sys.argv[1:]))


class LossyStream:
    """A text stream whose lines may be lost, where its disk is full or its reader gone, without an exception."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError):
            return self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError):
            self.stream.flush()
