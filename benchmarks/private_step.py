"""What privacy costs a step: `python benchmarks/private_step.py [--json]`.

One optimiser step (forward, clipped gradients, noise, AdamW) on SmolLM2 with LoRA r=16, norms alone, a hundredth of
the matrices, and all weights but the tied table, against its non-private twin on the same rows, in turn, by the clock
and by processor time; peak memory from processes of their own. `--rows`, `--tokens` and `--rounds` say how much; a
method's name runs it alone. Rows begin with different tokens, unless `--alike` says how many all begin with: the twin
computes those once, and a private step once for each person. What that costs LoRA under a chat template is told last.
Needs `tunewright fetch smollm2`. With the peers'
interpreter in BENCH_PEER, Opacus does the same step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunewright.core.memory import peak_memory
from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, text_part
from tunewright.core.settings import TrainSettings
from tunewright.data.encoder import Encoded
from tunewright.models.contracts import Gradients, LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.train.optimiser import Optimiser

METHODS: Mapping[str, Any] = {
    "lora": {"name": "lora", "r": 16},
    "norm": {"name": "norm"},
    "sparse": {"name": "sparse"},
    "full": {"name": "last", "layers": 30},
}
"""`full` leaves out the table alone: tied to the head, it can't be trained privately."""
GRADIENTS: Mapping[str, Any] = {"plain": "plain", "private": {"name": "private", "sigma": 1.0, "expected": 8.0}}


_OPENING = 24
"""Tokens that conversations under SmolLM2's template begin with alike, its own system prompt among them."""


def rows_of(count: int, tokens: int, vocabulary: int, alike: int = 0) -> list[Encoded]:
    """Rows of random tokens, of which the first may be the same in all; the second half of each trained."""
    draw, found = np.random.default_rng(0), []
    first = draw.integers(100, vocabulary, alike)
    for number in range(count):
        ids = np.concatenate((first, draw.integers(100, vocabulary, tokens - alike)))
        at = np.arange(max(tokens // 2, alike), tokens - 1)
        example = Example((), (Answer((text_part("x"),)),), id=str(number))
        found.append(Encoded(example, {"input_ids": ids}, tokens, at, ids[at + 1], np.ones(len(at), np.float32)))
    return found


def step(model: LoadedModel, optimiser: Optimiser, how: Gradients, rows: Sequence[Encoded]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    objective = build("objectives", "next_token")
    model = replace(model, apart=how.private)
    started, worked = time.perf_counter(), time.process_time()
    with how.begin(model, dict(optimiser.parameters), "secret") as making:
        batch = model.family.collate(model, rows)
        making.accumulate(objective.loss(model, batch, 0), float(len(rows)), batch)
        making.finish(0)
    optimiser.step(1e-4)
    return time.perf_counter() - started, time.process_time() - worked


def opened(name: str) -> tuple[LoadedModel, Optimiser]:
    """The model with its method, in float32, one thread a core."""
    method = build("methods", METHODS[name])
    model = method.attach(open_model(resolve_model("smollm2"), torch.float32), 0)
    model.module.train()
    return model, Optimiser.over(method.trained(model), TrainSettings())


def memory(name: str, gradients: str, rows: int, tokens: int) -> int:
    """Bytes at the peak of a process that does two steps."""
    words = [sys.executable, __file__, "--child", name, gradients, "--rows", str(rows), "--tokens", str(tokens)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[-1])


def compare(name: str, data: Sequence[Encoded], rounds: int) -> dict[str, Any]:
    """Alternating steps, then the peak of each on rows as many and as long."""
    model, optimiser = opened(name)
    rows, tokens = len(data), data[0].length
    hows = {key: build("gradients", setting) for key, setting in GRADIENTS.items()}
    for how in hows.values():
        step(model, optimiser, how, data)
    pairs = [(step(model, optimiser, hows["plain"], data), step(model, optimiser, hows["private"], data))
             for _ in range(rounds)]  # fmt: skip
    del model, optimiser
    peaks = {key: memory(name, key, rows, tokens) for key in GRADIENTS}
    return {
        "method": name,
        "wall_ratio": [private[0] / plain[0] for plain, private in pairs],
        "processor_ratio": [private[1] / plain[1] for plain, private in pairs],
        "plain_processor_seconds": statistics.median(plain[1] for plain, _ in pairs),
        "memory_ratio": peaks["private"] / peaks["plain"],
        "plain_peak_bytes": peaks["plain"],
        "rounds": rounds,
        "rows": rows,
        "tokens": tokens,
    }


def peer(asked: argparse.Namespace) -> dict[str, Any]:
    """Opacus on the same model, its own twin beside it."""
    script = Path(__file__).parent / "peers" / "opacus_step.py"
    words = [os.environ["BENCH_PEER"], script, resolve_model("smollm2").folder]
    sizes = [f"--{name}={getattr(asked, name)}" for name in ("rows", "tokens", "rounds")]
    done = subprocess.run([*map(str, words), *sizes], capture_output=True, text=True, check=True)
    return {**json.loads(done.stdout.splitlines()[-1]), "method": "opacus_lora"}


def _middle(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--alike", type=int, default=0)
    asked = parser.parse_args()
    if asked.child:
        name, gradients = asked.names
        model, optimiser = opened(name)
        for _ in range(2):
            step(model, optimiser, build("gradients", GRADIENTS[gradients]), rows_of(asked.rows, asked.tokens, 40000))
        print(peak_memory())  # not ru_maxrss, which a process takes over from the one that started it
        return
    data = rows_of(asked.rows, asked.tokens, 40000, asked.alike)
    found = [compare(name, data, asked.rounds) for name in asked.names or METHODS]
    if not asked.names and not asked.alike:
        beginning = rows_of(asked.rows, asked.tokens, 40000, _OPENING)
        found.append({**compare("lora", beginning, asked.rounds), "method": "template_lora"})
    if "BENCH_PEER" in os.environ:
        found.append(peer(asked))
    if asked.json:
        told = {f"{one['method']}_{key}": value for one in found for key, value in one.items() if key != "method"}
        print(json.dumps(told))
        return
    for one in found:
        print(
            f"{one['method']}: time {_middle(one['wall_ratio'])} of the twin by the clock, "
            f"{_middle(one['processor_ratio'])} by processor time (the twin: {one['plain_processor_seconds']:.1f} s); "
            f"peak memory {one['memory_ratio']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
