"""How far two models part ways along one opening."""

from __future__ import annotations

from typing import Any

import numpy as np

from tunewright.evaluate.contracts import Floats


def opening_kl(base_NKV: Any, tuned_NKV: Any) -> Floats:
    """[requests, positions] KL(tuned || base) in nats, from log-probabilities; both are normalised again in float64.

    Tokens that only one of the two models has are left out of both.
    """
    width = min(base_NKV.shape[-1], tuned_NKV.shape[-1])
    found = np.zeros(base_NKV.shape[:2])
    for number in range(len(found)):
        was, now = (_normalised(side[number, :, :width].astype(np.float64)) for side in (base_NKV, tuned_NKV))
        found[number] = np.maximum(0.0, (np.exp(now) * (now - was)).sum(axis=-1))
    return found


def _normalised(log_probs: Floats) -> Floats:
    shifted = log_probs - log_probs.max(axis=-1, keepdims=True)
    normal: Floats = np.maximum(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), -1e4)
    return normal
