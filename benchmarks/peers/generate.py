"""The same answers by `model.generate`, eight prompts at a time as they come, padded on the left."""

from __future__ import annotations

import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.table.child import BATCH, NEW_TOKENS, cores, emit, workload


def main() -> None:
    torch.set_num_threads(cores())
    folder, asked = workload("chat")["model"], workload("prompts")["texts"]
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts: list[str] = []
    started = time.perf_counter()
    for start in range(0, len(asked), BATCH):
        turns = [[{"role": "user", "content": text}] for text in asked[start : start + BATCH]]
        batch = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = model.generate(**batch, do_sample=False, max_new_tokens=NEW_TOKENS)
        new = out[:, batch["input_ids"].shape[1] :]
        texts += [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    emit({"seconds": time.perf_counter() - started, "texts": texts}, ["torch", "transformers"])


if __name__ == "__main__":
    main()
