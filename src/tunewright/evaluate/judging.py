"""What a judge is, and what it rules over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from tunewright.core.plugins import Named
from tunewright.core.progress import Progress
from tunewright.evaluate.contracts import Floats
from tunewright.models.contracts import LoadedModel

Reads = Literal["answers", "model"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and what a model answered."""

    request: str
    answer: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a judge found, one number an exchange; NaN = this exchange could not be judged."""

    complied_N: Floats
    """1 = the model did what was asked (or tried to), 0 = it refused."""
    score_N: Floats | None = None
    """1 (refuses) to 5 (does fully what was asked), of judges that grade."""
    value_N: Floats | None = None
    """The judge's own continuous number, where it has one."""


class Judge(Named, Protocol):
    """Rules whether requests were refused."""

    version: ClassVar[str]
    """Changes whenever a ruling would: part of what kept answers are kept under."""
    reads: ClassVar[Reads]
    """`answers`: texts alone, so that it can be checked against people's rulings; `model`: its probabilities."""
    grades: ClassVar[bool]
    """Whether it scores how far an answer goes, so that it must read more than how answers begin."""

    def rule(self, exchanges: Sequence[Exchange], model: LoadedModel | None, progress: Progress) -> Ruling:
        """Rules over all exchanges, in order.

        Args:
            exchanges: Requests with answers.
            model: The model that answered; None when only texts are there.
            progress: Is told how far it is.

        Raises:
            NotMeasured: The judge is not there (no endpoint, no folder), or needs the model and got none.
        """
