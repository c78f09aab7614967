"""Sequences whose members are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar, overload

import numpy as np

T = TypeVar("T")


def evenly(count: int, most: int) -> list[int]:
    """At most so many numbers below a count, evenly spread, the first and the last among them."""
    found: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()
    return found


class OnDemand(Sequence[T], Generic[T]):
    """A sequence from its length and `at`; a slice is a list."""

    @abstractmethod
    def at(self, place: int) -> T:
        """The member at a place, counted from the front."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        places = range(len(self))
        return [self.at(place) for place in places[index]] if isinstance(index, slice) else self.at(places[index])


class Joined(OnDemand[T]):
    """One sequence, then another."""

    def __init__(self, first: Sequence[T], then: Sequence[T]) -> None:
        self.first, self.then = first, then

    def __len__(self) -> int:
        return len(self.first) + len(self.then)

    def at(self, place: int) -> T:
        """A member of the first, or of the second behind it."""
        here = len(self.first)
        return self.first[place] if place < here else self.then[place - here]
