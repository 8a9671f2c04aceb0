"""Train the pocket model: `python -m experiments.pocket_model.train`. Seeded; resumes from its last checkpoint."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evoprompt.files import replacing
from experiments.pocket_model.corpus import Corpus, Stage
from experiments.pocket_model.packing import Batch, batches
from experiments.pocket_model.simulator import Simulator
from experiments.pocket_model.tokenizer import train_tokenizer

PACKAGE_DATA = Path(__file__).parents[2] / "evoprompt" / "llm" / "pocket"


def build_model(tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int) -> LlamaForCausalLM:
    """A Llama of the given width and depth with tied embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
        initializer_range=hidden**-0.5,
    )
    return LlamaForCausalLM(config)


def losses(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Excess cross-entropy of the answers (a KL divergence, soft targets) and next-token loss of the text, in nats."""
    hidden = model.model(
        input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
    ).last_hidden_state.flatten(0, 1)
    answer_logits = functional.log_softmax(model.lm_head(hidden[batch.answer_at]), dim=-1)
    wanted = batch.answer_probabilities
    found = answer_logits.gather(1, batch.answer_ids)
    divergence = (wanted * (wanted.log() - found)).sum(dim=1).mean()
    text_logits = model.lm_head(hidden[batch.next_at])
    return divergence, functional.cross_entropy(text_logits, batch.next_id)


def train(args: argparse.Namespace) -> None:
    """Run the recipe and write the model folder."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    simulator = Simulator(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(Corpus(simulator, seed=1), 6000, args.work / "tokenizer")
    model = build_model(tokenizer, args.hidden, args.layers)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.02)
    start = _resume(args.work, model, optimizer)
    corpus = Corpus(simulator, seed=2)
    stream = batches(corpus, tokenizer, args.rows, args.length)
    began, shown = time.time(), torch.zeros(2)
    for step in range(args.steps):
        corpus.stage = _stage(step, args.steps, len(simulator.trained))
        batch = next(stream)
        if step < start:
            continue
        for group in optimizer.param_groups:
            group["lr"] = args.rate * _schedule(step, args.steps)
        divergence, text = losses(model, batch)
        optimizer.zero_grad()
        (divergence + args.text_weight * text).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        shown += torch.stack([divergence.detach(), text.detach()])
        if (step + 1) % 50 == 0:
            print(
                f"step {step + 1}/{args.steps} answers {shown[0] / 50:.5f} text {shown[1] / 50:.3f} nats,"
                f" {time.time() - began:.0f} s",
                flush=True,
            )
            shown.zero_()
        if (step + 1) % 250 == 0:
            _checkpoint(args.work, model, optimizer, step + 1)
    model.half().save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up over 100 steps, then a cosine down to 2 %."""
    return min((step + 1) / 100, 0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))


def _stage(step: int, steps: int, cultures: int) -> Stage:
    """The curriculum: eight distinct cultures in one question form, exaggerated threefold; then all cultures, forms
    and kinds of text; then the differences fade to their true size.
    """
    part = step / steps
    return Stage(
        cultures=int(np.interp(part, [0.08, 0.22], [8, cultures])),
        contrast=float(np.interp(part, [0.35, 0.7], [3.0, 1.0])),
        mixed=float(np.interp(part, [0.08, 0.2], [0.0, 1.0])),
        persona_only=part < 0.08,
    )


def _checkpoint(work: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int) -> None:
    names = [name for name, _ in model.named_parameters()]
    tensors = {f"model/{name}": value.detach().clone() for name, value in model.named_parameters()}
    for name, state in zip(names, optimizer.state_dict()["state"].values(), strict=True):
        tensors |= {f"{key}/{name}": value.clone() for key, value in state.items()}
    with replacing(work / f"checkpoint-{step:06d}.safetensors") as partial:
        save_file(tensors, partial, metadata={"step": str(step)})


def _resume(work: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> int:
    found = sorted(work.glob("checkpoint-*.safetensors"))
    if not found:
        return 0
    tensors = load_file(found[-1])
    for name, parameter in model.named_parameters():
        parameter.data.copy_(tensors[f"model/{name}"])
        keys = {key.split("/")[0] for key in tensors} - {"model"}
        optimizer.state[parameter] = {key: tensors[f"{key}/{name}"] for key in keys}
    return int(found[-1].stem.split("-")[1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PACKAGE_DATA, help="model folder to write")
    parser.add_argument("--work", type=Path, default=Path("outputs/pocket_model"), help="checkpoints and tokenizer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=16, help="rows per step")
    parser.add_argument("--length", type=int, default=256, help="tokens per row")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument("--text-weight", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    train(_arguments())
