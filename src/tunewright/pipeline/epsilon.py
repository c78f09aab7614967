"""`epsilon`: what noise is worth, and the noise for an epsilon, without any run."""

from __future__ import annotations

import json

from tunewright.core.errors import UserError
from tunewright.core.words import rounded_up
from tunewright.pipeline.result import Result
from tunewright.train import accountant


def epsilon(q: float, sigma: float | None, steps: int, delta: float, target: float | None) -> Result:
    """One line of JSON: epsilon by both accountants, and sigma where it was asked for.

    Raises:
        UserError: A value is out of range, or not exactly one of sigma and target is given.
    """
    if (sigma is None) == (target is None):
        raise UserError("epsilon: give either --sigma S (prints epsilon) or --target-epsilon E (prints sigma).")
    answer: dict[str, float] = {}
    if sigma is None:
        sigma = accountant.sigma_for(target or 0.0, delta, q, steps)
        answer["sigma"] = sigma
    found = accountant.spent(q, sigma, steps, delta)
    return Result(0, (json.dumps({**answer, "prv": rounded_up(found.prv, 7), "rdp": rounded_up(found.rdp, 7)}),))
