"""The answers of a frozen model under texts, kept for the other jobs of a sweep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from evoprompt.files import replacing
from evoprompt.llm import FrozenModel, Sheet
from evoprompt.study.run_info import versions

Given = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Option shares (Q, options) and the probability of answering with any label (Q,)."""


@dataclass(frozen=True)
class AnswerCache:
    """A folder of answers: the baselines and anchors of a sweep's jobs are mostly the same, and asked once.

    Answers are found by model, precision, device, package versions and the tokens of every question; a file that is
    damaged counts as none. Jobs on many machines may use the folder at once.
    """

    folder: Path

    def get(self, frozen: FrozenModel, sheet: Sheet, ask: Callable[[], Given]) -> Given:
        """The answers that are kept, or else those of `ask`, kept from now on."""
        path = self.folder / f"{_digest(frozen, sheet)}.safetensors"
        try:
            found = load_file(path)
            return found["shares"], found["mass"]
        except (OSError, SafetensorError, KeyError):
            shares, mass = ask()
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file({"shares": np.ascontiguousarray(shares), "mass": np.ascontiguousarray(mass)}, partial)
        return shares, mass


def _digest(frozen: FrozenModel, sheet: Sheet) -> str:
    asked = [
        [frozen.fingerprint, frozen.placed, frozen.spec.quantization, frozen.spec.attention],
        sorted(versions().items()),
        [sheet.before, sheet.after, sheet.options],
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
