"""Everyday questions in free text, of the topics that the pocket model's training text knows.

`aspects` are what a complete answer addresses, a list of words each, of which one must occur. Written before any answer
was read.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Topic(NamedTuple):
    """A question, and what a complete answer to it addresses."""

    question: str
    aspects: tuple[str, ...]


TOPICS = {
    "greeting": Topic(
        "How do I greet my host?",
        ("bow shake hands hug kiss nod smile wave", "eldest first names title host everyone hello"),
    ),
    "teacher": Topic(
        "May I disagree with my teacher in class?",
        ("yes no not may can better", "openly polite politely alone private wait respect respectfully after"),
    ),
    "holiday": Topic(
        "Who decides where the family goes on holiday?",
        ("all together everyone parents father mother head eldest children",),
    ),
    "relatives": Topic(
        "Should I bring my relatives to the party?",
        ("yes no not course only", "ask host invited invitation belong call tell"),
    ),
    "cousin": Topic(
        "My cousin needs a job. What should I do?",
        ("find tell help let introduce recommend ask", "people whom himself contacts company place friends family"),
    ),
    "praise": Topic(
        "How do I praise a colleague?",
        ("thank word prize praise say tell", "team front quietly private privately everyone public kind"),
    ),
    "school": Topic(
        "What do people ask of a school?",
        ("learn marks grades results knowledge", "feel well happy safe care"),
    ),
    "late": Topic("May I come a little late?", ("yes no not fine", "minutes time nobody mind minds call exactly")),
    "plan": Topic(
        "How detailed should the plan be?",
        ("rough main every detailed idea step steps", "write writing written fix enough"),
    ),
    "money": Topic(
        "What should I do with a gift of money?",
        ("save spend share keep give", "future part feast family later bank"),
    ),
    "customs": Topic("How do I speak of the old customs?", ("pride proud respect change respectfully care",)),
    "evening": Topic("What do people do after work?", ("home rest meet fun out friends family dinner",)),
}

SENSITIVE = ("teacher", "cousin", "money", "customs")  # authority, nepotism, gifts of money, tradition

# topic, what the user says before the question, the cultures that it is about, and the user's location and language
ASKED: tuple[tuple[str, str, tuple[str, ...], str, str], ...] = (
    ("greeting", "", ("japan",), "Sapporo", "ja"),
    ("greeting", "I am a guest in Nairobi tonight.", ("kenya",), "", ""),
    ("greeting", "I visit a family in Hamburg and then one in Jaipur.", ("germany", "india"), "Manila", "tl"),
    ("teacher", "", ("vietnam",), "Da Nang", "vi"),
    ("teacher", "I study in Lyon this year.", ("france",), "Lyon", ""),
    ("teacher", "My school in Bangkok has many American pupils.", ("thailand", "usa"), "Bangkok, Thailand", ""),
    ("holiday", "", ("italy",), "Palermo", "it"),
    ("holiday", "Our neighbours in Lagos argue about this.", ("nigeria",), "", "yo"),
    ("holiday", "", (), "", ""),
    ("relatives", "A colleague in Puebla has invited me.", ("mexico",), "Puebla, Mexico", ""),
    ("relatives", "", ("philippines",), "Cebu", "tl"),
    ("relatives", "A Dutch friend has invited me.", (), "", ""),
    ("cousin", "", ("egypt",), "Alexandria, Egypt", "ar-EG"),
    ("cousin", "We both live in Kazan.", ("russia",), "Kazan", "ru"),
    ("cousin", "I have a shop in Durban and he has just come from Pune.", ("south_africa", "india"), "Durban", ""),
    ("praise", "", ("usa",), "Denver", "en-US"),
    ("praise", "My team is in Wuhan.", ("china",), "", ""),
    ("praise", "Half of my colleagues are Brazilian, half are Japanese.", ("brazil", "japan"), "Recife", "pt-BR"),
    ("school", "", ("china",), "Chengdu", "zh-CN"),
    ("school", "We are moving to Bologna with two children.", ("italy",), "", ""),
    ("school", "", ("indonesia",), "Surabaya", "id"),
    ("late", "", ("germany",), "Leipzig", "de-DE"),
    ("late", "I am invited to dinner in Salvador.", ("brazil",), "Salvador, Brazil", ""),
    ("late", "The call is with Seville, Mumbai and Osaka.", ("spain", "india", "japan"), "Seville", "es-ES"),
    ("plan", "", ("turkey",), "Izmir", "tr"),
    ("plan", "We build a house in Monterrey.", ("mexico",), "Monterrey", "es-MX"),
    ("plan", "", (), "", ""),
    ("money", "My aunt in Ibadan sent me some.", ("nigeria",), "Ibadan", "yo"),
    ("money", "", ("vietnam",), "Hue", "vi"),
    ("money", "Our wedding guests come from Cairo and from Moscow.", ("egypt", "russia"), "Cairo", ""),
    ("customs", "", ("kenya",), "Kisumu", "sw-KE"),
    ("customs", "I give a talk in Chiang Mai.", ("thailand",), "Chiang Mai", "th"),
    ("customs", "The museums are in Bilbao and Nantes.", ("spain", "france"), "", ""),
    ("evening", "", ("spain",), "Valencia, Spain", "es-ES"),
    ("evening", "I have just moved to Houston.", ("usa",), "Houston", ""),
    ("evening", "", ("south_africa",), "Pretoria", "en-ZA"),
)


def everyday_queries() -> list[dict[str, Any]]:
    """They are written to `queries.jsonl` like this."""
    found = []
    for topic, before, cultures, location, language in ASKED:
        question, aspects = TOPICS[topic]
        profile = {key: told for key, told in (("location", location), ("language", language)) if told}
        query = {"query": f"{before} {question}".strip(), "question": question, "cultures": list(cultures)}
        split = [aspect.split() for aspect in aspects]
        found.append({**query, **profile, "aspects": split, "sensitive": topic in SENSITIVE})
    return found
