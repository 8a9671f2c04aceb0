"""Scalars for TensorBoard, where it is installed."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

__all__ = ["Scalars"]

logger = logging.getLogger(__name__)


class Scalars:
    """A file of scalars that TensorBoard reads while it grows; a disk that refuses it ends the file, not the run."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._file: Any = path.open("ab", buffering=0)
        self._records = RecordWriter(self._file)
        self._put(Event(wall_time=time.time(), file_version="brain.Event:2"))

    @classmethod
    def where_installed(cls, folder: Path) -> Self | None:
        """A new file in the folder; None where there is no TensorBoard or no room."""
        if find_spec("tensorboard") is None:
            return None
        try:
            return cls(folder)
        except OSError:
            return None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add values at a step."""
        summary = self._summary(value=[self._summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])
        self._put(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, event: Any) -> None:
        if self._file is None:
            return
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            logger.warning("TensorBoard is told no more, its file cannot be written: %s", error.strerror or error)
            self.close()
