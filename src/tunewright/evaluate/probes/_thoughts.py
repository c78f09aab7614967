"""What a model thinks aloud before it answers, and how a probe knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.models.chat import TEMPLATE_FAULTS
from tunewright.models.contracts import Generation, LoadedModel

_MARKS = ("<think>", "</think>")
"""What stands around thoughts in most families."""
IN_THOUGHTS = "thoughts follow the prompt, so what stands there is no answer yet"


def answers_later(model: LoadedModel) -> bool:
    """Whether what follows the prompt is thoughts: by the template, or as the model was trained."""
    return begins_thoughts(model.tokenizer) or not model.opens


def begins_thoughts(tokenizer: Any) -> bool:
    """Whether the template's prompt for an answer ends with the beginning of thoughts."""
    if not getattr(tokenizer, "chat_template", None):
        return False
    turn = [{"role": "user", "content": "Hello"}]
    try:
        head = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
    except TEMPLATE_FAULTS:  # whoever asks by it says so in words
        return False
    return head.rstrip().endswith(_MARKS[0])


def spoken(answers: Sequence[Generation], begun: bool) -> tuple[list[Generation], NDArray[np.bool_]]:
    """The answers without what a model thinks aloud before them, and which end within the thoughts.

    Args:
        answers: As they were written.
        begun: Whether the template itself begins the thoughts.
    """
    start, end = _MARKS
    said = [replace(a, text=a.text.partition(end)[2].strip()) if end in a.text else a for a in answers]
    within = [a.within or (end not in a.text and (begun or a.text.lstrip().startswith(start))) for a in answers]
    return said, np.array(within, dtype=bool)
