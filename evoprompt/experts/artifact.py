"""The expert artifact: a folder that PEFT loads, with its provenance beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from evoprompt.errors import UserError
from evoprompt.llm import FrozenModel

SCHEMA_VERSION = 1
WEIGHTS, CONFIG, PROVENANCE, CARD = "adapter_model.safetensors", "adapter_config.json", "expert.json", "README.md"
KEY = "prompt_embeddings"
STANDS = {
    "prefix": "before everything else in the context",
    "system": "in the system turn, or right behind the token that begins a text where there is no such turn",
    "suffix": "right behind the text of a question",
}


@dataclass(frozen=True, eq=False)
class Expert:
    """A soft prompt (tokens, hidden) and where it comes from (`expert.json`)."""

    prompt: torch.Tensor
    provenance: Mapping[str, Any]

    @property
    def culture(self) -> str:
        """Key of the culture it was evolved for."""
        return str(self.provenance["culture"]["key"])

    @property
    def placement(self) -> str:
        """Where the prompt stood when it was evolved: `prefix`, `system` or `suffix`."""
        return str(self.provenance["placement"])

    def check_base(self, frozen: FrozenModel) -> None:
        """Refuse a base model other than the one the prompt was evolved on.

        Raises
        ------
        UserError
            The fingerprints differ; both names are given.
        """
        base = self.provenance["base_model"]
        if base["fingerprint"] != frozen.fingerprint:
            raise UserError(
                f"this expert was evolved on {base['name']!r} (fingerprint {base['fingerprint']}), "
                f"not on {frozen.spec.name!r} (fingerprint {frozen.fingerprint}); load the former"
            )


def write_expert(
    folder: Path,
    prompt: torch.Tensor,
    frozen: FrozenModel,
    provenance: Mapping[str, Any],
    placement: str = "prefix",
) -> Expert:
    """Write the artifact. PEFT loads it whatever its placement, but always puts the prompt first.

    Parameters
    ----------
    folder
        Created if missing.
    prompt
        Soft prompt (tokens, hidden), saved in float32.
    frozen
        The base model.
    provenance
        At least `culture`; `base_model`, `placement`, shapes and hashes are added.
    placement
        Where the prompt stood when it was evolved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensor = prompt.detach().to("cpu", torch.float32).contiguous()
    config = frozen.model.config.get_text_config()
    adapter = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": frozen.spec.name,
        "revision": frozen.spec.revision,
        "inference_mode": True,
        "num_virtual_tokens": tensor.shape[0],
        "token_dim": tensor.shape[1],
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "tokenizer_name_or_path": None,
    }
    digest = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    full = {
        "schema_version": SCHEMA_VERSION,
        **provenance,
        "base_model": {
            "name": frozen.spec.name,
            "revision": frozen.spec.revision,
            "fingerprint": frozen.fingerprint,
        },
        "placement": placement,
        "tokens": tensor.shape[0],
        "hidden": tensor.shape[1],
        "prompt_sha256": digest,
    }
    save_file({KEY: tensor}, folder / WEIGHTS, metadata={"format": "pt"})  # of two entries the order would vary
    (folder / CONFIG).write_text(json.dumps(adapter, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / PROVENANCE).write_text(json.dumps(full, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(_card(full), encoding="utf-8")
    return Expert(tensor, full)


def read_expert(folder: str | Path) -> Expert:
    """Read and verify an artifact: files, shapes and hash. Nothing is unpickled.

    Raises
    ------
    UserError
        A file is missing or damaged, or what is in them does not fit together.
    """
    path = Path(folder)
    try:
        tensors = load_file(path / WEIGHTS)
        provenance = json.loads((path / PROVENANCE).read_text(encoding="utf-8"))
        adapter = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, SafetensorError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not a complete expert folder: {error}") from None
    prompt = tensors.get(KEY)
    expected = (adapter.get("num_virtual_tokens"), adapter.get("token_dim"))
    if prompt is None or tuple(prompt.shape) != expected:
        found = "nothing" if prompt is None else tuple(prompt.shape)
        raise UserError(f"{path / WEIGHTS} holds {found} under {KEY!r}, its config says {expected}")
    if hashlib.sha256(prompt.numpy().tobytes()).hexdigest() != provenance.get("prompt_sha256"):
        raise UserError(f"{path / WEIGHTS} is not the prompt that {PROVENANCE} describes; export the expert again")
    return Expert(prompt, provenance)


def _card(provenance: Mapping[str, Any]) -> str:
    culture, base, placement = provenance["culture"], provenance["base_model"], provenance["placement"]
    rows = "\n".join(
        f"| {arm} | {splits['searched']['loss']:.1f} | {splits['held_out']['loss']:.1f} |"
        for arm, splits in provenance.get("arms", {}).items()
    )
    warning = (
        "\nThe base model is evoprompt's pocket model, a simulator trained on generated text: "
        "nothing here is evidence about people.\n"
        if base["name"] == "pocket"
        else ""
    )
    return f"""---
library_name: peft
base_model: {base["name"]}
tags: [evoprompt, prompt-tuning, cultural-alignment]
---
# Soft prompt for {culture["name"]}

{provenance["tokens"]} virtual tokens for the frozen model `{base["name"]}`, evolved by evoprompt until the model's
answers to paraphrased VSM 2013 items score like {culture["name"]} on Hofstede's six dimensions
(edition {culture["edition"]}). The prompt stands {STANDS[placement]} ({placement} placement).
{warning}
Mean absolute distance to the target, in points, on the wordings used by the search and on held-out ones:

| arm | searched | held out |
|---|---|---|
{rows}

{_usage(placement)}
`expert.json` holds target, constants, versions and hashes.
"""


def _usage(placement: str) -> str:
    if placement == "prefix":
        return """```python
from peft import PeftModel
model = PeftModel.from_pretrained(base_model, "<this folder>")
```
"""
    return f"""PEFT loads this folder, but its forward always puts a prompt before everything: it serves only prefix
experts as they were evolved. With {placement} placement, ask through evoprompt:

```python
from evoprompt.experts import read_expert
from evoprompt.llm import Respondent
expert = read_expert("<this folder>")
respondent = Respondent(base_model, expert.placement)
probabilities = respondent.answer(expert.prompt[None], respondent.sheet(questions, labels))
```
"""
