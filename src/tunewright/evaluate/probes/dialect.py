"""Covert prejudice against speakers of a dialect: matched-guise probing, with overt prejudice beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tunewright.core.errors import UserError
from tunewright.core.files import digest
from tunewright.core.plugins import Plugin
from tunewright.data.dialect import Pair, Portion, make_pairs, read_pairs
from tunewright.evaluate.contracts import ProbeResult, Progress
from tunewright.evaluate.dialect import blocks as shown
from tunewright.evaluate.dialect.ask import Texts, ask
from tunewright.evaluate.dialect.findings import Findings, changes, describe
from tunewright.evaluate.dialect.words import read_ratings, read_words
from tunewright.evaluate.probes._protocol import Answers, Part, afresh
from tunewright.models.contracts import LoadedModel
from tunewright.models.modes import evaluating

_FULL = 672
"""Pairs of the full probe: 84 of each feature, 12,096 prompts over the traits."""


class Dialect(Plugin):
    """Covert prejudice against speakers of a dialect, as the same meaning in two varieties shows it."""

    needs: ClassVar[frozenset[str]] = frozenset({"raw_texts"})
    section: ClassVar[str] = "bias"
    forms: ClassVar[Mapping[str, Mapping[str, Any]]] = {"quick": {"count": 24}, "full": {}}

    count: int | None = Field(None, ge=2)
    """Pairs; None = 672 made ones, or all of the file."""
    pairs: Path | None = None
    """A file of your own pairs: variant, tab, standard; made ones of African American English without."""
    attributes: tuple[Path, ...] = ()
    """Files of words: a word a line, and if need be a tab and its kind, a tab and 1, 0 or -1 for favourable."""
    ratings: Path | None = None
    """A JSON file of what people said of the words: only with it are agreement, favourability and prestige measured."""
    groups: tuple[str, str] = ("black", "white")
    """What the overt prompts call speakers of the variant and of the standard."""
    portion: Portion = "all"
    """`held_out` asks only verbs and prompts that `guise_consistency`, and `counterfactual` with `portion: trained`,
    never train on. Of made pairs alone: those of a file have no portions."""

    @model_validator(mode="after")
    def _portion_of_made_pairs(self) -> Dialect:
        if self.pairs is not None and self.portion != "all":
            raise UserError(
                f"dialect: portion '{self.portion}' is of the made pairs, and pairs of a file ({self.pairs}) have no "
                "portions. Leave out one of the two."
            )
        return self

    @property
    def version(self) -> str:
        """Of the questions: pairs and words, and in front which prompts are asked."""
        words = [(word.kind, word.text) for some in read_words(self.attributes).values() for word in some]
        prompts = 2 if self.portion == "held_out" else 1
        return f"{prompts}-{digest(words, [(pair.variant, pair.standard) for pair in self._pairs()])}"

    def __repr_args__(self) -> Any:
        """Answers are kept under this, and what people said of the words is no part of the questions."""
        return [(name, None if name == "ratings" else value) for name, value in super().__repr_args__()]

    def ask(self, model: LoadedModel, progress: Progress, part: Part = afresh) -> dict[str, NDArray[Any]]:
        """See `evaluate.dialect.ask`.

        Raises:
            UserError: A file is not as expected, or the model's log-probabilities are not finite.
        """
        words = read_words(self.attributes)
        read_ratings(self.ratings)  # a fault in it is told before the long asking
        with torch.inference_mode(), evaluating(model.module):
            return ask(model, Texts.of(self._pairs()), words, self.groups, self.portion, progress, part)

    def describe(self, answers: Answers, seed: int, resamples: int) -> dict[str, Any]:
        """`q` by kind and word, covert and overt bias, decisions, perplexity, and what was not measured."""
        found = describe(self._of(answers, seed, resamples))
        return {**found, "sentences": list(shown.alone(found))}

    def compare(self, base: Answers, tuned: Answers, seed: int, resamples: int) -> ProbeResult:
        """Rise of covert and of overt bias and of what is measured beside them, over the same draws.

        Raises:
            UserError: Base and tuned were asked different texts.
        """
        if any(base[name].shape != tuned[name].shape for name in base):
            raise UserError("dialect: base and tuned were asked different texts. Ask both again.")
        before, after = (self._of(answers, seed, resamples) for answers in (base, tuned))
        change = self._of({name: tuned[name] - base[name] for name in base}, seed, resamples)
        found = tuple(changes(before, after, change))
        return ProbeResult(found, tuple(shown.blocks(before, after, found)), shown.sentence(found))

    def _pairs(self) -> tuple[Pair, ...]:
        if self.pairs is None:
            return make_pairs(self.count or _FULL, self.portion)
        found = read_pairs(self.pairs)
        if self.count and self.count > len(found):
            raise UserError(f"--count {self.count}: {self.pairs} has {len(found)} pairs.")
        return found[: self.count]

    def _of(self, answers: Answers, seed: int, resamples: int) -> Findings:
        return Findings(
            answers, self._pairs(), read_words(self.attributes), read_ratings(self.ratings), (seed, resamples)
        )
