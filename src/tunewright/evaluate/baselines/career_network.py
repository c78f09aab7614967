"""A small transformer on codes, from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunewright.core.records import Example
from tunewright.evaluate.baselines._labels import targets
from tunewright.evaluate.baselines._network import network_outcomes
from tunewright.evaluate.contracts import Baseline, Outcome


class CareerNetwork(Baseline):
    """A small transformer on the codes of titles (the idea of CAREER), from scratch on the target's own rows."""

    validated: ClassVar[bool] = True
    """Validation rows choose when it stops, as they choose the model's own best step."""

    seed: int = 0

    def applies(self, train: Sequence[Example], test: Sequence[Example]) -> bool:
        """Whether the rows are careers."""
        return bool(train) and train[0].running

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
        return network_outcomes([targets(train)], test, labels, self.seed, valid)
