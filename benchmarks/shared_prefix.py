"""What computing a shared beginning once saves in training: `python benchmarks/shared_prefix.py`.

Our own step (forward and backward, LoRA r=16 on SmolLM2) with and without sharing, in turn, on the same rows: two
64-token answers to each 512-token prompt (`prompts`), eight rows of about 100 tokens under one system prompt of 600
(`system`), and the medical example's rows under their common instruction (`medical`); a name as argument runs that part
alone. Needs `tunewright fetch smollm2` and `tunewright fetch icd10`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import benchmarks.ours  # noqa: F401  (threads wait as the command line has them wait)
from tunewright.core.config import Request
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.encoder import Encoded
from tunewright.evaluate.probes.retention import passages
from tunewright.models.collate import WORTH_SHARING, packed
from tunewright.pipeline.jobs import job_of
from tunewright.pipeline.prepare import prepare, read_rows
from tunewright.train.job import Job

RUNS = 5
PROMPT, ANSWER, SYSTEM = 512, 64, 600
NEVER = sys.maxsize
MEDICAL = Path(__file__).resolve().parents[1] / "examples" / "medical.yaml"


@dataclass(frozen=True)
class Pass:
    """One forward and backward over some micro-batches."""

    seconds: float
    processor: float
    """Seconds of all cores: what other programs on the machine disturb least."""
    tokens: int
    computed: int
    losses: list[float]


def answers_to_prompts(job: Job, prompts: int) -> Iterator[Encoded]:
    """Two rows for each prompt: 512 tokens of running text, and 64 others as the answer."""
    ids = np.array(job.model.tokenizer(" ".join(passages()))["input_ids"], np.int64)
    wanted = prompts * (PROMPT + 2 * ANSWER)
    pieces = np.resize(ids, wanted).reshape(prompts, -1)
    positions, weights = np.arange(PROMPT - 1, PROMPT + ANSWER - 1), np.ones(ANSWER, np.float32)
    for number, piece in enumerate(pieces):
        asked = Turn("user", (text_part(f"prompt {number}"),))
        for answer in (piece[PROMPT : PROMPT + ANSWER], piece[PROMPT + ANSWER :]):
            row = np.concatenate([piece[:PROMPT], answer])
            example = Example((asked,), (Answer((text_part("answer"),)),))
            yield Encoded(example, {"input_ids": row}, len(row), positions, answer, weights)


def rows_under_a_system_prompt(job: Job, rows: int) -> Iterator[Encoded]:
    """Rows that begin with the same 600 tokens: 50 to 150 of their own, of which the last half are trained."""
    ids = np.array(job.model.tokenizer(" ".join(passages()))["input_ids"], np.int64)
    system, rest = ids[:SYSTEM], np.resize(ids[SYSTEM:], rows * 150).reshape(rows, -1)
    for number, piece in enumerate(rest):
        own = 50 + number * 100 // max(1, rows - 1)
        row, answer = np.concatenate([system, piece[:own]]), own // 2
        asked = Turn("user", (text_part(f"question {number}"),))
        example = Example((asked,), (Answer((text_part("answer"),)),), id=f"r{number}")
        positions = np.arange(len(row) - answer - 1, len(row) - 1)
        yield Encoded(example, {"input_ids": row}, len(row), positions, row[-answer:], np.ones(answer, np.float32))


def once(job: Job, batches: Sequence[Sequence[int]], worth: int) -> Pass:
    """Loss and gradient of micro-batches whose beginnings are shared from `worth` tokens on."""
    tokens, computed, losses, trained = 0, 0, [], job.method.trained(job.model)
    started, worked = time.perf_counter(), time.process_time()
    with job.gradients.begin(job.model, trained, "") as making:
        for rows in batches:
            batch = packed([job.train[row] for row in rows], worth)
            loss = job.objective.loss(job.model, batch, 0)
            making.accumulate(loss, 1.0, batch)
            tokens, computed = tokens + batch.tokens, computed + batch.inputs["input_ids"].numel()
            losses += loss.sum_S.tolist()
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    for weight in trained.values():
        weight.grad = None
    return Pass(seconds, processor, tokens, computed, losses)


def compare(name: str, job: Job, steps: int) -> list[float]:
    """Alternates, prints the medians and the largest difference of a row's loss; gives the ratios by the clock."""
    batches = [rows for k in range(steps) for rows in job.order.micro_batches(k, job.micro_rows)]
    for worth in (NEVER, WORTH_SHARING):
        once(job, batches[:1], worth)  # warm
    pairs = [(once(job, batches, NEVER), once(job, batches, WORTH_SHARING)) for _ in range(RUNS)]
    apart, shared = pairs[0]
    difference = max(abs(a - b) / abs(a) for a, b in zip(apart.losses, shared.losses, strict=True))
    speeds = [statistics.median(run.tokens / run.seconds for run in runs) for runs in zip(*pairs, strict=True)]
    print(
        f"{name}: {apart.tokens} tokens of rows, {apart.computed} computed apart, {shared.computed} shared\n"
        f"  tokens/s apart {speeds[0]:.0f}, shared {speeds[1]:.0f}; "
        f"ratio {_spread([a.seconds / b.seconds for a, b in pairs])} by the clock, "
        f"{_spread([a.processor / b.processor for a, b in pairs])} by processor time, {RUNS} pairs, "
        f"of {apart.computed / shared.computed:.2f} possible; loss differs by {difference:.1e} of a row's",
        flush=True,
    )
    return [a.seconds / b.seconds for a, b in pairs]


def _spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main(wanted: Sequence[str]) -> None:
    prepared = prepare(read_rows(Request(plan_file=MEDICAL), _quiet), _quiet)
    job = job_of(prepared)
    job.model.module.train()
    found = {}
    if "prompts" in wanted:
        prompts = replace(job, train=tuple(answers_to_prompts(job, prompts=1)))
        found["ratio"] = compare(f"two {ANSWER}-token answers to a {PROMPT}-token prompt", prompts, steps=1)
    if "system" in wanted:
        system = replace(job, train=tuple(rows_under_a_system_prompt(job, rows=8)))
        found["system_ratio"] = compare(f"8 rows under a system prompt of {SYSTEM} tokens", system, steps=1)
    if "medical" in wanted:
        found["medical_ratio"] = compare(f"medical example, {job.micro_rows} rows a step", job, steps=1)
    if "--json" in sys.argv:
        print(json.dumps(found))


def _quiet(what: str, done: int, total: int, detail: str = "") -> None:
    """No progress."""


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if word != "--json"] or ["prompts", "system", "medical"])
