# %% [markdown]
# # Use an expert in PEFT
# An expert is a folder that PEFT loads as it is: an evolved soft prompt for a frozen model. This one comes with the
# package and was evolved for India on the bundled pocket model, a simulator: nothing here is evidence about people.

# %%
import numpy as np
import torch
from peft import PeftModel

from evoprompt.experts import BUNDLED, Registry
from evoprompt.llm import ModelSpec, Respondent, load_model
from evoprompt.surveys import balanced_plan, vsm13

frozen = load_model(ModelSpec(name="pocket", device="cpu"))
registry = Registry(BUNDLED, frozen)  # or a folder of your own runs
expert, folder = registry["india"], registry.path("india")
print(f"{expert.provenance['culture']['name']}: {len(expert.prompt)} soft tokens in {folder.name}/")

# %% [markdown]
# ## Load and generate
# PEFT puts the prompt before everything, so it serves experts of `prefix` placement as they were evolved. It wraps the
# model it is given; `disable_adapter` asks that model alone.

# %%
tuned = PeftModel.from_pretrained(frozen.model, folder).eval()
assert expert.served_by_peft

question = "How do I greet my host?"
ids = frozen.tokenizer(f"Question: {question}\nAnswer:", return_tensors="pt").input_ids


def first_line(tokens: torch.Tensor) -> str:
    """The answer in generated tokens: this model has no chat template and ends its answers with a line."""
    return frozen.tokenizer.decode(tokens, skip_special_tokens=True).strip().split("\n")[0]


with tuned.disable_adapter():
    print(f"without: {first_line(tuned.generate(input_ids=ids, max_new_tokens=16)[0, ids.shape[1] :])}")
print(f"with:    {first_line(tuned.generate(input_ids=ids, max_new_tokens=16)[0, ids.shape[1] :])}")

# %% [markdown]
# ## The same probabilities
# The survey's scores come from the probabilities of the option labels. PEFT gives the ones the search has seen.

# %%
plan = balanced_plan(vsm13())
asked, texts = plan.questions[::8], plan.texts()[::8]
respondent = Respondent(frozen, expert.placement)
sheet = respondent.sheet(texts, [one.labels for one in asked])
ours = respondent.answer(expert.prompt[None], sheet)[0]  # (questions, 5)
bare = respondent.answer(expert.prompt[None, :0], sheet)[0]  # no soft tokens


@torch.inference_mode()
def option_probabilities(text: str, labels: tuple[str, ...]) -> np.ndarray:
    """Probabilities (options,) of the labels where the answer is read, by PEFT's own forward pass."""
    logits = tuned(input_ids=frozen.tokenizer(text, return_tensors="pt").input_ids).logits[0, -1]
    return torch.softmax(logits[[frozen.tokenizer(f" {label}").input_ids[0] for label in labels]], dim=-1).numpy()


theirs = np.stack([option_probabilities(text, one.labels) for text, one in zip(texts, asked, strict=True)])
print(f"{len(texts)} questions: PEFT and evoprompt differ by at most {abs(ours - theirs).max():.0e}")
print(f"{len(texts)} questions: with and without the expert differ by up to {abs(ours - bare).max():.2f}")

# %% [markdown]
# ## vLLM and SGLang
# They take embeddings in place of token ids: vLLM as `{"prompt_embeds": tensor}`, SGLang as `input_embeds`. This works
# for every placement, and generating from the embeddings says the same.

# %%
embeds = expert.prompt_embeds(question, frozen)  # the soft prompt, then the question as the model reads it
with tuned.disable_adapter():
    output = frozen.model.generate(inputs_embeds=embeds[None], max_new_tokens=16)
print(f"prompt_embeds {tuple(embeds.shape)}: {first_line(output[0])}")
