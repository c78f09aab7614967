"""The same answers by `model.generate`, eight prompts at a time, padded on the left: `python -m ... [by_length]`.

Prompts come as they are, or with `by_length` so that those of like length are padded together.
"""

from __future__ import annotations

import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.table.child import BATCH, NEW_TOKENS, cores, emit, workload


def main() -> None:
    torch.set_num_threads(cores())
    folder, asked = workload("chat")["model"], workload("prompts")["texts"]
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [""] * len(asked)
    started = time.perf_counter()
    order = list(range(len(asked)))
    if sys.argv[1:] == ["by_length"]:
        order.sort(key=lambda number: len(tokenizer(asked[number])["input_ids"]))
    for start in range(0, len(asked), BATCH):
        numbers = order[start : start + BATCH]
        turns = [[{"role": "user", "content": asked[number]}] for number in numbers]
        batch = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = model.generate(**batch, do_sample=False, max_new_tokens=NEW_TOKENS)
        new = out[:, batch["input_ids"].shape[1] :]
        for number, text in zip(numbers, tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
            texts[number] = text.strip()
    emit({"seconds": time.perf_counter() - started, "texts": texts}, ["torch", "transformers"])


if __name__ == "__main__":
    main()
