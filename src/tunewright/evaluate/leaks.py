"""What a model gives away of the rows that it was trained on, as figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.evaluate.contracts import Comparison, Floats
from tunewright.evaluate.exposure import chance, exposures, own_ranks, ranks
from tunewright.evaluate.membership import Share, auc, found_at
from tunewright.evaluate.one_run_audit import Bound, audit

_QUIET = 0.5
"""Below this no chance explains it, however few steps and coordinates there were to measure it on."""
FALSE_ALARMS = (0.01, 0.1)
"""Rates at which members are looked for."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a run says of itself; epsilon is infinite where it promises nothing."""

    epsilon: float = math.inf
    delta: float = 0.0

    @property
    def made(self) -> bool:
        """Whether there is anything to test."""
        return math.isfinite(self.epsilon)

    def to_json(self) -> dict[str, float | None]:
        """Plain values; an infinite epsilon is None."""
        return {"epsilon": self.epsilon if self.made else None, "delta": self.delta}


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of rows under base and tuned: sums and counts, [rows] each."""

    base: Floats
    tuned: Floats
    count: Floats

    @property
    def fall(self) -> Floats:
        """[rows] how far training brought each row's loss down, in nats."""
        return self.base - self.tuned


@dataclass(frozen=True, slots=True)
class Canaried:
    """What the canaries of one run tell."""

    claim: Claim
    """Of the run that the canaries are of."""
    tested: Claim
    """What the bound is compared with: the same at the delta of the test; epsilon is infinite where none is made."""
    bound: Bound
    exposure: float
    """Mean over the included canaries, in bits."""
    by_chance: float
    exceeds: bool
    """Whether the bound lies above the tested epsilon."""
    steps: int = 0
    """Steps that the attack watched; 0 = it saw the finished model alone."""
    noise: float | None = None
    """The noise found in those steps over the promised one; None = not measured."""
    ranks: tuple[float, ...] = ()
    """Of each included canary among those left out and itself, sorted: in their own order they would tell coins."""
    left_out_ranks: tuple[float, ...] = ()
    """Of each canary left out among all of those, sorted."""

    @property
    def able(self) -> bool:
        """Whether there are canaries enough to refute the claim."""
        return self.bound.most > self.tested.epsilon

    @property
    def quiet(self) -> bool:
        """Whether so little noise was found that the promise is broken, whatever the bound says."""
        return self.noise is not None and self.noise < _QUIET

    @property
    def broken(self) -> bool:
        """Whether the claim is refuted."""
        return self.exceeds or self.quiet


@dataclass(frozen=True, slots=True)
class Membership:
    """How well rows that were trained on are told from test rows."""

    members: int
    others: int
    by_loss: Share
    by_fall: Share
    """By how far the loss fell from the base's: calibrated by a reference."""
    before: Share
    """By the loss of the base, which has seen neither: other than 0.5, the two sets differ by themselves."""
    found: dict[float, Share | None]
    """Rate of false alarms -> members found by the fall; None where the others are too few to tell."""
    found_by_loss: dict[float, Share | None]
    """The same by the loss itself."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """Secrets that the model says when it is given what stands before them."""

    what: str
    trained: Share
    unseen: Share
    """The same of secrets that were not trained on: what guessing reaches."""


@dataclass(frozen=True, slots=True)
class Leaks:
    """All that an audit measured; None = not measured."""

    claim: Claim
    canaries: Canaried | None
    membership: Membership | None
    extraction: tuple[Extraction, ...] = ()
    control: Canaried | None = None
    """An audit from outside of a twin without privacy: does it see what is there?"""
    price: tuple[Comparison, ...] = ()
    """The private model against that twin on test rows; difference = private - plain."""
    twin: bool = False
    """The canaries were put into a twin of the run, trained alike."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite epsilon is None."""
        found = asdict(self)
        found["claim"] = self.claim.to_json()
        for name, one in (("canaries", self.canaries), ("control", self.control)):
            if one:
                found[name] |= {"claim": one.claim.to_json(), "tested": one.tested.to_json()}
        names = ("name", "base", "tuned", "difference", "low", "high", "n", "unit")
        found["price"] = [{name: getattr(one, name) for name in names} for one in self.price]
        if self.membership:
            for name in ("found", "found_by_loss"):
                found["membership"][name] = {f"{rate:g}": found["membership"][name][rate] for rate in FALSE_ALARMS}
        return found


def of_canaries(
    losses: Losses,
    coins: Sequence[bool],
    claim: Claim,
    score_C: Floats | None = None,
    tested: Claim | None = None,
) -> Canaried:
    """The bound and the exposure that canaries show.

    Args:
        losses: Of all canaries.
        coins: Which were in.
        claim: Of the run that they are of.
        score_C: How surely each was in, to whom watched training; None = how far training brought its loss down.
        tested: What is claimed at the delta of the test; None = it is that of the claim.
    """
    tested = tested or claim
    included_C: NDArray[np.bool_] = np.array(coins, dtype=bool)
    bound = audit(losses.fall if score_C is None else score_C, included_C, tested.delta)
    included, left_out = losses.fall[included_C], losses.fall[~included_C]
    seen = exposures(included, left_out)
    return Canaried(
        claim,
        tested,
        bound,
        exposure=float(seen.mean()) if len(seen) else 0.0,
        by_chance=chance(len(left_out) + 1),
        exceeds=bound.epsilon > tested.epsilon,
        ranks=tuple(sorted(ranks(included, left_out).tolist())),
        left_out_ranks=tuple(sorted(own_ranks(left_out).tolist())),
    )


def of_members(members: Losses, others: Losses) -> Membership:
    """Membership inference with the loss a token, and with its fall."""

    def loss(rows: Losses, which: Floats) -> Floats:
        return -which / np.maximum(rows.count, 1)

    loss_M, loss_N = loss(members, members.tuned), loss(others, others.tuned)
    fall_M, fall_N = members.fall / np.maximum(members.count, 1), others.fall / np.maximum(others.count, 1)
    return Membership(
        len(fall_M),
        len(fall_N),
        auc(loss_M, loss_N),
        auc(fall_M, fall_N),
        auc(loss(members, members.base), loss(others, others.base)),
        found={rate: found_at(fall_M, fall_N, rate) for rate in FALSE_ALARMS},
        found_by_loss={rate: found_at(loss_M, loss_N, rate) for rate in FALSE_ALARMS},
    )
