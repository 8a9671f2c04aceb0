"""What the tests of the server share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving_processes import Server, serving, write_experts

from evoprompt.llm import FrozenModel


@pytest.fixture(scope="module")
def server(pocket: FrozenModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the usual limits."""
    folder = write_experts(tmp_path_factory.mktemp("served") / "experts", pocket)
    with serving(folder) as running:
        yield running
