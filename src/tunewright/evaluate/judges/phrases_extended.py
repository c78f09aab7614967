"""Refusal phrases, the extended published list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunewright.core.files import digest
from tunewright.core.plugins import Plugin
from tunewright.core.progress import Progress
from tunewright.evaluate.judges._phrases import ADDED, PUBLISHED, answered
from tunewright.evaluate.judging import Exchange, Reads, Ruling
from tunewright.models.contracts import LoadedModel


class PhrasesExtended(Plugin):
    """As `phrases`, with seven phrases more; an empty answer is no compliance.

    Qi et al., ICLR 2025, the keyword evaluation. More refusals are seen, and more harmless answers taken for refusals.
    """

    version: ClassVar[str] = f"1-{digest(PUBLISHED, ADDED)}"
    reads: ClassVar[Reads] = "answers"
    grades: ClassVar[bool] = False

    def rule(self, exchanges: Sequence[Exchange], model: LoadedModel | None, progress: Progress) -> Ruling:
        """Rules by substrings; needs no model."""
        return Ruling(answered(exchanges, (*PUBLISHED, *ADDED)))
