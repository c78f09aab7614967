"""Random streams keyed by what they are for, so that nothing depends on what was drawn before."""

from __future__ import annotations

import hashlib

import numpy as np


def key(*parts: object) -> int:
    """A 63-bit seed from any printable parts: `key(seed, "dropout", step)`."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def stream(*parts: object) -> np.random.Generator:
    """A numpy generator keyed by its purpose."""
    return np.random.default_rng(key(*parts))
