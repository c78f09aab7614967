"""Do error slices keep their promise? Sets of rows whose errors have nothing to do with their words.

How many sets have any slice named (at most 7 %), with independent rows and with units of several rows whose errors go
together; and how often a planted word, whose rows fail more often by the stated amount, is found.

    python benchmarks/slice_simulation.py [sets]
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.error_slices import ErrorSlices, find_error_slices
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.nll import Nll

LABELS = ("no", "yes")
WORDS = np.array([f"w{number}" for number in range(400)])
PLANTED = "fracture"


def rows(random: np.random.Generator, units: int, most: int, planted: float = 0.0) -> list[Outcome]:
    """Rows of Zipf-distributed words; right in about 75 % of rows, by unit more or less.

    Args:
        random: The stream.
        units: How many.
        most: Rows a unit, 1 to this.
        planted: How much more often rows with the planted word (a sixth of them) fail.
    """
    below = np.cumsum(1 / (3 + np.arange(len(WORDS))))
    sizes = random.integers(1, most + 1, units)
    lean = random.normal(0, 0.8 if most > 1 else 0.0, units)
    outcomes = []
    for unit in range(units):
        favourite = random.integers(len(WORDS), size=8)  # a unit speaks of its own things
        for row in range(sizes[unit]):
            drawn = np.searchsorted(below, below[-1] * random.random(int(random.integers(4, 25))))
            own = favourite[random.integers(8, size=len(drawn))]
            text = list(WORDS[np.where(random.random(len(drawn)) < 0.3, own, drawn)])
            struck = random.random() < 1 / 6
            text += [PLANTED] if struck else []
            right = random.random() < 1 / (1 + np.exp(-1.1 - lean[unit])) - planted * struck
            context = (Turn("user", (text_part(" ".join(text)),)),)
            example = Example(context, (Answer((text_part("yes"),)),), id=f"{unit}-{row}", unit=f"u{unit}", label=True)
            scores = np.array([0.0, 1.0 if right else -1.0])
            nats = float(random.gamma(2.0, 0.3) + (0 if right else 1.5))
            outcomes.append(Outcome(example, -nats, 1, 3, choices=scores))
    return outcomes


def looked(seed: int, units: int, most: int, planted: float = 0.0, metric: object = None) -> ErrorSlices:
    """One set and what was found in it."""
    random = np.random.default_rng((seed, units, most))
    return find_error_slices(rows(random, units, most, planted), metric or Accuracy(), LABELS, seed)  # type: ignore[arg-type]


CASES: tuple[tuple[str, Callable[[int, float], ErrorSlices]], ...] = (
    ("accuracy, 200 rows", lambda seed, planted: looked(seed, 200, 1, planted)),
    ("nll, 200 rows", lambda seed, planted: looked(seed, 200, 1, planted, Nll())),
    ("accuracy, 120 units of 1 to 4 rows", lambda seed, planted: looked(seed, 120, 4, planted)),
)


def main(sets: int = 1000) -> None:
    print(f"{'case':38}{'none found on noise':>22}{'planted found (+40 %)':>24}   ({sets} sets)")
    for name, case in CASES:
        none = np.mean([not case(seed, 0.0).found for seed in range(sets)])
        hits = [any(PLANTED in one.name for one in case(10**6 + seed, 0.4).found) for seed in range(max(sets // 5, 1))]
        print(f"{name:38}{none:22.1%}{np.mean(hits):24.1%}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
