"""How far a canary's rank among others of its kind gives it away, and whether its secret is said outright.

Carlini et al. 2019, "The Secret Sharer": exposure = log2 of the number of candidates - log2 of the canary's rank. It
shows a leak; it is no bound on epsilon.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from tunewright.evaluate.contracts import Floats
from tunewright.evaluate.membership import Share, share_of


def ranks(included_I: Floats, left_out_J: Floats) -> Floats:
    """[included] rank of each included canary among those left out and itself; 1 is the surest, ties count half.

    Args:
        included_I: [included] scores, higher = more likely seen.
        left_out_J: [left out] scores.
    """
    ordered_J = np.sort(left_out_J)
    above_I = len(ordered_J) - np.searchsorted(ordered_J, included_I, side="right")
    equal_I = len(ordered_J) - np.searchsorted(ordered_J, included_I, side="left") - above_I
    return np.asarray(1 + above_I + equal_I / 2)


def exposures(included_I: Floats, left_out_J: Floats) -> Floats:
    """[included] exposure of each included canary, in bits, among those left out and itself.

    Canaries left out are drawn as the included ones are, so without memory every rank is as likely as another.

    Args:
        included_I: [included] scores, higher = more likely seen.
        left_out_J: [left out] scores; ties count half.
    """
    found: Floats = np.log2(len(left_out_J) + 1) - np.log2(ranks(included_I, left_out_J))
    return found


def own_ranks(left_out_J: Floats) -> Floats:
    """[left out] rank of each canary left out among all of them: what ranks look like where nothing is remembered."""
    return np.asarray(rankdata(-left_out_J))


def chance(candidates: int) -> float:
    """Mean exposure, in bits, where nothing is remembered and all ranks are equally likely."""
    return float(np.log2(candidates) - np.log2(np.arange(1, candidates + 1)).mean())


def extracted(secrets: Sequence[str], continuations: Sequence[str]) -> Share:
    """Share of secrets that the greedy continuation of their beginning says whole, spaces aside."""
    said = sum(
        "".join(secret.split()) in "".join(text.split()) for secret, text in zip(secrets, continuations, strict=True)
    )
    return share_of(said, len(secrets))
