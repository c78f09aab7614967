"""A small transformer on codes, pre-trained on other people's careers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunewright.core.records import Example
from tunewright.data.pool import from_pool
from tunewright.evaluate.baselines._labels import counting, targets
from tunewright.evaluate.baselines._network import network_outcomes
from tunewright.evaluate.contracts import Baseline, Outcome


class CareerNetworkPooled(Baseline):
    """As career_network, pre-trained on the rows of `data.pool` and then fine-tuned on the target's own (CAREER)."""

    validated: ClassVar[bool] = True
    """Validation rows choose when it stops, as they choose the model's own best step."""

    seed: int = 0

    def applies(self, train: Sequence[Example], test: Sequence[Example]) -> bool:
        """Whether the rows are careers and some are of a pool."""
        return any(example.running and from_pool(example) for example in train)

    def outcomes(
        self,
        train: Sequence[Example],
        test: Sequence[Example],
        labels: Sequence[str],
        valid: Sequence[Example] = (),
    ) -> list[Outcome]:
        """One outcome a test example.

        Raises:
            UserError: No training row has a label of the list.
        """
        pool = counting([example for example in train if from_pool(example)])
        return network_outcomes([pool, targets(train)], test, labels, self.seed, valid)
