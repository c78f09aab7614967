"""Other people's rows, which train beside those of the target and are never judged."""

from __future__ import annotations

from dataclasses import replace

from tunewright.core.records import Example

POOL = "pool"


def pooled(example: Example) -> Example:
    """The row of another population: its unit and id are never those of a row of the target."""
    name = f"{POOL}/{example.id}" if example.id else ""
    unit = None if example.unit is None else f"{POOL}/{example.unit}"
    return replace(example, id=name, unit=unit, slices={**example.slices, "population": POOL})


def from_pool(example: Example) -> bool:
    """Whether a row is of the pool."""
    return example.slices.get("population") == POOL
