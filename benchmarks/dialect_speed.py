"""The dialect probe against one prompt at a time: `python -m benchmarks.dialect_speed [--json]`.

Both sides ask the same prompts of the same model, float32, same threads, and give the log-probability of each
trait behind each prompt. Row by row: tokenise a prompt, one plain forward of transformers that keeps the logits of the
last position alone, log-softmax. That side is timed on `--rows` prompts spread evenly over all (its rate is the same,
as nothing is kept from one to the next), the probe on all of them (`--prompts`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import benchmarks.ours  # noqa: F401  (threads wait as the command line has them wait)
from benchmarks.table.child import cores
from tunewright.core.memory import peak_memory
from tunewright.core.progress import silent
from tunewright.data.dialect import TRAIT_FRAMES, make_pairs
from tunewright.evaluate.dialect.ask import Texts, ask
from tunewright.evaluate.dialect.frames import read_frames
from tunewright.evaluate.dialect.words import read_words
from tunewright.models.contracts import LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.pipeline.machine import fix_threads


def clocks() -> np.ndarray:
    """Seconds on the wall, and of all processors."""
    return np.array([time.perf_counter(), time.process_time()])


def by_row(model: LoadedModel, prompts: Sequence[str], traits: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """[prompts, traits] log-probabilities, and seconds (see `clocks`)."""
    plain = AutoModelForCausalLM.from_pretrained(model.origin.folder, dtype=torch.float32).eval()
    columns = [ids[0] for ids in model.family.raw_texts(model).continuation_ids(traits)]  # type: ignore[attr-defined]
    found = []
    with torch.inference_mode():
        plain(**model.tokenizer(prompts[0], return_tensors="pt"), use_cache=False)
        started = clocks()
        for prompt in prompts:
            ids = model.tokenizer(prompt, return_tensors="pt")
            logits = plain(**ids, use_cache=False, logits_to_keep=1).logits[0, -1]
            found.append(logits.log_softmax(-1)[columns].numpy())
    return np.array(found), clocks() - started


def measured(asked: int, rows: int) -> dict[str, object]:
    """Seconds a prompt of both sides, how far they differ, and peak memory after the probe."""
    fix_threads(cores())
    model = open_model(resolve_model("smollm2"), torch.float32)
    words = {"trait": read_words(())["trait"]}
    texts = Texts.of(make_pairs(asked // (2 * len(TRAIT_FRAMES))))
    kept: dict[str, np.ndarray] = {}

    def part(name: str, make):  # type: ignore[no-untyped-def]
        started = clocks()
        made = make()
        kept[name] = clocks() - started
        return made

    with torch.inference_mode():
        answers = ask(model, texts, words, (), read_frames(None), silent, part)["trait"]
    memory = peak_memory()
    every = [(frame, text) for frame in range(len(TRAIT_FRAMES)) for text in range(len(texts.texts))]
    seconds = np.sum([spent for name, spent in kept.items() if name != "texts"], axis=0) / len(every)
    some = every[:: max(1, len(every) // rows)][:rows]
    prompts = [TRAIT_FRAMES[frame].replace("{}", texts.texts[text]) for frame, text in some]
    plain, spent = by_row(model, prompts, [f" {word.text}" for word in words["trait"]])
    spent = spent / len(some)
    ours = np.array([answers[frame, text] for frame, text in some])
    return {
        "prompts": len(every),
        "threads": torch.get_num_threads(),
        "seconds": seconds[0] * len(every),
        "seconds_a_prompt": seconds[0],
        "row_by_row_prompts": len(some),
        "row_by_row_seconds_a_prompt": spent[0],
        "times_faster": spent[0] / seconds[0],
        "times_less_processor_time": spent[1] / seconds[1],
        "largest_difference_nats": float(np.abs(plain - ours).max()),
        "peak_memory_bytes": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--prompts", type=int, default=12096)
    parser.add_argument("--rows", type=int, default=200)
    asked = parser.parse_args()
    found = measured(asked.prompts, asked.rows)
    print(json.dumps(found, indent=None if asked.json else 1))


if __name__ == "__main__":
    main()
