"""The digits example: a small network that knows 0 to 4, and pictures of 5 to 9 to tune it on. No download."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tunewright.core.config import Request
from tunewright.core.files import cache_folder, write_atomic, write_json
from tunewright.core.progress import silent
from tunewright.models.embedded import RECORD
from tunewright.models.families.image_classifier import ImageClassifier, Shape

NAME = "digits"
_REVISION = 1
"""Counted up when the rows or the network change."""
_SEED = 0
_STEPS = 300
_WIDTH = 8


def shape(labels: Iterable[str], width: int = _WIDTH) -> Shape:
    """The network for some of the digits: 8 x 8 pixels, grey, 6,600 weights unless it is made wider."""
    return Shape(tuple(labels), side=8, colours=1, width=width, stages=3)


def folder(width: int = _WIDTH) -> Path:
    """Where the example lies once it is made: `rows.jsonl` of 5 to 9, and `model`, which has seen 0 to 4 alone."""
    return cache_folder() / "data" / (f"{NAME}-{_REVISION}" if width == _WIDTH else f"{NAME}-{_REVISION}-wide-{width}")


def make(progress: Callable[[str], None], width: int = _WIDTH) -> Path:
    """The example's folder; made in some seconds unless it is there."""
    from tunewright.pipeline.train import train

    made = folder(width)
    if (made / RECORD).is_file():
        return made
    place = made.with_name(f".{made.name}.tmp")
    shutil.rmtree(place, ignore_errors=True)
    progress("Writing 1,797 handwritten digits (8 x 8 pixels, from scikit-learn: UCI, CC BY 4.0).")
    write_digits(place / "before.jsonl", range(5))
    write_digits(place / "rows.jsonl", range(5, 10))
    progress("Training a small network on 0 to 4.")
    start = ImageClassifier().fresh(place / "start", shape("01234", width), _SEED)
    sets = (f"train.max_steps={_STEPS}", "train.threads=1", f"train.save_steps={_STEPS}", f"seed={_SEED}")
    request = Request(str(place / "before.jsonl"), None, sets, (), place / "run", None, str(start))
    result = train(request, silent)
    assert result.run is not None  # train always makes one
    ImageClassifier().fresh(place / "model", shape("56789", width), _SEED, result.run / "model")
    for left in (start, result.run):
        shutil.rmtree(left)
    write_json(place / RECORD, {"name": NAME, "licence": "CC BY 4.0", "origin": "scikit-learn's load_digits (UCI)"})
    shutil.rmtree(made, ignore_errors=True)
    place.rename(made)
    return made


def write_digits(path: Path, classes: Iterable[int]) -> Path:
    """Rows of the format `picture` for some of the digits."""
    from sklearn.datasets import load_digits

    digits, wanted = load_digits(), set(classes)
    rows = [
        {"image": (image * 255 / 16).round().astype(int).tolist(), "label": str(label)}
        for image, label in zip(digits.images, digits.target, strict=True)
        if int(label) in wanted
    ]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return path
