"""Covert prejudice against speakers of a dialect: matched-guise probing, with overt prejudice beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tunewright.core.errors import UserError
from tunewright.core.files import digest
from tunewright.core.progress import Progress
from tunewright.data.dialect import Pair, Portion, make_pairs, read_pairs, require_units
from tunewright.evaluate.contracts import ProbeResult
from tunewright.evaluate.dialect import blocks as shown
from tunewright.evaluate.dialect.ask import Texts, ask
from tunewright.evaluate.dialect.findings import Findings, changes, describe
from tunewright.evaluate.dialect.frames import read_frames
from tunewright.evaluate.dialect.words import read_ratings, read_words
from tunewright.evaluate.probes._base import ASKED, Answers, Part, Probe, afresh, answers_to
from tunewright.models.contracts import LoadedModel
from tunewright.models.modes import evaluating

_FULL = 672
"""Pairs of the full probe: 84 of each feature, 12,096 prompts over the traits."""


class Dialect(Probe):
    """Covert prejudice against speakers of a dialect, as the same meaning in two varieties shows it."""

    needs: ClassVar[frozenset[str]] = frozenset({"raw_texts"})
    section: ClassVar[str] = "bias"
    forms: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {"count": 24}, "full": {}}
    replaces_ours: ClassVar[frozenset[str]] = frozenset({"pairs", "frames"})

    count: int | None = Field(None, ge=2)
    """Pairs; None = 672 made ones, or all of the file."""
    pairs: Path | None = None
    """A file of your own pairs: variant, tab, standard; made ones of African American English without."""
    attributes: tuple[Path, ...] = ()
    """Files of words: a word a line, and if need be a tab and its kind, a tab and 1, 0 or -1 for favourable."""
    frames: Path | None = None
    """A file of prompts in place of ours, which are English: a kind (`trait`, `occupation`, `conviction`, `sentence`,
    `overt`), a tab, a prompt with `{}` where the text goes."""
    ratings: Path | None = None
    """A JSON file of what people said of the words: only with it are agreement, favourability and prestige measured."""
    groups: tuple[str, str] = ("black", "white")
    """What the overt prompts call speakers of the variant and of the standard."""
    portion: Portion = "all"
    """`held_out` asks only verbs and prompts that `guise_consistency`, and `counterfactual` with `portion: trained`,
    never train on. Of made pairs alone: those of a file have no portions."""

    @model_validator(mode="after")
    def _portion_of_made_pairs(self) -> Dialect:
        for what, file in (("pairs", self.pairs), ("prompts", self.frames)):
            if file is not None and self.portion != "all":
                raise UserError(
                    f"dialect: portion '{self.portion}' is of the made pairs and of our prompts, and {what} of a file "
                    f"({file}) have no portions. Leave out one of the two."
                )
        return self

    @property
    def version(self) -> str:
        """Of the questions: pairs, words and prompts, and in front which of ours are asked and how they are counted."""
        words = [(word.kind, word.text) for some in read_words(self.attributes).values() for word in some]
        own = [] if self.frames is None else [read_frames(self.frames)]
        prompts = 6 if self.portion == "held_out" else 5
        return f"{prompts}-{digest(words, [(pair.variant, pair.standard) for pair in self._pairs()], *own)}"

    def read_files(self) -> None:
        """Pairs, words and prompts, and what people said of the words."""
        super().read_files()
        read_ratings(self.ratings)

    def __repr_args__(self) -> Any:
        """Answers are kept under this, and what people said of the words is no part of the questions."""
        return [(name, None if name == "ratings" else value) for name, value in super().__repr_args__()]

    def ask(self, model: LoadedModel, progress: Progress, part: Part = afresh) -> dict[str, NDArray[Any]]:
        """See `evaluate.dialect.ask`; beside it `asked`, the version of the questions.

        Raises:
            UserError: A file is not as expected, or the model's log-probabilities are not finite.
        """
        words = read_words(self.attributes)
        read_ratings(self.ratings)  # a fault in it is told before the long asking
        prompts = read_frames(self.frames, self.portion)
        asked = {ASKED: np.array(self.version)}
        with torch.inference_mode(), evaluating(model.module):
            return asked | ask(model, Texts.of(self._pairs()), words, self.groups, prompts, progress, part)

    def describe(self, answers: Answers, seed: int, resamples: int) -> dict[str, Any]:
        """`q` by kind and word, covert and overt bias, decisions, perplexity, and what was not measured."""
        found = describe(self._of(answers_to(self, answers), seed, resamples))
        return {**found, "sentences": [*shown.alone(found), *self._ours()]}

    def compare(self, base: Answers, tuned: Answers, seed: int, resamples: int) -> ProbeResult:
        """Rise of covert and of overt bias and of what is measured beside them, over the same draws.

        Raises:
            UserError: Base and tuned were asked different texts.
        """
        was, now = answers_to(self, base), answers_to(self, tuned)
        risen = {name: now[name] - was[name] for name in was}
        before, after, change = (self._of(answers, seed, resamples) for answers in (was, now, risen))
        found = tuple(changes(before, after, change))
        ours = self._ours()
        said = " ".join((shown.sentence(after, found), *ours))
        return ProbeResult(found, (*shown.blocks(before, after, found), *shown.shipped(ours)), said)

    def _ours(self) -> list[str]:
        """With pairs of a file, what is still ours, and so English or of other groups."""
        if self.pairs is None:
            return []
        asked, shipped, used = read_frames(self.frames), read_words(()), read_words(self.attributes)
        english = ", ".join(kind for kind in asked if shipped.get(kind) and used[kind] == shipped[kind])
        said = {
            "The prompts are English; for another language give yours with --frames FILE.": self.frames is None,
            f"The words ({english}) are English; for another language give yours with --attributes FILE.": english,
            f"Overt bias is of the groups {self.groups[0]} and {self.groups[1]}; name others with --groups.": (
                "groups" not in self.model_fields_set
            ),
        }
        return [sentence for sentence, holds in said.items() if holds]

    def _pairs(self) -> tuple[Pair, ...]:
        if self.pairs is None:
            return make_pairs(self.count or _FULL, self.portion)
        found = read_pairs(self.pairs)
        if self.count and self.count > len(found):
            raise UserError(f"--count {self.count}: {self.pairs} has {len(found)} pairs.")
        kept = found[: self.count]
        require_units(kept, f"{self.pairs}, the first {len(kept)} pairs" if self.count else str(self.pairs))
        return kept

    def units(self) -> int:
        """How many units (verbs, or what the pairs' file names) tell how sure a figure is."""
        return len({pair.unit for pair in self._pairs()})

    def _of(self, answers: Answers, seed: int, resamples: int) -> Findings:
        return Findings(
            answers, self._pairs(), read_words(self.attributes), read_ratings(self.ratings), (seed, resamples)
        )
