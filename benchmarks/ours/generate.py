"""Free generation through the product, as many at a time as the peer: `python -m benchmarks.ours.generate`."""

from __future__ import annotations

import time

import torch

from benchmarks.table.child import BATCH, NEW_TOKENS, cores, emit, workload
from tunewright.core.records import Example, Turn, text_part
from tunewright.models import generation
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.pipeline.machine import fix_threads


def main() -> None:
    fix_threads(cores())
    generation.MOST = BATCH
    model = open_model(resolve_model("smollm2"), torch.float32)
    contexts = [Example((Turn("user", (text_part(text),)),), ()) for text in workload("prompts")["texts"]]
    started = time.perf_counter()
    texts = [answer.text for answer in model.family.generate(model, contexts, NEW_TOKENS)]
    emit({"seconds": time.perf_counter() - started, "texts": texts}, ["torch", "transformers"])


if __name__ == "__main__":
    main()
