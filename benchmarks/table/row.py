"""What a row of the table is: programs that are run in turn, and figures made of what they print."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]
"""The JSON line that a child process printed, with `peak_bytes` and `wall_seconds` added by the runner."""
Round = Mapping[str, Result]
"""One round of a row: the result of each side, run one after the other."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the programs that a row compares: `python -m MODULE ARGUMENTS`, whose last line is JSON."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    peer: bool = False
    """Runs in the peers' environment."""
    once: bool = False
    """So slow that it runs in the first round alone; its result stands in every round."""
    note: str = ""
    """What a reader must know of its figures; always printed under the table."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table."""

    name: str
    values: Callable[[Sequence[Round]], list[float]]
    """From all rounds to one value a round (or fewer)."""
    reach: float | None = None
    """None = shown for information."""
    at_most: bool = False
    """The reach is an upper limit."""

    def reached(self, value: float) -> bool:
        """Whether a value keeps the reach; always true of a figure without one."""
        return self.reach is None or (value <= self.reach if self.at_most else value >= self.reach)


@dataclass(frozen=True, slots=True)
class Row:
    """What is compared, by which programs, and the figures that come of it."""

    name: str
    what: str
    sides: tuple[Side, ...]
    figures: tuple[Figure, ...]
    rounds: int | None = None
    """Rounds whatever was asked for: a row whose one run takes long, or is deterministic."""
    options: tuple[str, ...] = ()
    """Those of the runner's options that change what its programs do."""
    impossible: str = ""
    """Why this machine cannot measure it; empty = it can."""


def each(value: Callable[[Round], float]) -> Callable[[Sequence[Round]], list[float]]:
    """A figure that needs no round but its own."""
    return lambda rounds: [value(one) for one in rounds]


def ratio(over: str, under: str, of: Callable[[Result], float]) -> Callable[[Sequence[Round]], list[float]]:
    """The same quantity of two sides of a round, divided."""
    return each(lambda one: of(one[over]) / of(one[under]))


def of_side(side: str, of: Callable[[Result], float]) -> Callable[[Sequence[Round]], list[float]]:
    """A quantity of one side."""
    return each(lambda one: of(one[side]))
