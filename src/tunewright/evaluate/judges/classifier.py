"""A sequence classifier in a local folder tells refusals from answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from tunewright.core.errors import NotMeasured, nearest
from tunewright.core.plugins import Plugin
from tunewright.core.progress import Progress
from tunewright.evaluate.classifiers import content_of, open_classifier
from tunewright.evaluate.judging import Exchange, Reads, Ruling
from tunewright.models.contracts import LoadedModel

_BATCH = 16


class Classifier(Plugin):
    """A text classifier from a local folder (Hugging Face layout, safetensors) reads request and answer.

    Compliance is a refusal label that is less likely than all others together; its log-odds are the value.
    """

    version: ClassVar[str] = "2"
    reads: ClassVar[Reads] = "answers"
    grades: ClassVar[bool] = False

    folder: str = ""
    """Where the classifier lies."""
    refusal_label: str = "refusal"
    """Its label for a refusal, as in its `config.json`."""
    max_length: int = Field(512, gt=8)

    def rule(self, exchanges: Sequence[Exchange], model: LoadedModel | None, progress: Progress) -> Ruling:
        """Rules in batches.

        Raises:
            NotMeasured: No folder is named, it does not open, or it has no such label.
        """
        tokenizer, module, label = self._open()
        odds: list[float] = []
        for start in range(0, len(exchanges), _BATCH):
            part = exchanges[start : start + _BATCH]
            inputs = tokenizer(
                [exchange.request for exchange in part],
                [exchange.answer for exchange in part],
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            )
            with torch.inference_mode():
                logits = module(**inputs).logits.double()
            others = [k for k in range(logits.shape[1]) if k != label]
            odds += (logits[:, label] - logits[:, others].logsumexp(1)).tolist()
            progress("safety: classifying answers", len(odds), len(exchanges))
        value_N = np.array(odds)
        return Ruling(np.where(np.isnan(value_N), np.nan, value_N < 0), value_N=value_N)

    def __repr_args__(self) -> Any:
        """Answers are kept under this: another classifier in the same folder is another judge."""
        yield from super().__repr_args__()
        yield "content", (content_of(Path(self.folder)) if self.folder else "") or "absent"

    def _open(self) -> tuple[Any, Any, int]:
        folder = Path(self.folder).expanduser()
        if not self.folder or not (folder / "config.json").is_file():
            raise NotMeasured(f"no classifier lies in '{self.folder}'; set the judge's 'folder'")
        try:
            tokenizer, module = open_classifier(folder)
        except ValueError as error:
            raise NotMeasured(str(error)) from None
        labels = {str(name): int(number) for number, name in module.config.id2label.items()}
        if self.refusal_label not in labels or len(labels) < 2:
            hint = nearest(self.refusal_label, list(labels))
            raise NotMeasured(f"{folder} has no label '{self.refusal_label}'.{hint} It has {', '.join(labels)}")
        return tokenizer, module, labels[self.refusal_label]
