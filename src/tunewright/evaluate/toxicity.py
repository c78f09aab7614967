"""What a scorer of toxicity is, and how a setting names one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tunewright.core import plugins
from tunewright.evaluate.contracts import Floats


class Scorer(Protocol):
    """Says of texts how toxic they are."""

    @property
    def content(self) -> str:
        """What its scores follow from beside its settings (weights, a list's words): kept answers are kept under it."""

    def scores(self, texts: Sequence[str]) -> Floats:
        """[texts] from 0 (not) to 1 (toxic).

        Raises:
            UserError: What it needs is not there.
        """


def scorer_of(setting: str | dict[str, Any]) -> Scorer:
    """The scorer of a plugin's setting; any other text is the folder of a classifier.

    Raises:
        UserError: No such scorer, or a setting that it has not.
    """
    if isinstance(setting, str) and setting.partition("(")[0].strip() not in plugins.names("scorers"):
        setting = {"name": "classifier", "folder": setting}
    found: Scorer = plugins.build("scorers", setting)
    return found
