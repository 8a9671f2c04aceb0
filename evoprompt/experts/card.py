"""The model card of an expert: what it is, what it is worth, and code that runs as it stands in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evoprompt.surveys.quality import INVALID_LIMIT, LABEL_MASS_LIMIT, percent

if TYPE_CHECKING:
    from evoprompt.llm import ModelSpec

STANDS = {
    "prefix": "before everything else in the context",
    "system": "in the system turn, or right behind the token that begins a text where there is no such turn",
    "suffix": "right behind the text of a question",
}
"""What each placement of a prompt means."""
PEFT_ELSEWHERE = (
    "**PEFT serves this prompt as a prefix, before everything else, which is not where it was evolved "
    "({} placement): ask it through evoprompt, as below.**\n\n"
)
LOADED_AS = ("name", "revision", "quantization", "trust_remote_code")  # what of a `ModelSpec` tells its base model
QUESTION = "Options: A = very important; B = not important.\\nQuestion: How important is rest to you?\\nAnswer:"


def card(provenance: Mapping[str, Any], spec: ModelSpec) -> str:
    """README.md of an expert's folder, from what its expert.json holds and from how its base model was loaded."""
    culture, base, placement = provenance["culture"], provenance["base_model"], provenance["placement"]
    stands = STANDS[placement]
    if placement != "prefix" and provenance["served_by_peft"]:
        stands = f"{STANDS['prefix']}: this model has neither a chat template nor a token that begins a text"
    first = "" if provenance["served_by_peft"] else PEFT_ELSEWHERE.format(placement)
    own = {"evolved": "this blend"} if provenance.get("blended_from") else {}
    rows = "\n".join(
        f"| {own.get(arm, arm)} | {_points(splits['searched']['loss'])} | {_points(splits['held_out']['loss'])} |"
        for arm, splits in provenance.get("arms", {}).items()
    )
    return f"""---
library_name: peft
base_model: {base["name"]}
tags: [evoprompt, prompt-tuning, cultural-alignment]
---
# Soft prompt for {culture["name"]}

{first}{provenance["tokens"]} virtual tokens for the frozen model `{base["name"]}`, {_origin(provenance)}
(edition {culture["edition"]}). The prompt stands {stands} ({placement} placement).
{_warning(provenance)}
Mean absolute distance to the target, in points, on the wordings used by the search and on held-out ones:

| arm | searched | held out |
|---|---|---|
{rows}

Run in this folder, this asks a question under the prompt:

```python
{_asking(spec)}```
{_peft(spec) if provenance["served_by_peft"] else ""}
`expert.json` holds target, constants, versions and hashes.
"""


def _origin(provenance: Mapping[str, Any]) -> str:
    """How the prompt came to be."""
    parts = provenance.get("blended_from")
    if parts:
        named = ", ".join(f"{part['culture']} ({part['weight']:.0%})" for part in parts)
        return f"the weighted mean of the\nprompts of {named}; nothing was evolved for it, see the table for its worth"
    return (
        "evolved by evoprompt\nuntil the model's answers to paraphrased VSM 2013 items score like "
        f"{provenance['culture']['name']} on Hofstede's six dimensions"
    )


def _points(loss: float | None) -> str:
    return "-" if loss is None or not math.isfinite(loss) else f"{loss:.1f}"


def _warning(provenance: Mapping[str, Any]) -> str:
    """What the table does not show."""
    found = []
    if provenance["base_model"]["name"] == "pocket":
        found.append(
            "The base model is evoprompt's pocket model, a simulator trained on generated text: "
            "nothing here is evidence about people."
        )
    evolved = provenance.get("arms", {}).get("evolved", {}).get("held_out", {})
    mass, invalid = evolved.get("label_mass"), evolved.get("invalid_rate")
    if mass is not None and mass < LABEL_MASS_LIMIT:
        found.append(
            f"Under this prompt the model puts {percent(mass)} of its words on the labels; the losses below are of "
            "shares of that."
        )
    if invalid is not None and invalid > INVALID_LIMIT:
        found.append(f"Under this prompt {percent(invalid)} of the free-text answers chose no option or several.")
    return "".join(f"\n{line}\n" for line in found)


def _told(spec: ModelSpec, *keys: str) -> list[str]:
    """Arguments for what of a model's specification is set."""
    return [f"{key}={getattr(spec, key)!r}" for key in keys if getattr(spec, key)]


def _asking(spec: ModelSpec) -> str:
    return f"""from evoprompt.experts import read_expert
from evoprompt.llm import ModelSpec, Respondent, load_model

expert = read_expert(".")
frozen = load_model(ModelSpec({", ".join(_told(spec, *LOADED_AS))}))
expert.check_base(frozen)
respondent = Respondent(frozen, expert.placement)
questions = ["{QUESTION}"]
labels = [["A", "B"]]
probabilities = respondent.answer(expert.prompt[None], respondent.sheet(questions, labels))[0]  # (questions, labels)
print(probabilities)
"""


def _peft(spec: ModelSpec) -> str:
    if spec.name == "pocket":
        loading = "from evoprompt.llm import ModelSpec, load_model\n\nbase = load_model(ModelSpec(name='pocket')).model"
    else:
        told = ", ".join([repr(spec.name), *_told(spec, "revision", "trust_remote_code")])
        loading = (
            f"from transformers import AutoModelForCausalLM\n\nbase = AutoModelForCausalLM.from_pretrained({told})"
        )
    return f"""
PEFT serves it as it was evolved:

```python
from peft import PeftModel
{loading}
model = PeftModel.from_pretrained(base, ".")
```
"""
