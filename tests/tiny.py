"""Tiny random models with tokenizers and chat templates, made offline and saved in Hugging Face layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tunewright.core.plugins import build
from tunewright.models.contracts import LoadedModel, Origin

PACKING = ("llama", "gpt2", "qwen2", "qwen3", "gemma3")
"""Attention models: packed rows can equal rows alone."""
KINDS = (*PACKING, "mamba")
"""Mamba carries a state from token to token, so it can't pack."""
ALL_KINDS = (*KINDS, "mamba2")
"""Mamba2's norms take a gate beside what they norm; it is slow, so only where the architecture is what is tested."""

_TEXT = [
    "The baker bakes bread before dawn and sells it warm in the market square.",
    "A nurse writes down what the patient said, then asks the doctor about the medicine.",
    "Which code describes this diagnosis? Answer with one label: positive, negative or neutral.",
    "Elle a répondu: «non, merci». Über die Brücke fährt ein Zug. 你好，世界。",
    "0123456789 + - * / = ( ) [ ] { } : ; , . ! ? ' \" \n\t",
]
_PAD, _START, _STOP, _TURN, _END = "<pad>", "<s>", "</s>", "<|turn|>", "<|end|>"

_PLAIN = (
    "{%- for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor -%}"
    "{%- if add_generation_prompt %}<|turn|>assistant\n{% endif -%}"
)
_GEMMA = (
    "{{ bos_token }}{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}"
    "<|turn|>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<|end|>\n{% endfor -%}"
    "{%- if add_generation_prompt %}<|turn|>model\n{% endif -%}"
)
_TEMPLATES = {"gemma3": _GEMMA, "llama": "{{ bos_token }}" + _PLAIN}
_ADDS_START = ("llama", "gemma3")
"""Their tokenizers put the start token before every text, and so do their templates: the trap of two starts."""


@cache
def _trained_tokenizer() -> str:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        _TEXT,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=[_PAD, _START, _STOP, _TURN, _END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return core.to_str()


def tiny_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of about 320 tokens with the kind's chat template; pad, start and stop differ."""
    core = Tokenizer.from_str(_trained_tokenizer())
    if kind in _ADDS_START:
        start = (_START, core.token_to_id(_START))
        core.post_processor = processors.TemplateProcessing(f"{_START} $A", f"{_START} $A $B", [start])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=_PAD,
        bos_token=_START,
        eos_token=_STOP,
        extra_special_tokens=[_TURN, _END],
        chat_template=_TEMPLATES.get(kind, _PLAIN),
        clean_up_tokenization_spaces=False,
    )


def _config(kind: str, vocab_size: int) -> PreTrainedConfig:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": vocab_size}
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
    }
    if kind == "llama":
        return LlamaConfig(**ids, **shape, tie_word_embeddings=False)
    if kind == "qwen2":
        shape.pop("head_dim")
        return Qwen2Config(**ids, **shape, tie_word_embeddings=True)
    if kind == "qwen3":
        return Qwen3Config(**ids, **shape, tie_word_embeddings=True)
    if kind == "gemma3":
        layers = ["sliding_attention", "full_attention", "sliding_attention"]
        caps = {"final_logit_softcapping": 20.0, "query_pre_attn_scalar": 8}
        return Gemma3TextConfig(**ids, **shape, **caps, sliding_window=8, layer_types=layers)
    if kind == "gpt2":
        still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        return GPT2Config(**ids, **still, n_embd=32, n_layer=3, n_head=4, n_positions=512)
    if kind == "mamba":
        return MambaConfig(**ids, hidden_size=32, num_hidden_layers=3, state_size=4, intermediate_size=48)
    if kind == "mamba2":
        heads = {"num_heads": 4, "head_dim": 16, "n_groups": 1, "expand": 2, "chunk_size": 16}
        return Mamba2Config(**ids, **heads, hidden_size=32, num_hidden_layers=3, state_size=4)
    raise ValueError(f"no tiny model '{kind}'; there are {', '.join(ALL_KINDS)}")


_CLASSES: dict[str, type[PreTrainedModel]] = {
    "llama": LlamaForCausalLM,
    "gpt2": GPT2LMHeadModel,
    "qwen2": Qwen2ForCausalLM,
    "qwen3": Qwen3ForCausalLM,
    "gemma3": Gemma3ForCausalLM,
    "mamba": MambaForCausalLM,
    "mamba2": Mamba2ForCausalLM,
}


def tiny_model(kind: str, seed: int = 0) -> PreTrainedModel:
    """A random model of the kind, float32; every weight (gains and biases too) is off its usual start value."""
    vocab_size = (len(tiny_tokenizer(kind)) // 8 + 1) * 8  # more rows than tokens, as real models have
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _CLASSES[kind](_config(kind, vocab_size))
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.1)
    return model.eval()


def save_tiny(kind: str, folder: Path, seed: int = 0) -> Path:
    """Saves a tiny model with its tokenizer in Hugging Face layout; returns the folder."""
    model, tokenizer = tiny_model(kind, seed), tiny_tokenizer(kind)
    stops = [2, tokenizer.convert_tokens_to_ids(_END)] if kind == "gemma3" else 2
    model.generation_config = GenerationConfig(pad_token_id=0, bos_token_id=1, eos_token_id=stops)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def open_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., LoadedModel]:
    """`open_tiny(kind, dtype)` opens a fresh copy of a tiny model; its folder is written once. For a conftest."""
    folders: dict[str, Path] = {}

    def opened(kind: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
        if kind not in folders:
            folders[kind] = save_tiny(kind, tmp_path_factory.mktemp(kind))
        model: LoadedModel = build("families", "causal_lm").open(Origin(f"tiny {kind}", folders[kind], "none"), dtype)
        return model

    return opened


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny products are faster alone than shared out among threads. For a conftest."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
