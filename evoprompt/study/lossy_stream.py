"""A text stream that cannot end a search."""

from __future__ import annotations

from contextlib import suppress
from typing import IO, Any


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
