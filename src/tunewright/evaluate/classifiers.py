"""Text classifiers in local folders, which judges and probes ask: opened in one way, known by their weights."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from tunewright.core.files import file_digest
from tunewright.models.whole import lacks

_READ = {".safetensors", ".json", ".txt", ".model"}
"""Endings of the files that make up a classifier."""


def open_classifier(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and module (in evaluation mode) of a folder in Hugging Face layout; safetensors, no remote code.

    Raises:
        ValueError: The folder does not open, in one line.
    """
    return _opened(folder, content_of(folder))


@lru_cache(maxsize=1)
def _opened(folder: Path, content: str) -> tuple[Any, Any]:
    """Kept open, since it is asked piece by piece; other files in the folder are another classifier."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        module, loaded = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} does not open as a text classifier: {str(error).splitlines()[0]}") from None
    if fault := lacks(folder, loaded):
        raise ValueError(fault)
    if tokenizer.pad_token is None:  # many that were made from models that write have none
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise ValueError(f"the tokenizer in {folder} has no token to fill up with (pad_token)")
    if module.config.pad_token_id is None:
        module.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, module.eval()


def content_of(folder: Path) -> str:
    """Hash of weights, labels and tokenizer: other files in the folder answer otherwise. Empty without weights."""
    folder = folder.expanduser()
    stats = [(path, path.stat()) for path in sorted(folder.glob("*")) if path.suffix in _READ and path.is_file()]
    if not any(path.suffix == ".safetensors" for path, _ in stats):
        return ""
    return _hashed(tuple((path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats))


@lru_cache(maxsize=8)
def _hashed(files: tuple[tuple[Path, int, int, int], ...]) -> str:
    return file_digest(path for path, *_ in files)
