"""How much a candidate costs, counted: tokens, attention pairs and floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evoprompt.llm import Sheet

__all__ = ["Work", "flops", "generate_work", "padded_work", "plain_work", "trie_work"]


@dataclass(frozen=True)
class Work:
    """What one candidate takes.

    `tokens` go through the layers and see `pairs` tokens, themselves included; of them `ends` go on in the last layer
    when their keys are there, and see `end_pairs`. `logits` entries of the vocabulary are computed.
    """

    tokens: int
    pairs: int
    ends: int
    end_pairs: int
    logits: int


def flops(config: Any, work: Work) -> int:
    """Floating-point operations of a Llama: two for a weight and token, four for a pair, head and channel.

    Norms, activations and embeddings are left out. Attention counts visible pairs only, whatever a kernel computes.
    """
    hidden, head = config.hidden_size, config.head_dim
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    into_keys = 2 * hidden * keys
    rest = 2 * hidden * queries + 3 * hidden * config.intermediate_size
    before = config.num_hidden_layers - 1
    linear = work.tokens * (before * (into_keys + rest) + into_keys) + work.ends * rest
    pairs = work.pairs * before + work.end_pairs
    return 2 * linear + 4 * queries * pairs + 2 * hidden * work.logits


def lengths(sheet: Sheet, tokens: int) -> list[int]:
    """Tokens of each question with its soft prompt."""
    return [len(before) + tokens + len(after) for before, after in zip(sheet.before, sheet.after, strict=True)]


def plain_work(tokens: int, length: int, logits: int = 0) -> Work:
    """Causal rows of `length`, so many that they hold `tokens`."""
    pairs = tokens * (length + 1) // 2
    return Work(tokens, pairs, tokens, pairs, logits)


def generate_work(sheet: Sheet, tokens: int, new_tokens: int, vocabulary: int) -> Work:
    """A call a question: its tokens, and one more for each new token but the last."""
    every = [n + new_tokens - 1 for n in lengths(sheet, tokens)]
    count, pairs = sum(every), sum(n * (n + 1) // 2 for n in every)
    return Work(count, pairs, count, pairs, len(sheet) * new_tokens * vocabulary)


def padded_work(sheet: Sheet, tokens: int, batch: int, vocabulary: int, last_only: bool) -> Work:
    """Batches of `batch` questions, each as long as the longest of its batch; one of all questions if it holds more."""
    every = lengths(sheet, tokens)
    count = pairs = 0
    for start in range(0, len(every), batch):
        part = every[start : start + batch]
        count += len(part) * max(part)
        pairs += len(part) * max(part) * (max(part) + 1) // 2
    return Work(count, pairs, count, pairs, vocabulary * (len(every) if last_only else count))


def trie_work(sheet: Sheet, tokens: int) -> Work:
    """Each distinct beginning of a question once, from its soft prompt on; the last layer for answers only.

    What comes before the soft prompt is the same for every candidate and not counted.
    """
    contexts = set(zip(sheet.before, sheet.after, strict=True))
    befores = {before for before, _ in contexts}
    nodes = {(before, after[:end]) for before, after in contexts for end in range(1, len(after) + 1)}
    soft = sum(_causal(len(before), tokens) for before in befores)
    pairs = soft + sum(len(before) + tokens + len(after) for before, after in nodes)
    ends = sum(len(before) + tokens + len(after) for before, after in contexts)
    options = sum(len(labels) for labels in sheet.options)
    return Work(tokens * len(befores) + len(nodes), pairs, len(contexts), ends, options)


def _causal(start: int, count: int) -> int:
    """Pairs of `count` tokens in a row after `start` others."""
    return count * start + count * (count + 1) // 2
