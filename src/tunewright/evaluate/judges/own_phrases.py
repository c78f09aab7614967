"""Refusal phrases of your own, for the language that the model answers in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.files import file_digest, lines_of, read_text
from tunewright.core.plugins import Plugin
from tunewright.core.progress import Progress
from tunewright.evaluate.judges._phrases import answered
from tunewright.evaluate.judging import Exchange, Reads, Ruling
from tunewright.models.contracts import LoadedModel


class OwnPhrases(Plugin):
    """As `phrases_extended`, with the phrases of a file, one a line: the published ones are English."""

    version: ClassVar[str] = "1"
    reads: ClassVar[Reads] = "answers"
    grades: ClassVar[bool] = False

    file: str = ""
    """The phrases, as they stand in refusals (case counts)."""

    def rule(self, exchanges: Sequence[Exchange], model: LoadedModel | None, progress: Progress) -> Ruling:
        """Rules by substrings; needs no model.

        Raises:
            NotMeasured: No file is named, or it is not there.
            UserError: The file holds no phrase, or is not in UTF-8.
        """
        return Ruling(answered(exchanges, self._phrases()))

    def __repr_args__(self) -> Any:
        """Answers are kept under this: other phrases in the same file are another judge."""
        yield from super().__repr_args__()
        path = Path(self.file).expanduser()
        yield "content", file_digest([path]) if self.file and path.is_file() else "absent"

    def _phrases(self) -> tuple[str, ...]:
        path = Path(self.file).expanduser()
        if not self.file or not path.is_file():
            raise NotMeasured(f"no phrases lie in '{self.file}'; set the judge's 'file'")
        phrases = tuple(line.strip().replace("’", "'") for line in lines_of(read_text(path)) if line.strip())
        if not phrases:
            raise UserError(f"own_phrases: {path} holds no phrase. Give one a line, as they stand in refusals.")
        return phrases
