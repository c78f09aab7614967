"""Log-likelihoods of pairs by lm-evaluation-harness: `python -m benchmarks.peers.lm_eval_score BATCH [whole]`.

Random pairs; with `whole` one context with all of its titles, of which the harness computes those once that differ in
their last token alone.

Pairs come as tokens, so tokenising is not timed; each is (context, title) of the same 20 x 300 that we score whole.
"""

from __future__ import annotations

import os
import random
import sys
import time

import torch
from lm_eval.models.huggingface import HFLM

from benchmarks.table.child import cores, emit, workload


def main() -> None:
    torch.set_num_threads(cores())
    asked = workload("titles")
    contexts, answers = asked["contexts"], asked["answers"]
    every = [(i, j) for i in range(len(contexts)) for j in range(len(answers))]
    pairs = random.Random(0).sample(every, int(os.environ.get("BENCH_PAIRS", "500")))
    pairs = every[: len(answers)] if sys.argv[2:] == ["whole"] else pairs
    folder = workload("chat")["model"]
    model = HFLM(pretrained=folder, device="cpu", dtype="float32", batch_size=int(sys.argv[1]))
    requests = [((f"context {i}", f"title {j}"), contexts[i], answers[j]) for i, j in pairs]
    started = time.perf_counter()
    scores = [score for score, _ in model._loglikelihood_tokens(requests, disable_tqdm=True)]
    seconds = time.perf_counter() - started
    result = {
        "seconds_per_pair": seconds / len(pairs),
        "tokens_per_pair": sum(len(contexts[i]) + len(answers[j]) for i, j in pairs) / len(pairs),
        "scores": [[i, j, score] for (i, j), score in zip(pairs, scores, strict=True)],
        "pairs": len(pairs),
    }
    emit(result, ["torch", "transformers", "lm_eval"])


if __name__ == "__main__":
    main()
