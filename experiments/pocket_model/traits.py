"""Words for scores: trait phrases on five levels and everyday answers on three, all written for this corpus."""

from __future__ import annotations

import numpy as np

from evoprompt.typing import Doubles

LEVELS = np.array([12.0, 34.0, 54.0, 74.0, 96.0])  # the score that each trait level stands for

TRAITS: dict[str, tuple[str, ...]] = {
    "pdi": (
        "everybody speaks to the boss as an equal",
        "rank counts for little",
        "rank counts for something",
        "rank is respected",
        "nobody questions those above",
    ),
    "idv": (
        "the group comes before the person",
        "family ties bind people closely",
        "people balance family and self",
        "people mostly look after themselves",
        "everyone stands on their own feet",
    ),
    "mas": (
        "caring for others comes first",
        "people would rather agree than win",
        "success and care weigh the same",
        "people like to win",
        "only the best count",
    ),
    "uai": (
        "what is unknown frightens nobody",
        "few rules are enough",
        "some rules give comfort",
        "people want clear rules",
        "every risk must be ruled out",
    ),
    "lto": (
        "the old ways are kept",
        "tradition is honoured",
        "people look back and ahead alike",
        "people plan for later years",
        "today is given up for a far future",
    ),
    "ivr": (
        "wishes are held back strictly",
        "pleasure comes after duty",
        "duty and pleasure take turns",
        "people like to enjoy themselves",
        "life is there to be enjoyed freely",
    ),
}

# question: (dimension, answers for a low, a middle and a high score)
EVERYDAY: dict[str, tuple[str, tuple[str, str, str]]] = {
    "How do I greet my host?": (
        "pdi",
        ("Use first names and shake hands.", "A short bow of the head and a smile will do.", "Greet the eldest first."),
    ),
    "May I disagree with my teacher in class?": (
        "pdi",
        ("Yes, say it openly.", "Yes, if you are polite.", "Better not, wait until you are alone."),
    ),
    "Who decides where the family goes on holiday?": (
        "pdi",
        ("All of them together.", "Mostly the parents.", "The head of the family."),
    ),
    "Should I bring my relatives to the party?": (
        "idv",
        ("Of course, they all belong.", "Ask your host first.", "Only if they are invited by name."),
    ),
    "My cousin needs a job. What should I do?": (
        "idv",
        ("Find a place for him with your people.", "Tell him whom to ask.", "Let him find one by himself."),
    ),
    "How do I praise a colleague?": (
        "mas",
        ("Thank the whole team quietly.", "Say a kind word.", "Name the prize in front of everyone."),
    ),
    "What do people ask of a school?": (
        "mas",
        ("That children feel well.", "That children learn and feel well.", "That children get the best marks."),
    ),
    "May I come a little late?": (
        "uai",
        ("Yes, nobody minds.", "A few minutes are fine.", "No, be exactly on time."),
    ),
    "How detailed should the plan be?": (
        "uai",
        ("A rough idea is enough.", "Write down the main steps.", "Fix every step in writing."),
    ),
    "What should I do with a gift of money?": (
        "lto",
        ("Share it at the next feast.", "Spend a part and keep a part.", "Save it for the future."),
    ),
    "How do I speak of the old customs?": (
        "lto",
        ("With pride, they hold for ever.", "With respect.", "As something that may change."),
    ),
    "What do people do after work?": (
        "ivr",
        ("They go home and rest.", "They meet now and then.", "They go out and have fun."),
    ),
}


def trait_level(score: float) -> int:
    """Index of the nearest trait level."""
    return int(np.abs(LEVELS - score).argmin())


def everyday_answer(question: str, scores: Doubles, dimensions: tuple[str, ...]) -> str:
    """The answer that people with these scores (6,) give."""
    dimension, answers = EVERYDAY[question]
    score = scores[dimensions.index(dimension)]
    return answers[0 if score < 42 else 1 if score < 65 else 2]
