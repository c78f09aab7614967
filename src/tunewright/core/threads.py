"""How torch's threads wait for one another, settled before torch is loaded."""

from __future__ import annotations

import os

BEFORE_TORCH = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "100000"}
"""Read by torch's threads when they start: those that wait spin for about a millisecond, or sleep at once where more
are managed than there are cores (`pipeline/waiting.py`). No number changes."""


def settle() -> None:
    """Sets `BEFORE_TORCH` unless the user has set any of it; too late once torch is imported."""
    if not BEFORE_TORCH.keys() & os.environ.keys():
        os.environ.update(BEFORE_TORCH)


def settled() -> bool:
    """Whether it is as `settle` left it."""
    return all(os.environ.get(name) == value for name, value in BEFORE_TORCH.items())
