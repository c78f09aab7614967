"""Makes the rows that both sides work on, once, from the licence texts: `python -m benchmarks.ours.workload`.

chat        64 conversations, 30 to 1,024 tokens long (log-uniform), and their tokens in the order of training
titles      20 contexts of 200 to 400 tokens and 300 titles of 1 to 6
prompts     32 questions around 30 to 500 tokens of text
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from benchmarks.table.child import KEPT
from tunewright.core.config import Request
from tunewright.core.files import write_atomic
from tunewright.core.plugins import build
from tunewright.core.progress import silent
from tunewright.core.seeds import stream
from tunewright.pipeline.fetch import fetch
from tunewright.pipeline.prepare import Prepared, data_path, prepare, read_rows
from tunewright.train.job import Job
from tunewright.train.order import Order

FOLDER = KEPT / "workloads"
CHAT_ROWS, SHORTEST, LONGEST, ROWS_A_STEP = 64, 30, 1024, 8
CHAT_SETTINGS = (
    "data.splits=[1,0,0]",
    f"train.per_device_train_batch_size={ROWS_A_STEP}",
    "train.learning_rate=2e-4",
    "train.lr_scheduler_type=constant",
    "train.warmup_ratio=0",
    f"train.max_length={LONGEST}",
)
"""Of every training run here; TRL is given the same under its own names."""
_ASKED = "Go on with this text:\n\n"
_TEMPLATE_TOKENS = 40
"""About what the chat template and the question add to a row."""


class Texts:
    """Runs of tokens out of real texts, each taken once."""

    def __init__(self, tokenizer: Any) -> None:
        with open(data_path("licences"), encoding="utf-8", newline="") as file:
            texts = [row["text"] for row in csv.DictReader(file)]
        self._tokenizer = tokenizer
        self._ids: Iterator[list[int]] = (ids for ids in tokenizer(texts)["input_ids"] if len(ids) >= LONGEST)

    def cut(self, *lengths: int) -> list[str]:
        """Consecutive pieces of the next long text, of so many tokens each."""
        ids, bounds = next(self._ids), np.cumsum([0, *lengths])
        return [self._tokenizer.decode(ids[a:b]) for a, b in itertools.pairwise(bounds)]


def log_uniform(purpose: str, count: int, low: int, high: int) -> list[int]:
    """Lengths as real chat has them: many short, few long."""
    draws = stream("benchmark", purpose).uniform(np.log(low), np.log(high), count)
    return [round(float(length)) for length in np.exp(draws)]


def chat(tokenizer: Any) -> dict[str, Any]:
    """Conversations, half of each the answer; and their tokens as the product encodes and orders them."""
    texts, rows = Texts(tokenizer), []
    for length in log_uniform("chat", CHAT_ROWS, SHORTEST, LONGEST):
        inside = max(4, length - _TEMPLATE_TOKENS)
        question, answer = texts.cut(inside - inside // 2, inside // 2)
        turns = ({"role": "user", "content": _ASKED + question}, {"role": "assistant", "content": answer})
        rows.append({"messages": list(turns)})
    path = FOLDER / "chat.jsonl"
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    prepared = prepare(read_rows(Request(data=str(path), sets=CHAT_SETTINGS), silent), silent)
    order = order_of(prepared)
    encoded = [prepared.train[i] for k in range(order.steps_an_epoch) for i in order.step(k)]
    return {
        "model": str(prepared.model.origin.folder),
        "rows": [row.inputs["input_ids"].tolist() for row in encoded],
        "trained": [_mask(row.length, row.positions + 1) for row in encoded],
        "messages": [_messages(row.example) for row in encoded],
    }


def order_of(prepared: Prepared) -> Order:
    """Which rows make a step: as the run orders them."""
    settings = prepared.settings
    plain, train = build("gradients", "plain"), prepared.train
    job = Job(prepared.model, prepared.method, prepared.objective, plain, train, (), settings.train, settings.seed)
    assert isinstance(job.order, Order)  # a private run draws its rows otherwise
    return job.order


def _mask(length: int, trained: NDArray[np.int64]) -> list[int]:
    mask = np.zeros(length, dtype=int)
    mask[trained] = 1
    return [int(one) for one in mask]


def _messages(example: Any) -> list[dict[str, str]]:
    said = [{"role": turn.role, "content": turn.text} for turn in example.context]
    return [*said, {"role": "assistant", "content": example.answer.text}]


def titles(tokenizer: Any) -> dict[str, Any]:
    """Contexts and a closed set of answers, as tokens: 20 x 300."""
    texts = Texts(tokenizer)
    lengths = stream("benchmark", "contexts").integers(200, 401, 20).tolist()
    contexts = [texts.cut(length)[0] for length in lengths]
    words = [w for w in " ".join(texts.cut(*[LONGEST - 1])[0] for _ in range(40)).split() if w.isalpha()]
    draw, found = stream("benchmark", "titles"), dict[str, list[int]]()
    while len(found) < 300:
        start, count = int(draw.integers(len(words) - 6)), int(draw.integers(1, 7))
        title = " " + " ".join(words[start : start + count]).title()
        ids = tokenizer(title, add_special_tokens=False)["input_ids"]
        if len(ids) <= 6:
            found[title] = ids
    return {"contexts": tokenizer(contexts)["input_ids"], "answers": list(found.values())}


def prompts(tokenizer: Any) -> dict[str, Any]:
    """Questions of mixed lengths for free generation."""
    texts = Texts(tokenizer)
    return {"texts": [_ASKED + texts.cut(length)[0] for length in log_uniform("prompts", 32, SHORTEST, 500)]}


def main() -> None:
    """Makes all anew: what the peer reads must be what the product's own order and encoding are today."""
    tokenizer = AutoTokenizer.from_pretrained(fetch("smollm2"), local_files_only=True)
    fetch("licences")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for make in (chat, titles, prompts):
        write_atomic(FOLDER / f"{make.__name__}.json", json.dumps(make(tokenizer)))


if __name__ == "__main__":
    main()
