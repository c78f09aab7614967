"""What rows about training share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import combinations

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
    note = "one run of one step, the first, which also allocates; its result stands in every round" if slow else ""
    return Side(f"TRL {configuration}", TRL, arguments, peer=True, once=slow, note=note)


def best_of_trl() -> str:
    """The fastest of TRL's configurations: one row at a time pads nothing, in the precision the machine multiplies."""
    return "bf16-single" if multiplies_bf16() else "fp32-single"


def tokens_per_second(result: Result) -> float:
    """Tokens of the rows a second, the first step aside."""
    return float(result["tokens_per_second"])


def peak_gigabytes(result: Result) -> float:
    """What the process held at most."""
    return float(result["peak_bytes"]) / 1e9


def loss_gap(one: str, other: str) -> Callable[[Sequence[Round]], list[float]]:
    """Largest difference of a step's mean loss, in nats, round by round."""
    return lambda rounds: [_apart(r[one], r[other]) for r in rounds]


def loss_noise(side: str) -> Callable[[Sequence[Round]], list[float]]:
    """The same between two runs of one side, whose seeds differ: of each round, the median over the other rounds."""
    return lambda rounds: [
        statistics.median(_apart(r[side], other[side]) for other in rounds if other is not r)
        for r in (rounds if len(rounds) > 1 else ())
    ]


def gap_over_noise(one: str, other: str) -> Callable[[Sequence[Round]], list[float]]:
    """The gap of each round over the largest difference of two runs of the other side; none if its runs are equal.

    Over their median difference, a third run of the very same program would stand above 1 every second time.
    """

    def values(rounds: Sequence[Round]) -> list[float]:
        noise = max((_apart(a[other], b[other]) for a, b in combinations(rounds, 2)), default=0.0)
        return [gap / noise for gap in loss_gap(one, other)(rounds)] if noise else []

    return values


def _apart(one: Result, other: Result) -> float:
    return float(max(abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True)))


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
        options=("BENCH_STEPS",),
        figures=(
            Figure("floor over our time", each(lambda r: r["products"]["seconds"] / sum(r["run"]["seconds"][1:])), 0.8),
            *(Figure(f"share of the floor: {kind}", part(kind)) for kind in kinds),
        ),
    )
