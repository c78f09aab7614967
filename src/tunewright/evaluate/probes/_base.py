"""What a probe is, and what probes ask of a family beside its fixed contract."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import UserError
from tunewright.core.plugins import Plugin
from tunewright.core.progress import Progress
from tunewright.core.records import Example
from tunewright.evaluate.contracts import Answers as Answers
from tunewright.evaluate.contracts import Part as Part
from tunewright.evaluate.contracts import ProbeResult
from tunewright.evaluate.contracts import afresh as afresh
from tunewright.models.contracts import LoadedModel

ASKED = "asked"
"""Name of the array in which answers bear the version of the questions, where these come from files that may change."""


def answers_to(probe: Probe, answers: Answers) -> Answers:
    """The answers without the version that they bear.

    Raises:
        UserError: It is not the probe's: files have changed since, and the answers belong to other questions.
    """
    if str(answers[ASKED]) != probe.version:
        raise UserError(
            f"{probe.plugin_name()}: the texts, words or prompts have changed since the model was asked, so that its "
            "answers belong to others. Put the files back, or ask both models again."
        )
    return {name: values for name, values in answers.items() if name != ASKED}


class Probe(Plugin):
    """Base of probes: asks base and tuned the same, and compares the answers."""

    forms: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Form (`quick`, `full`) -> the fields that make it; without a form a probe is asked only when it is named."""

    needs: ClassVar[frozenset[str]]
    """Capabilities the family must have."""

    section: ClassVar[str]
    """Chapter of the report, also where it says that it could not measure."""

    replaces_ours: ClassVar[frozenset[str]] = frozenset()
    """Settings that put a file in the place of what is ours: of that, nothing is known to be trained on."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Names the code's protocol and the content of its texts: a changed text is a changed version."""

    def read_files(self) -> None:
        """Reads what it will ask, so that a fault in a file is told before training.

        Raises:
            UserError: A file is missing or not as expected.
            NotMeasured: What it needs is not installed.
        """
        _ = self.version

    def costing(self) -> Probe:
        """The probe that asks the model the same and nobody else (judge, classifier), to count what that costs."""
        return self

    @abstractmethod
    def ask(self, model: LoadedModel, progress: Progress, part: Part = afresh) -> dict[str, NDArray[Any]]:
        """The model's answers as named arrays.

        They are kept, keyed by the model's digest, its precision, the probe's name and fields, and `version`.

        Args:
            model: Base or tuned.
            progress: Is told how far it is.
            part: What takes long is made in pieces through it, so that an interrupted asking goes on where it was.

        Raises:
            NotMeasured: It cannot be asked here.
            UserError: The model doesn't give usable numbers.
        """

    @abstractmethod
    def describe(self, answers: Answers, seed: int, resamples: int) -> dict[str, Any]:
        """What one model's answers come to, in JSON values: what `tunewright probe NAME --json OUT` writes."""

    @abstractmethod
    def compare(self, base: Answers, tuned: Answers, seed: int, resamples: int) -> ProbeResult:
        """What changed from base to tuned; a pure function of its arguments.

        Raises:
            NotMeasured: The answers do not hold what is needed.
            UserError: The two answers don't belong to the same questions.
        """


class PredictsNext(Protocol):
    """A family with the capability `next_log_probs`."""

    def next_log_probs(
        self, model: LoadedModel, contexts: Sequence[Example], after: str = "", positions: int = 1
    ) -> Iterator[NDArray[np.float32]]:
        """For each context, in order, [vocabulary] log-probabilities (nats) of the token an answer would begin with.

        Args:
            model: The model.
            contexts: What is answered.
            after: An answer along which to go on.
            positions: How many arrays a context gets: before each of the first tokens of that answer.
        """
