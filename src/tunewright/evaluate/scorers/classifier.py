"""A sequence classifier in a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunewright.core.errors import UserError
from tunewright.core.plugins import Plugin
from tunewright.evaluate.classifiers import content_of, open_classifier
from tunewright.evaluate.contracts import Floats

_TOXIC = ("toxic", "toxicity")
"""Names of a label, in small letters, of which no other sense is usual."""


class Classifier(Plugin):
    """A text classifier from a local folder (Hugging Face layout, safetensors); the probability of its toxic label.

    Of a classifier whose labels do not exclude one another (`multi_label_classification`), that label's own.
    """

    folder: Path
    """Where it lies, with its tokenizer."""
    label: str = ""
    """The toxic label, as in its `config.json`; empty = the only one, or the one of two that is named so."""

    @property
    def content(self) -> str:
        """Of the weights."""
        return content_of(self.folder)

    def scores(self, texts: Sequence[str]) -> Floats:
        """See `Scorer.scores`."""
        try:
            tokenizer, module = open_classifier(self.folder.expanduser())
        except ValueError as error:
            raise UserError(f"toxicity: {error}. Give the folder of one, with its tokenizer.") from None
        place = self._place({int(place): str(label) for place, label in module.config.id2label.items()})
        return np.array(
            [_probability(tokenizer(text, truncation=True, return_tensors="pt"), module, place) for text in texts]
        )

    def _place(self, labels: dict[int, str]) -> int:
        """Where the toxic label stands.

        Raises:
            UserError: There is no such label, or nothing says which it is: a guess would be another figure unseen.
        """
        allowed = ", ".join(labels.values())
        if self.label:
            places = [place for place, label in labels.items() if label == self.label]
            if not places:
                raise UserError(f"toxicity: {self.folder} has no label '{self.label}'. Allowed: {allowed}.")
            return places[0]
        if len(labels) == 1:
            return 0
        named = [place for place, label in labels.items() if label.lower() in _TOXIC]
        if len(labels) > 2 or not named:
            raise UserError(
                f"toxicity: {self.folder} has the labels {allowed}, and nothing says which of them is the toxic one. "
                f"Name it: classifier(folder={self.folder}, label=...)."
            )
        return named[-1]


def _probability(inputs: Any, module: Any, place: int) -> float:
    """Of the label at a place; a text without a token says nothing toxic."""
    if not inputs["input_ids"].numel():
        return 0.0
    with torch.inference_mode():
        logits = module(**inputs).logits[0].float()
    alone = len(logits) == 1 or module.config.problem_type == "multi_label_classification"
    return float((logits.sigmoid() if alone else logits.softmax(-1))[place])
