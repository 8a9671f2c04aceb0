"""Queries as vectors: TF-IDF of words and letters, a sentence-transformers model, or the base model's states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from evoprompt.errors import UserError, unknown_name
from evoprompt.extras import require
from evoprompt.llm import FrozenModel
from evoprompt.routing.text import normalised

ENCODERS = ("tfidf", "sentence-transformers", "hidden")

Vectors: TypeAlias = sparse.csr_matrix | NDArray[np.float32]


class Encoder(Protocol):
    """An encoder of texts as vectors (n, d), rows of length 1, sparse or dense."""

    def fit(self, texts: Sequence[str]) -> None:
        """Learn what there is to learn from the training texts."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(n, d)."""

    def state(self) -> dict[str, Any]:
        """What `encoder_from` needs, as JSON has it; `kind` is one of `ENCODERS`."""


class TfidfEncoder:
    """TF-IDF of words, pairs of words, and runs of two to five letters within words; forgives misspelling."""

    PARTS: tuple[Mapping[str, Any], ...] = (
        {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\S+", "min_df": 1},
        {"analyzer": "char_wb", "ngram_range": (2, 5), "min_df": 2},
    )

    def __init__(self, vocabularies: Sequence[Mapping[str, Any]] = ()) -> None:
        self.parts = [
            TfidfVectorizer(**options, preprocessor=normalised, sublinear_tf=True, dtype=np.float32)
            for options in self.PARTS
        ]
        for part, known in zip(self.parts, vocabularies, strict=False):
            part.vocabulary_ = {word: place for place, word in enumerate(known["words"])}
            part.fixed_vocabulary_ = True
            part.idf_ = np.array(known["idf"], dtype=np.float32)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn vocabularies and document frequencies."""
        for part in self.parts:
            part.fit(texts)

    def encode(self, texts: Sequence[str]) -> Vectors:
        return sparse.hstack([part.transform(texts) for part in self.parts], format="csr") * np.float32(0.5**0.5)

    def state(self) -> dict[str, Any]:
        found = []
        for part in self.parts:
            ordered = sorted(part.vocabulary_, key=part.vocabulary_.__getitem__)
            found.append({"words": ordered, "idf": [round(float(value), 4) for value in part.idf_]})
        return {"kind": "tfidf", "vocabularies": found}


class SentenceEncoder:
    """Any sentence-transformers model, by hub name or folder (extra `encoders`)."""

    def __init__(self, name: str) -> None:
        require("encoder 'sentence-transformers'", "encoders")
        from sentence_transformers import SentenceTransformer

        self.name = name
        try:
            self.model = SentenceTransformer(name, device="cpu")
        except (OSError, ValueError) as error:
            raise UserError(f"sentence-transformers model {name!r} cannot be loaded: {error}") from None

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing: the model is trained."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        found = self.model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)

    def state(self) -> dict[str, Any]:
        return {"kind": "sentence-transformers", "name": self.name}


class HiddenEncoder:
    """The frozen base model's own last states, averaged over a query's tokens and whitened by the training texts."""

    def __init__(self, frozen: FrozenModel, mean: Sequence[float] = (), scale: Sequence[float] = ()) -> None:
        self.frozen = frozen
        self.mean, self.scale = np.array(mean, np.float32), np.array(scale, np.float32)
        self._known: dict[str, NDArray[np.float32]] = {}  # states of the training texts, which are encoded again

    def fit(self, texts: Sequence[str]) -> None:
        """Learn mean and spread of each state."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known |= dict(zip(missing, self._states(missing), strict=True)) if missing else {}
        states = np.stack([self._known[text] for text in texts])
        self.mean, self.scale = states.mean(axis=0), states.std(axis=0) + 1e-6

    def encode(self, texts: Sequence[str]) -> Vectors:
        if not len(self.mean):
            raise ValueError("fit the encoder first")
        states = [self._known[text] if text in self._known else self._states([text])[0] for text in texts]
        white = (np.stack(states) - self.mean) / self.scale
        return np.asarray(white / np.maximum(np.linalg.norm(white, axis=1, keepdims=True), 1e-6), np.float32)

    @torch.inference_mode()
    def _states(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found = []
        for text in texts:
            embedded = self.frozen.embed(text)[: (self.frozen.max_length or 512)]
            states = self.frozen.model(inputs_embeds=embedded[None], output_hidden_states=True).hidden_states[-1]
            found.append(states[0].float().mean(dim=0).cpu().numpy())
        return np.stack(found)

    def state(self) -> dict[str, Any]:
        return {
            "kind": "hidden",
            "model": self.frozen.spec.name,
            "fingerprint": self.frozen.fingerprint,
            "mean": [round(float(value), 6) for value in self.mean],
            "scale": [round(float(value), 6) for value in self.scale],
        }


def make_encoder(kind: str, name: str | None = None, frozen: FrozenModel | None = None) -> Encoder:
    """An encoder that is still to be fitted.

    Parameters
    ----------
    kind
        One of `ENCODERS`.
    name
        For sentence-transformers: the model.
    frozen
        For `hidden`: the base model.

    Raises
    ------
    UserError
        The kind is unknown, or what it needs is not given.
    """
    if kind == "tfidf":
        return TfidfEncoder()
    if kind == "sentence-transformers":
        if not name:
            raise UserError("encoder 'sentence-transformers' needs a model's name or folder")
        return SentenceEncoder(name)
    if kind == "hidden":
        if frozen is None:
            raise UserError("encoder 'hidden' needs the base model")
        return HiddenEncoder(frozen)
    raise unknown_name("encoder", kind, ENCODERS)


def encoder_from(state: Mapping[str, Any], frozen: FrozenModel | None = None) -> Encoder:
    """The encoder that `state()` described.

    Raises
    ------
    UserError
        It needs a base model, and there is none or another one.
    """
    if state["kind"] == "tfidf":
        return TfidfEncoder(state["vocabularies"])
    if state["kind"] == "sentence-transformers":
        return SentenceEncoder(state["name"])
    if frozen is None or frozen.fingerprint != state["fingerprint"]:
        found = "none" if frozen is None else f"{frozen.spec.name!r}"
        raise UserError(f"this router reads the states of model {state['model']!r}, but the base model is {found}")
    return HiddenEncoder(frozen, state["mean"], state["scale"])
