"""Small random models of many families, each built and loaded once in a session."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from families import build

from evoprompt.llm import FrozenModel, ModelSpec, load_model


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A family's name -> the folder of a small random model of it."""

    @functools.cache
    def folder(name: str) -> Path:
        made: Path = tmp_path_factory.mktemp(name)
        build(name, made)
        return made

    return folder


@pytest.fixture(scope="session")
def family(folder_of: Callable[[str], Path]) -> Callable[..., FrozenModel]:
    """A family's name and a dtype, float32 unless said otherwise -> its model, loaded on the CPU."""

    @functools.cache
    def load(name: str, dtype: str = "float32") -> FrozenModel:
        return load_model(ModelSpec(name=str(folder_of(name)), device="cpu", dtype=dtype))

    return load
