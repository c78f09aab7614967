"""A sequence classifier in a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunewright.core.errors import UserError
from tunewright.core.plugins import Plugin
from tunewright.evaluate.classifiers import open_classifier, weights_of
from tunewright.evaluate.contracts import Floats


class Classifier(Plugin):
    """A text classifier from a local folder (Hugging Face layout, safetensors); the probability of its toxic label."""

    folder: Path
    """Where it lies, with its tokenizer."""
    label: str = ""
    """The toxic label, as in its `config.json`; empty = the last one."""

    @property
    def content(self) -> str:
        """Of the weights."""
        return weights_of(self.folder)

    def scores(self, texts: Sequence[str]) -> Floats:
        """See `Scorer.scores`."""
        try:
            tokenizer, module = open_classifier(self.folder.expanduser())
        except ValueError as error:
            raise UserError(f"toxicity: {error}. Give the folder of one, with its tokenizer.") from None
        place = self._place(module.config.id2label)
        return np.array(
            [_probability(tokenizer(text, truncation=True, return_tensors="pt"), module, place) for text in texts]
        )

    def _place(self, labels: dict[int, str]) -> int:
        if not self.label:
            return -1
        places = [int(place) for place, label in labels.items() if label == self.label]
        if not places:
            allowed = ", ".join(labels.values())
            raise UserError(f"toxicity: {self.folder} has no label '{self.label}'. Allowed: {allowed}.")
        return places[0]


def _probability(inputs: Any, module: Any, place: int) -> float:
    """Of the label at a place; a text without a token says nothing toxic."""
    if not inputs["input_ids"].numel():
        return 0.0
    with torch.inference_mode():
        logits = module(**inputs).logits[0].float()
    return float(logits.softmax(-1)[place] if len(logits) > 1 else logits.sigmoid()[0])
