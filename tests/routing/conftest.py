"""Experts for committees to be made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from evoprompt.experts import BUNDLED, Registry
from evoprompt.llm import FrozenModel
from evoprompt.routing import Committee, load_router


@pytest.fixture(scope="session")
def everybody(pocket: FrozenModel) -> Committee:
    """The package's experts and router."""
    return Committee(pocket, Registry(Path(BUNDLED), pocket), load_router())
