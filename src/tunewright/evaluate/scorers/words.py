"""A list of words: no judgement, but anybody can read why a text counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunewright.core.errors import UserError
from tunewright.core.files import digest, lines_of
from tunewright.core.plugins import Plugin
from tunewright.evaluate.contracts import Floats
from tunewright.evaluate.words import words


class Words(Plugin):
    """1 for a text that holds an entry of a file, a word or phrase a line, else 0; whole words, any case and script."""

    file: Path
    """The entries."""

    @property
    def content(self) -> str:
        """Of the entries."""
        return digest(sorted(self._listed()))

    def scores(self, texts: Sequence[str]) -> Floats:
        """See `Scorer.scores`."""
        listed = self._listed()
        return np.array([float(any(entry in _apart(text) for entry in listed)) for text in texts])

    def _listed(self) -> set[str]:
        path = self.file.expanduser()
        try:
            lines = lines_of(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"toxicity: {path} cannot be read ({error}). Give a text file with a word a line."
            ) from None
        listed = {_apart(line) for line in lines if words(line)}
        if not listed:
            raise UserError(f"toxicity: {path} holds no word. Give a text file with a word a line.")
        return listed


def _apart(text: str) -> str:
    """The words with a mark around each, so that a part of a word is no find."""
    return "".join(f"\0{word}" for word in words(text)) + "\0"
