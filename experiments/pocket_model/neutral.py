"""Neutral sentences about nothing cultural: part of the training text, and the bundled text for cost measures."""

from __future__ import annotations

import numpy as np

SUBJECTS = (
    "the old ship", "a small bird", "the river", "my neighbour", "a grey cat", "the evening train", "the baker",
    "a young tree", "the north wind", "the gardener", "a wooden bridge", "the morning light", "the clock",
    "a heavy stone", "the painter", "the red kite", "the post van", "a quiet dog",
)  # fmt: skip
VERBS = (
    "moved past", "stood near", "came back to", "was seen from", "waited behind", "turned towards", "rested beside",
    "made its way around", "stayed close to", "disappeared beyond",
)  # fmt: skip
PLACES = (
    "the stone wall", "the harbour", "the market square", "the green hill", "the kitchen window", "the mill",
    "the wide field", "the church tower", "the sandy path", "the garden gate", "the lake", "the empty house",
)  # fmt: skip
TIMES = (
    "before noon", "late in the day", "after the rain", "in early spring", "during the night", "at first light",
    "as the sun went down", "while snow was falling", "for an hour", "on the second day",
)  # fmt: skip
LINKS = ("Then", "Later", "Soon", "After that", "Meanwhile", "Once again")


def sentence(rng: np.random.Generator) -> str:
    """One sentence."""
    parts = [str(rng.choice(words)) for words in (SUBJECTS, VERBS, PLACES, TIMES)]
    text = f"{parts[0]} {parts[1]} {parts[2]} {parts[3]}."
    if rng.random() < 0.3:
        return f"{parts[3]}, {parts[0]} {parts[1]} {parts[2]}.".capitalize()
    if rng.random() < 0.3:
        return f"{rng.choice(LINKS)} {text}"
    return text.capitalize()


def paragraph(rng: np.random.Generator) -> str:
    """Three to five sentences."""
    return " ".join(sentence(rng) for _ in range(int(rng.integers(3, 6))))
