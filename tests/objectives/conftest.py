"""Tiny models and encoded rows for the tests of objectives and gradients."""

from __future__ import annotations

import numpy as np
import pytest

from tiny import one_thread, open_tiny
from tunewright.core.records import Answer, Example, text_part
from tunewright.data.encoder import Encoded

__all__ = ["one_thread", "open_tiny", "rows"]


@pytest.fixture
def rows() -> list[Encoded]:
    """Eight rows of unequal length whose targets are some of their tokens, with unequal weights."""
    draw = np.random.default_rng(7)
    made = []
    for index, length in enumerate([5, 9, 14, 6, 11, 7, 20, 8]):
        ids = draw.integers(5, 300, length)
        at = np.sort(draw.choice(length - 1, max(1, length // 2), replace=False))
        weights = draw.choice([0.25, 0.5, 1.0, 2.0], len(at)).astype(np.float32)
        example = Example((), (Answer((text_part("x"),)),), id=str(index))
        made.append(Encoded(example, {"input_ids": ids}, length, at, ids[at + 1], weights))
    return made
