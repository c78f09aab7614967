"""Training rows once more in a dialect, answers as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tunewright.core.files import digest
from tunewright.core.records import Example, Turn, text_part
from tunewright.data.dialect import counterfactual, has_verb
from tunewright.mitigations._base import Mitigation
from tunewright.models.contracts import LoadedModel


class Counterfactual(Mitigation):
    """Trains on rows once more with what the user says put into a dialect by rule, the answer as it is.

    Counterfactual data augmentation (Lu et al. 2020; Zmigrod et al. 2019): whoever asks, the answer is the same. Rows
    in which no rule fits have no counterpart. Labels, the row's own answer, code and addresses stay as they are.
    """

    doubles: ClassVar[bool] = True

    share: float = Field(1.0, gt=0, le=1)
    """Of the rows that have a counterpart, how many get it."""
    portion: Literal["all", "trained"] = "all"
    """`trained` leaves what the user says as it is where it has a verb that the dialect probe asks in `held_out`."""

    @property
    def unseen(self) -> Mapping[str, Mapping[str, Any]]:
        """Verbs that were left as they are, where some were."""
        return {"dialect": {"portion": "held_out"} if self.portion == "trained" else {}}

    def check(self, train: Sequence[Example], model: LoadedModel, method: str) -> list[str]:
        """Rows in which no rule fits at all."""
        if any(self._counterparts(train)):
            return []
        if self.portion == "trained":
            return [
                "counterfactual: no training row without a held-out verb has words that the rules put into a dialect. "
                "Leave it out, or take portion: all."
            ]
        return ["counterfactual: no training row has words that the rules put into a dialect. Leave it out."]

    def more_rows(self, train: Sequence[Example]) -> list[Example]:
        """The counterparts, a fixed choice by content."""
        found = [*self._counterparts(train)]
        found.sort(key=lambda example: digest("counterfactual", example.id))
        return found[: math.ceil(self.share * len(found))]

    def _counterparts(self, train: Sequence[Example]) -> Iterator[Example]:
        """The rows in which something changes, with their user turns put into the dialect."""
        labels = frozenset(example.answer.text for example in train if example.label)
        for example in train:
            own = [] if example.label else [answer.text.strip() for answer in example.answers]
            turns = tuple(self._turn(turn, labels, own) for turn in example.context)
            if any(turn is not same for turn, same in zip(turns, example.context, strict=True)):
                yield replace(example, context=turns, id=f"{example.id}-counterfactual")

    def _turn(self, turn: Turn, labels: frozenset[str], own: Sequence[str]) -> Turn:
        if turn.role != "user" or (self.portion == "trained" and has_verb(turn.text, "held_out")):
            return turn
        parts = tuple(
            text_part(counterfactual(part.value, labels, own)) if part.kind == "text" else part for part in turn.parts
        )
        return replace(turn, parts=parts) if parts != turn.parts else turn
