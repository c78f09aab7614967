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


def secret_stream(secret: str, *parts: object) -> np.random.Generator:
    """A generator that nobody can foretell without the secret: all 128 bits of its key come from a hash."""
    words = hashlib.sha256(repr((secret, *parts)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(words[:16], "big")))
