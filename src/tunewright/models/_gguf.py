"""A GGUF file becomes a folder in Hugging Face's layout: float32 weights, tokenizer, chat template."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from tunewright.core.errors import UserError
from tunewright.core.files import read_json, write_json

_SPLITS_DIGITS = frozenset({"smollm"})
"""Values of `tokenizer.ggml.pre` whose tokenizer splits digits one by one before the byte-level step."""


def convert(gguf: Path, out: Path, pad_token: str) -> None:
    """Writes config, safetensors, tokenizer, chat template and generation defaults into `out`.

    transformers reads the file and de-quantises it, but goes on calling the model quantised and refuses to save it;
    so the weights move into a fresh module of the same configuration.

    Args:
        gguf: The file, of an architecture that transformers reads.
        out: An existing, empty folder.
        pad_token: A token of the vocabulary that no text produces, so that padding is never mistaken for the end.

    Raises:
        UserError: The vocabulary lacks the padding token, or padding and end would be one token.
    """
    with _quiet():
        tokenizer = _tokenizer(gguf, pad_token)
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = model.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(model.state_dict())
        plain.generation_config = model.generation_config
        plain.save_pretrained(out)
        tokenizer.model_max_length = config.max_position_embeddings
        tokenizer.save_pretrained(out)
        _name_plainly(out / "tokenizer_config.json")


def _tokenizer(gguf: Path, pad_token: str) -> Any:
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, clean_up_tokenization_spaces=False)
    if pad_token not in tokenizer.get_vocab() or pad_token == tokenizer.eos_token:
        raise UserError(
            f"{gguf.name}: the padding token {pad_token!r} must be in the vocabulary and differ from the "
            f"end-of-sequence token {tokenizer.eos_token!r}. Name another one."
        )
    tokenizer.pad_token = pad_token
    if _pre_tokenizer_name(gguf) in _SPLITS_DIGITS:
        _split_digits(tokenizer)
    return tokenizer


def _pre_tokenizer_name(gguf: Path) -> str:
    found = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    return str(found.contents()) if found is not None else ""


def _split_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    """Puts back the step that the reader of GGUF files leaves out.

    Without it a run of spaces before a digit gives other tokens than the model was trained on ('a  1').
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _name_plainly(config: Path) -> None:
    """Names the tokenizer's class as every library since 2020 knows it, and drops how this one file was opened."""
    stated = {key: value for key, value in read_json(config).items() if key not in ("is_local", "local_files_only")}
    write_json(config, {**stated, "tokenizer_class": "PreTrainedTokenizerFast"})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and notices; what they would say is in our own progress lines."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the reader of GGUF files draws a bar of its own
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
