"""The same arms on everyday questions, answered in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from evoprompt.llm.speak.decoding import Sampling
from evoprompt.routing import Committee, CommitteeAnswer, Voice
from evoprompt.routing.committee import BASE
from experiments.answer_figures import completeness
from experiments.committee.arms import ARMS, COMPOSED, persona_line
from experiments.committee.queries import LabelledQuery

SAMPLING = Sampling(48)
REFUSALS = re.compile(r"\b(i can ?not|i can't|i can’t|i won't|i'm sorry|i am sorry|unable to (help|answer)|as an ai)\b")


def is_refusal(answer: str) -> bool:
    """Whether an answer declines, by its words; one definition for every arm.

    >>> is_refusal("I'm sorry, but I cannot help."), is_refusal("Yes, say it openly.")
    (True, False)
    """
    return bool(REFUSALS.search(answer.lower()))


def speakers(
    query: LabelledQuery, routed: Sequence[Voice], voices: Mapping[str, Voice], fixed: str
) -> dict[str, Sequence[Voice]]:
    """Who speaks in each of `ARMS`."""
    labelled = [voices[culture] for culture in query.cultures]
    alone: dict[str, Sequence[Voice]] = {"direct": [BASE], "persona": [BASE], "fixed expert": [voices[fixed]]}
    alone |= {"single best": routed[:1], **dict.fromkeys(COMPOSED, routed), "oracle": labelled or [BASE]}
    return {arm: alone[arm] for arm in ARMS}


def say(committee: Committee, query: LabelledQuery, arm: str, voices: Sequence[Voice], part: str) -> CommitteeAnswer:
    """One arm's answer."""
    persona = persona_line(query) if arm == "persona" else ""
    messages = [{"role": "system", "content": persona}] if persona else []
    messages.append({"role": "user", "content": query.read(part)})
    composition = arm if arm in COMPOSED else "mixture"
    return committee.answer(messages, composition, voices=voices, sampling=SAMPLING)


def answers(
    committee: Committee,
    queries: Sequence[LabelledQuery],
    routed: Sequence[Sequence[Voice]],
    voices: Mapping[str, Voice],
    fixed: str,
    part: str,
) -> pd.DataFrame:
    """A row for each query and arm: the answer, its completeness, and whether it is one."""
    rows = []
    for query, chosen in zip(queries, routed, strict=True):
        for arm, who in speakers(query, chosen, voices, fixed).items():
            text = say(committee, query, arm, who, part).text
            rows.append(
                {
                    "query": query.name,
                    "arm": arm,
                    "sensitive": query.sensitive,
                    "asked": " ".join(voice.culture for voice in who if voice.culture),
                    "completeness": completeness(text, query.aspects),
                    "refused": is_refusal(text),
                    "answer": text,
                }
            )
    return pd.DataFrame(rows)
