"""The pocket tokenizer: byte-level BPE trained on the corpus."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from evoprompt.surveys import cultures
from experiments.pocket_model.corpus import Corpus, Document, SoftTarget

VOCABULARY = 2048


def document_text(document: Document) -> str:
    """All of a document's text, answers written out."""
    pieces = [*document.prefix, *(piece for branch in document.branches for piece in branch)]
    return "".join(piece if isinstance(piece, str) else _written(piece) for piece in pieces)


def _written(answer: SoftTarget) -> str:
    return f" {answer.given or answer.labels[int(answer.probabilities.argmax())]}"


def train_tokenizer(corpus: Corpus, documents: int, folder: Path) -> PreTrainedTokenizerFast:
    """Train on `documents` drawn from `corpus` and on every culture's name; save into `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [document_text(corpus.draw()) for _ in range(documents)]
    texts += [f"You are from {culture.place}." for culture in cultures().values() for _ in range(20)]
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", model_max_length=1024
    )
    fast.save_pretrained(folder)
    return fast
