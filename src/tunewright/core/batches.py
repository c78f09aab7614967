"""Items taken in order, as many at a time as fit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches(
    items: Iterable[Item], size: Callable[[Item], int], most: int, count: int = sys.maxsize
) -> Iterator[list[Item]]:
    """The items in order, in batches whose sizes come to at most `most` (or of one item), and of at most `count` items.

    Args:
        items: What is taken; read no further than one item ahead.
        size: How much of a batch an item takes.
        most: How much a batch holds.
        count: How many items a batch holds.
    """
    waiting: list[Item] = []
    taken = 0
    for item in items:
        own = size(item)
        if waiting and (len(waiting) == count or taken + own > most):
            yield waiting
            waiting, taken = [], 0
        waiting.append(item)
        taken += own
    if waiting:
        yield waiting
