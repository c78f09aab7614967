"""What a probe is, and what probes ask of a family beside its fixed contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.core.records import Example
from tunewright.evaluate.contracts import ProbeResult, Progress
from tunewright.models.contracts import LoadedModel

Answers = Mapping[str, NDArray[Any]]
"""What a model answered: named arrays without objects, so that they can be kept as npz."""


class Probe(Protocol):
    """Asks base and tuned the same, and compares the answers."""

    needs: ClassVar[frozenset[str]]
    """Capabilities the family must have."""
    version: ClassVar[str]
    """Names the code's protocol and the content of its texts: a changed text is a changed version."""

    def ask(self, model: LoadedModel, progress: Progress) -> dict[str, NDArray[Any]]:
        """The model's answers as named arrays.

        Base's are kept, keyed by the model's digest, its precision, the probe's name and fields, and `version`.

        Raises:
            UserError: The model doesn't give usable numbers.
        """

    def compare(self, base: Answers, tuned: Answers, seed: int, resamples: int) -> ProbeResult:
        """What changed from base to tuned; a pure function of its arguments.

        Raises:
            UserError: The two answers don't belong to the same questions.
        """


class PredictsNext(Protocol):
    """A family with the capability `next_log_probs`."""

    def next_log_probs(self, model: LoadedModel, contexts: Sequence[Example]) -> Iterator[NDArray[np.float32]]:
        """For each context, in order, [vocabulary] log-probabilities (nats) of the token an answer would begin with."""
