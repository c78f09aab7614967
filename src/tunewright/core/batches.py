"""Items taken in order, as many at a time as fit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches(
    items: Iterable[Item], size: Callable[[Item], int], most: int, count: int = sys.maxsize, padded: bool = False
) -> Iterator[list[Item]]:
    """The items in order, in batches whose sizes come to at most `most` (or of one item), and of at most `count` items.

    Args:
        items: What is taken; read no further than one item ahead.
        size: How much of a batch an item takes.
        most: How much a batch holds.
        count: How many items a batch holds.
        padded: Whether each item of a batch takes as much as its largest one.
    """
    waiting: list[Item] = []
    taken = largest = 0
    for item in items:
        own = size(item)
        together = (len(waiting) + 1) * max(largest, own) if padded else taken + own
        if waiting and (len(waiting) == count or together > most):
            yield waiting
            waiting, taken, largest = [], 0, 0
        waiting.append(item)
        taken, largest = taken + own, max(largest, own)
    if waiting:
        yield waiting
