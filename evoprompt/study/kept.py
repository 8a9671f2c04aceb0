"""What a frozen model answered under texts, kept for the other jobs of a sweep."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from evoprompt.llm import Respondent
from evoprompt.study.rundir import versions
from evoprompt.surveys import Plan

Given = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Option shares (Q, options) and the probability of answering with any label (Q,)."""


@dataclass(frozen=True)
class KeptAnswers:
    """A folder of answers: the baselines and anchors of a sweep's jobs are mostly the same, and asked once.

    Answers are found by model, precision, device, package versions, placement and every text and label that was asked;
    a file that is damaged counts as none.
    """

    folder: Path

    def get(self, respondent: Respondent, plan: Plan, preface: str, ask: Callable[[], Given]) -> Given:
        """The answers that are kept, or else those of `ask`, kept from now on."""
        path = self.folder / f"{_digest(respondent, plan, preface)}.safetensors"
        try:
            found = load_file(path)
            return found["shares"], found["mass"]
        except (OSError, SafetensorError, KeyError):
            shares, mass = ask()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        save_file({"shares": np.ascontiguousarray(shares), "mass": np.ascontiguousarray(mass)}, partial)
        os.replace(partial, path)
        return shares, mass


def _digest(respondent: Respondent, plan: Plan, preface: str) -> str:
    frozen = respondent.frozen
    asked = [
        [frozen.fingerprint, frozen.placed, frozen.spec.quantization, frozen.spec.attention, respondent.placement],
        sorted(versions().items()),
        plan.texts(preface),
        [question.labels for question in plan.questions],
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
