"""What rows about training share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from benchmarks.table.machine import multiplies_bf16
from benchmarks.table.row import Figure, Result, Round, Row, Side, each

TRL = "benchmarks.peers.trl_train"
OURS = "benchmarks.ours.train"


def ours(method: str, name: str = "tunewright", *more: str) -> Side:
    """A run of the product."""
    return Side(name, OURS, (method, *more))


def trl(method: str, configuration: str, *more: str) -> Side:
    """The same run by TRL under a named configuration.

    Its defaults multiply in bf16, minutes a step where the machine has no such products: there one step, once.
    """
    slow = configuration == "defaults" and not multiplies_bf16()
    arguments = (method, configuration, *(("--steps", "1") if slow else ()), *more)
    return Side(f"TRL {configuration}", TRL, arguments, peer=True, once=slow)


def tokens_per_second(result: Result) -> float:
    """Tokens of the rows a second, the first step aside."""
    return float(result["tokens_per_second"])


def peak_gigabytes(result: Result) -> float:
    """What the process held at most."""
    return float(result["peak_bytes"]) / 1e9


def loss_gap(one: str, other: str) -> Callable[[Sequence[Round]], list[float]]:
    """Largest difference of a step's mean loss, in nats, round by round."""
    return lambda rounds: [
        max(abs(a - b) for a, b in zip(r[one]["losses"], r[other]["losses"], strict=True)) for r in rounds
    ]


def loss_noise(side: str) -> Callable[[Sequence[Round]], list[float]]:
    """Largest difference of a step's mean loss between a run and the mean of the side's runs, whose seeds differ."""

    def values(rounds: Sequence[Round]) -> list[float]:
        if len(rounds) < 2:
            return []
        middle = [statistics.fmean(losses) for losses in zip(*(r[side]["losses"] for r in rounds), strict=True)]
        return [max(abs(a - b) for a, b in zip(r[side]["losses"], middle, strict=True)) for r in rounds]

    return values


def floor(name: str, precision: str) -> Row:
    """Share of the matrix products' own time in that of our steps."""
    products, run = (
        Side("products", "benchmarks.ours.floor", (precision,)),
        ours("lora", "run", "--precision", precision),
    )

    def part(kind: str) -> Callable[[Sequence[Round]], list[float]]:
        return each(lambda r: r["products"]["by_kind"][kind] / r["products"]["seconds"])

    kinds = ("projections", "adapters", "attention", "head")
    return Row(
        name=name,
        what=f"The steps of lora_sft in {precision}: seconds of their products alone (projections, input gradients, "
        "adapters, attention by runs of 128 queries, head at scored positions; torch.mm and torch.bmm, best of three) "
        "over our seconds.",
        sides=(products, run),
        figures=(
            Figure("floor over our time", each(lambda r: r["products"]["seconds"] / sum(r["run"]["seconds"][1:])), 0.8),
            *(Figure(f"share of the floor: {kind}", part(kind)) for kind in kinds),
        ),
    )
