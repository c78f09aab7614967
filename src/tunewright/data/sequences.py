"""Sequences whose members are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


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
