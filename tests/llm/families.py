"""Small random models of many families, saved as a user's folder with that family's chat-template convention."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer

HIDDEN, LAYERS, LENGTH, WINDOW = 32, 3, 512, 40
ROTARY = {
    "hidden_size": HIDDEN,
    "intermediate_size": 2 * HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": LENGTH,
}
GEMMA = {**ROTARY, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": WINDOW}
FALCON = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_kv_heads": 4}

ROUTED = {**ROTARY, "num_local_experts": 4, "output_router_logits": True}  # its output begins with a loss
OPT = {
    "hidden_size": HIDDEN,
    "word_embed_proj_dim": 16,
    "ffn_dim": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
LLAMA4 = {**ROTARY, "intermediate_size_mlp": 64, "head_dim": 8, "num_local_experts": 2, "attention_chunk_size": WINDOW}
SWITCH = {"original_max_position_embeddings": 57}  # some questions are longer, some are not
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, **SWITCH}

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""

QWEN2 = """{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

QWEN3 = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
    {{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

MISTRAL = """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] + '\\n\\n' %}{%- set messages = messages[1:] %}
{%- else %}{%- set system_message = '' %}{%- endif %}
{{- bos_token }}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- '[INST] ' + (system_message if loop.first else '') + message['content'] + '[/INST]' }}
    {%- else %}{{- ' ' + message['content'] + eos_token }}{%- endif %}
{%- endfor %}"""

GEMMA2 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"""

GEMMA3 = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' %}{%- set messages = messages[1:] %}
{%- else %}{%- set first_user_prefix = '' %}{%- endif %}
{%- for message in messages %}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
    {{- '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else '') }}
    {{- message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"""

PHI3 = """{%- for message in messages %}
    {%- if message['role'] != 'system' or message['content'] %}
        {{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- else %}{{- eos_token }}{%- endif %}"""

OLMO2 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|' + message['role'] + '|>\\n' + message['content'] }}
    {{- eos_token if message['role'] == 'assistant' else '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"""

CHATML = ("<|im_start|>",)
TURNS = ("<start_of_turn>",)
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
HEADERS = ("<|start_header_id|>", "<|end_header_id|>")


@dataclass(frozen=True)
class Family:
    """A configuration class with its values, and how its tokenizer begins, marks and ends turns."""

    config: str
    values: dict[str, Any]
    template: str | None = None
    bos: str | None = "<|endoftext|>"
    eos: str = "<|endoftext|>"
    marks: tuple[str, ...] = field(default=())
    begins: bool = False  # the tokenizer itself writes BOS before a text


FAMILIES = {
    "llama": Family("LlamaConfig", ROTARY, LLAMA3, "<|begin_of_text|>", "<|eot_id|>", HEADERS, True),
    "qwen2": Family("Qwen2Config", ROTARY, QWEN2, None, "<|im_end|>", CHATML),
    "qwen3": Family("Qwen3Config", {**ROTARY, "head_dim": 8}, QWEN3, None, "<|im_end|>", CHATML),
    "mistral": Family(
        "MistralConfig", {**ROTARY, "sliding_window": WINDOW}, MISTRAL, "<s>", "</s>", ("[INST]", "[/INST]"), True
    ),
    "gemma2": Family(
        "Gemma2Config",
        {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        GEMMA2,
        "<bos>",
        "<end_of_turn>",
        TURNS,
        True,
    ),
    "gemma3": Family(
        "Gemma3TextConfig",
        {**GEMMA, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
        GEMMA3,
        "<bos>",
        "<end_of_turn>",
        TURNS,
        True,
    ),
    "phi3": Family("Phi3Config", ROTARY, PHI3, "<s>", "<|endoftext|>", (*ROLES, "<|end|>")),
    "olmo2": Family("Olmo2Config", ROTARY, OLMO2, marks=ROLES),
    "gpt2": Family("GPT2Config", {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": 4, "n_positions": LENGTH}),
    "gpt_neox": Family("GPTNeoXConfig", {k: v for k, v in ROTARY.items() if k != "num_key_value_heads"}),
    "falcon": Family("FalconConfig", {**FALCON, "max_position_embeddings": LENGTH}),
    "falcon_alibi": Family(
        "FalconConfig", {**FALCON, "alibi": True, "parallel_attn": False, "multi_query": False, "bias": True}
    ),
    "mpt": Family("MptConfig", {"d_model": HIDDEN, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": LENGTH}),
    "bloom": Family("BloomConfig", {"hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": 4}, None, "<s>", "</s>"),
    "opt": Family("OPTConfig", {**OPT, "max_position_embeddings": LENGTH}, None, "</s>", "</s>"),
    "granite": Family("GraniteConfig", {**ROTARY, "logits_scaling": 0.5, "embedding_multiplier": 5.0}),
    "mixtral": Family("MixtralConfig", ROUTED, MISTRAL, "<s>", "</s>", ("[INST]", "[/INST]"), True),
    "gpt_oss": Family("GptOssConfig", {**ROTARY, "head_dim": 8, "num_local_experts": 4, "sliding_window": WINDOW}),
    "llama4": Family("Llama4TextConfig", LLAMA4),
    "mamba": Family("MambaConfig", {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "state_size": 8}),
    "phi3_longrope": Family("Phi3Config", {**ROTARY, "rope_parameters": LONGROPE, **SWITCH}, None, "<s>"),
}


every_family = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in FAMILIES])


def build(name: str, folder: Path) -> None:
    """Save a random model of a family with its tokenizer; the same weights each time."""
    family = FAMILIES[name]
    tokenizer = family_tokenizer(family)
    tokenizer.save_pretrained(folder)
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    config = getattr(transformers, family.config)(**family.values, **ids, vocab_size=len(tokenizer))
    with torch.random.fork_rng():
        torch.manual_seed(0)  # biases and the like are moved from where they begin
        model = AutoModelForCausalLM.from_config(config)
    opinionated(model).save_pretrained(folder)


def family_tokenizer(family: Family) -> Any:
    """The bundled tokenizer with a family's special tokens and chat template."""
    tokenizer = AutoTokenizer.from_pretrained(str(resources.files("evoprompt.llm") / "pocket"))
    tokenizer.add_special_tokens({"eos_token": family.eos, "pad_token": family.eos})
    tokenizer.add_tokens(list(family.marks), special_tokens=True)
    if family.bos is None:
        tokenizer.bos_token = None
    else:
        tokenizer.add_special_tokens({"bos_token": family.bos})
    if family.begins:
        begun = {"single": f"{family.bos} $A", "pair": f"{family.bos} $A {family.bos} $B"}
        special = [(family.bos, tokenizer.bos_token_id)]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(**begun, special_tokens=special)
    tokenizer.chat_template = family.template
    return tokenizer


def opinionated(model: Any) -> Any:
    """Draw weights anew, large enough for answers to depend on everything that is read.

    Matrices keep the scale of what passes through them; vectors (biases, norms) move a little.
    """
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.1 * noise)
    model.get_output_embeddings().weight.data.mul_(0.5)  # log-probabilities of labels that spread by about a half
    return model
