"""Text classifiers in local folders, which judges and probes ask: opened in one way, known by their weights."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from tunewright.core.files import file_digest
from tunewright.models.whole import lacks


def open_classifier(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and module (in evaluation mode) of a folder in Hugging Face layout; safetensors, no remote code.

    Raises:
        ValueError: The folder does not open, in one line.
    """
    return _opened(folder, weights_of(folder))


@lru_cache(maxsize=1)
def _opened(folder: Path, weights: str) -> tuple[Any, Any]:
    """Kept open, since it is asked piece by piece; other weights in the folder are another classifier."""
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
    return tokenizer, module.eval()


def weights_of(folder: Path) -> str:
    """Hash of the classifier's weights: another one in the same folder answers otherwise. Empty when there are none."""
    stats = [(path, path.stat()) for path in sorted(folder.expanduser().glob("*.safetensors"))]
    return _hashed(tuple((path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats))


@lru_cache(maxsize=8)
def _hashed(files: tuple[tuple[Path, int, int, int], ...]) -> str:
    return file_digest(path for path, *_ in files) if files else ""
