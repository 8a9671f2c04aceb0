"""The expert artifact: a folder that PEFT loads, with its provenance beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from evoprompt.errors import UserError
from evoprompt.experts.card import STANDS, card

if TYPE_CHECKING:  # what has no use for a model is read without torch
    import torch

    from evoprompt.llm import FrozenModel
    from evoprompt.llm.write.conversation import Message

SCHEMA_VERSION = 2  # of 1 the fingerprints are of another kind: of some loaded weights, not of the checkpoint
WEIGHTS, CONFIG, PROVENANCE, CARD = "adapter_model.safetensors", "adapter_config.json", "expert.json", "README.md"
KEY = "prompt_embeddings"


@dataclass(frozen=True, eq=False)
class Expert:
    """A soft prompt, as an array (tokens, hidden), and where it comes from (`expert.json`)."""

    array: NDArray[np.float32]
    provenance: Mapping[str, Any]

    @cached_property
    def prompt(self) -> torch.Tensor:
        """The soft prompt (tokens, hidden) in float32."""
        import torch

        return torch.from_numpy(self.array)

    @property
    def tokens(self) -> int:
        """How many soft tokens it has."""
        return len(self.array)

    @property
    def culture(self) -> str:
        """Key of the culture it was evolved for."""
        return str(self.provenance["culture"]["key"])

    @property
    def placement(self) -> str:
        """Where the prompt stood when it was evolved: `prefix`, `system` or `suffix`."""
        return str(self.provenance["placement"])

    def measured(self, arm: str = "evolved", split: str = "held_out") -> Mapping[str, Any]:
        """What an arm of its run was measured to score on `searched` or `held_out` wordings; empty if it was not."""
        found: Mapping[str, Any] = self.provenance.get("arms", {}).get(arm, {}).get(split, {})
        return found

    @property
    def served_by_peft(self) -> bool:
        """Whether PEFT, which puts a prompt before everything, puts it where it was evolved."""
        return bool(self.provenance.get("served_by_peft", self.placement == "prefix"))

    def prompt_embeds(self, text: str | Sequence[Message], frozen: FrozenModel | None = None) -> torch.Tensor:
        """What the base model reads for a question under this expert: embeddings (tokens, hidden).

        The tensor that the prompt-embedding inputs of vLLM (`{"prompt_embeds": ...}`) and SGLang (`input_embeds`) take.

        Parameters
        ----------
        text
            A question, put into the user's turn, or a whole conversation.
        frozen
            The base model; None loads it by the name that `expert.json` has.

        Raises
        ------
        UserError
            It is another model, or it does not take the conversation.
        """
        from evoprompt.llm.write.conversation import make_context

        if frozen is None:
            frozen = _base(self.provenance["base_model"]["name"], self.provenance["base_model"]["revision"])
        self.check_base(frozen)
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else text
        return make_context(frozen, messages, self.placement).embedded(frozen, self.prompt)

    def check_base(self, frozen: FrozenModel) -> None:
        """Refuse a base model other than the one the prompt was evolved on.

        Raises
        ------
        UserError
            The fingerprints differ; both names are given. Or they cannot be compared.
        """
        base = self.provenance["base_model"]
        if self.provenance.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"this expert has schema version {self.provenance.get('schema_version')!r}, whose fingerprint of "
                f"{base['name']!r} cannot be compared with one of version {SCHEMA_VERSION}; evolve the expert again"
            )
        if self.array.shape[1] != frozen.hidden:
            raise UserError(
                f"this expert's soft tokens have width {self.array.shape[1]}, model {frozen.spec.name!r} takes "
                f"{frozen.hidden}; load {base['name']!r}"
            )
        if base["fingerprint"] != frozen.fingerprint:
            raise UserError(
                f"this expert was evolved on {base['name']!r} (fingerprint {base['fingerprint']}), "
                f"not on {frozen.spec.name!r} (fingerprint {frozen.fingerprint}); load the former"
            )


def blend(experts: Sequence[Expert], weights: Sequence[float]) -> torch.Tensor:
    """The weighted mean (tokens, hidden) of the experts' soft prompts; weights are made to sum to 1.

    What it answers lies nowhere by right: measure it before believing in it (`python -m evoprompt.experts blend`).

    Raises
    ------
    UserError
        They differ in base model, placement or number of tokens, or the weights are not one each, or not positive.
    """
    sound = all(weight > 0 for weight in weights) and isfinite(sum(weights))
    if len(experts) < 2 or len(weights) != len(experts) or not sound:
        raise UserError(f"{len(experts)} experts with the weights {list(weights)}; give two or more, each a weight > 0")
    for what, values in (
        ("base models", [expert.provenance["base_model"]["fingerprint"] for expert in experts]),
        ("placements", [expert.placement for expert in experts]),
        ("numbers of tokens", [expert.tokens for expert in experts]),
    ):
        if len(set(values)) > 1:
            raise UserError(f"these experts have different {what} ({', '.join(map(str, values))}); blend alike ones")
    import torch

    share = torch.tensor(weights, dtype=torch.float64)
    stacked = torch.stack([expert.prompt for expert in experts])
    return torch.einsum("e,eth->th", (share / share.sum()).float(), stacked)


@cache
def _base(name: str, revision: str | None) -> FrozenModel:
    from evoprompt.llm import ModelSpec, load_model

    return load_model(ModelSpec(name=name, revision=revision))


def served_by_peft(frozen: FrozenModel, placement: str) -> bool:
    """Whether a prompt of this placement is what the model reads first, which is where PEFT puts every prompt.

    So it is with `system` placement where neither a chat template nor the tokenizer writes anything before it.
    """
    from evoprompt.llm import make_sheet

    if placement == "system":
        return not make_sheet(frozen.tokenizer, ["Yes or no?"], [["A", "B"]], placement).before[0]
    return placement == "prefix"


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

    Raises
    ------
    ValueError
        A number in `provenance` is not finite, which JSON cannot hold; give None instead.
    """
    from safetensors.numpy import save_file

    array = prompt.detach().to("cpu").float().contiguous().numpy()
    full = {
        "schema_version": SCHEMA_VERSION,
        **provenance,
        "base_model": {
            "name": frozen.spec.name,
            "revision": frozen.spec.revision,
            "fingerprint": frozen.fingerprint,
        },
        "placement": placement,
        "served_by_peft": served_by_peft(frozen, placement),
        "tokens": array.shape[0],
        "hidden": array.shape[1],
        "prompt_sha256": hashlib.sha256(array.tobytes()).hexdigest(),
    }
    adapter = json.dumps(_adapter_config(frozen, array), indent=2, sort_keys=True) + "\n"
    written = json.dumps(full, indent=2, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({KEY: array}, folder / WEIGHTS, metadata={"format": "pt"})  # of two entries the order would vary
    (folder / CONFIG).write_text(adapter, encoding="utf-8")
    (folder / PROVENANCE).write_text(written, encoding="utf-8")
    (folder / CARD).write_text(card(full, frozen.spec), encoding="utf-8")
    return Expert(array, full)


def _adapter_config(frozen: FrozenModel, prompt: NDArray[np.float32]) -> dict[str, Any]:
    """What PEFT reads about a soft prompt (tokens, hidden)."""
    config = frozen.model.config.get_text_config()
    return {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": frozen.spec.name,
        "revision": frozen.spec.revision,
        "inference_mode": True,
        "num_virtual_tokens": prompt.shape[0],
        "token_dim": prompt.shape[1],
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "tokenizer_name_or_path": None,
    }


def read_expert(folder: str | Path) -> Expert:
    """Read and verify an artifact: files, shapes and hash. Nothing is unpickled.

    Raises
    ------
    UserError
        A file is missing or damaged, or what is in them does not fit together.
    """
    path = Path(folder)
    try:
        with safe_open(path / WEIGHTS, "np") as tensors:
            part = tensors.get_slice(KEY) if KEY in tensors.keys() else None  # noqa: SIM118
            shape, precision = (tuple(part.get_shape()), part.get_dtype()) if part else ((), "")
            prompt = np.array(tensors.get_tensor(KEY) if precision == "F32" else ())  # numpy may not know another
        provenance = json.loads((path / PROVENANCE).read_text(encoding="utf-8"), parse_constant=_no_number)
        adapter = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        json.dumps(provenance, ensure_ascii=False).encode()  # half a surrogate pair could not be shown
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(f"{path} is not a complete expert folder: {error}") from None
    _require_fields(path / PROVENANCE, provenance)
    known = adapter if isinstance(adapter, dict) else {}
    expected = (known.get("num_virtual_tokens"), known.get("token_dim"))
    if shape != expected or not shape[0]:
        raise UserError(f"{path / WEIGHTS} holds {shape or 'nothing'} under {KEY!r}, its config says {expected}")
    if precision != "F32":
        raise UserError(f"{path / WEIGHTS} holds {precision}, a prompt is in F32; export the expert again")
    if hashlib.sha256(prompt.tobytes()).hexdigest() != provenance.get("prompt_sha256"):
        raise UserError(f"{path / WEIGHTS} is not the prompt that {PROVENANCE} describes; export the expert again")
    if not np.isfinite(prompt).all():
        raise UserError(f"{path / WEIGHTS} holds numbers that are not finite; export the expert again")
    return Expert(prompt, provenance)


def _require_fields(file: Path, provenance: Any) -> None:
    """Refuse a provenance without what every reader of it needs, or with something else there."""
    for path in (("culture", "key"), ("culture", "name"), ("base_model", "name"), ("base_model", "fingerprint")):
        found = provenance
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, str):
            raise UserError(f"{file} has no text under {'.'.join(path)}; export the expert again")
    revision = provenance["base_model"].setdefault("revision", None)
    if not isinstance(revision, str | None):
        raise UserError(f"{file} has {revision!r} under base_model.revision, not a text or null")
    if provenance.get("placement") not in STANDS:
        raise UserError(f"{file} has placement {provenance.get('placement')!r}; known: {', '.join(STANDS)}")
    _require_scores(file, "culture.targets", provenance["culture"].get("targets", {}))
    for arm, splits in _mapping(file, "arms", provenance.get("arms", {})).items():
        for split, measured in _mapping(file, f"arms.{arm}", splits).items():
            where = f"arms.{arm}.{split}"
            _require_scores(file, where, {"loss": _mapping(file, where, measured).get("loss")})
            _require_scores(file, f"{where}.dimensions", measured.get("dimensions", {}))


def _mapping(file: Path, where: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise UserError(f"{file} has {found!r} under {where}, not a mapping; export the expert again")
    return found


def _require_scores(file: Path, where: str, scores: Any) -> None:
    for name, value in _mapping(file, where, scores).items():
        known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6
        if value is not None and not known:
            raise UserError(f"{file} has {value!r} under {where}.{name}, not a number; export the expert again")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number in JSON")
