"""What a mitigation may do; one that does not override a step leaves it as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.models.contracts import LoadedModel


@dataclass(frozen=True, slots=True)
class Effect:
    """What a mitigation did."""

    sentence: str
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON-able."""


class Mitigation(Plugin):
    """Base of mitigations."""

    doubles: ClassVar[bool] = False
    """Whether the rows that it adds say once more what stands in training rows."""

    @property
    def unseen(self) -> Mapping[str, Mapping[str, Any]]:
        """By a probe's name how it asks nothing that this trains on; no settings where it leaves out nothing."""
        return {}

    def check(self, train: Sequence[Example], model: LoadedModel, method: str) -> list[str]:
        """What stands in its way, a sentence each; empty when all is well."""
        return []

    def more_rows(self, train: Sequence[Example]) -> list[Example]:
        """Rows to train on beside the given ones."""
        return []

    def shortfall(self, train: Sequence[Example]) -> str:
        """Why it adds fewer rows than it was asked for, a sentence; empty if it does not."""
        return ""

    def price(self, model: LoadedModel) -> Effect | None:
        """What it costs whenever the finished model is used; None if nothing."""
        return None

    def project(self, model: LoadedModel) -> Effect | None:
        """Changes trained weights in place after the last step; None if it does not."""
        return None

    def serve(self, model: LoadedModel) -> LoadedModel:
        """The finished model as it is to be asked; done twice it is as done once."""
        return model
