"""Closed-set scoring through the product: 20 contexts x 300 titles, `python -m benchmarks.ours.score`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from benchmarks.table.child import cores, emit, workload
from tunewright.models.embedded import resolve_model
from tunewright.models.families.causal_lm import score_ids
from tunewright.models.opening import open_model
from tunewright.models.trie import build
from tunewright.pipeline.machine import fix_threads


def tokens_needed(contexts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> int:
    """Each context once, and each distinct beginning of an answer once a context."""
    return sum(len(context) for context in contexts) + len(contexts) * build(answers).size


def main() -> None:
    fix_threads(cores())
    asked = workload("titles")
    contexts, answers = asked["contexts"], asked["answers"]
    model = open_model(resolve_model("smollm2"), torch.float32)
    started = time.perf_counter()
    scores = [row.tolist() for row in score_ids(model, contexts, [answers] * len(contexts))]
    seconds = time.perf_counter() - started
    pairs = len(contexts) * len(answers)
    result = {
        "seconds_per_pair": seconds / pairs,
        "tokens_per_pair": tokens_needed(contexts, answers) / pairs,
        "scores": scores,
        "pairs": pairs,
    }
    emit(result, ["torch", "transformers"])


if __name__ == "__main__":
    main()
