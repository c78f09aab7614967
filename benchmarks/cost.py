"""How cost grows with length, rows and the size of the model: training steps of LoRA, one point after another.

SmolLM2 is measured, and models of other sizes with random weights and the same vocabulary, each in a process of its
own; peak memory is reset before each point (where the system cannot do that, it is the peak so far). Rows are random
tokens of one length, the last eighth of them trained.
Writes the table of docs/cost.md and docs/cost.svg.

    python -m benchmarks.cost [threads]     # 1 unless told

With one thread seconds are those of the processor, so that other programs do not count; with more, those of the clock
(run it on a quiet machine then).
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmarks.ours  # noqa: F401  (threads wait as the command line has them wait)

ROOT = Path(__file__).resolve().parents[1]
PAGE, PLOT = ROOT / "docs" / "cost.md", ROOT / "docs" / "cost.svg"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
LENGTHS = (64, 128, 256, 512, 1024)
SHAPES: dict[str, tuple[int, int, int] | None] = {"26 M": (320, 8, 5), "56 M": (448, 14, 7), "135 M (SmolLM2)": None}
"""Width, layers and heads of the random models; None = SmolLM2 itself. The table of words has 49,152 in all."""


@dataclass(frozen=True, slots=True)
class Point:
    """One training step."""

    model: str
    length: int
    rows: int
    """A step."""


def points() -> Iterator[Point]:
    """Lengths at about 512 tokens a step and more, for each model; then rows a step, at one length."""
    for model in SHAPES:
        for length in LENGTHS:
            yield Point(model, length, max(1, 512 // length))
    for rows in (2, 8, 32):
        yield Point("26 M", 128, rows)


def model_of(name: str) -> Any:
    """SmolLM2, or its kind with other sizes and random weights."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tunewright.core.plugins import build
    from tunewright.models.contracts import Origin
    from tunewright.models.embedded import resolve_model

    origin, family, shape = resolve_model("smollm2"), build("families", "causal_lm"), SHAPES[name]
    if shape is None:
        return family.open(origin, torch.float32)
    width, layers, heads = shape
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=width,
        intermediate_size=round(width * 8 / 3),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(origin.folder, local_files_only=True)
    return family._ready(LlamaForCausalLM(config), tokenizer, Origin(name, origin.folder, name))


def job_of(point: Point, model: Any, method: Any) -> Any:
    """A job of one step.

    Args:
        point: What rows it has.
        model: With the method attached.
        method: Which weights train.
    """
    import numpy as np

    from tunewright.core.plugins import build
    from tunewright.core.records import Answer, Example, text_part
    from tunewright.core.settings import TrainSettings
    from tunewright.data.encoder import Encoded
    from tunewright.train.job import Job

    draw, rows = np.random.default_rng(0), []
    for number in range(point.rows):
        ids = draw.integers(1000, 49000, point.length)
        trained = np.arange(point.length - max(1, point.length // 8) - 1, point.length - 1)
        example = Example((), (Answer((text_part("random tokens"),)),), id=str(number))
        weights = np.ones(len(trained), dtype=np.float32)
        rows.append(Encoded(example, {"input_ids": ids}, point.length, trained, ids[trained + 1], weights, {}))
    settings = TrainSettings(per_device_train_batch_size=point.rows, max_steps=1, learning_rate=1e-4)
    return Job(model, method, build("objectives", "next_token"), build("gradients", "plain"), rows, (), settings, 0)


def measure(name: str, threads: int) -> Iterator[dict[str, Any]]:
    """Of each point of a model: tokens a second of a training step and of reading alone, peak memory, the formula's."""
    import torch

    from tunewright.core.plugins import build
    from tunewright.models.precision import measure as speed

    torch.set_num_threads(threads)
    method = build("methods", {"name": "lora", "r": 16})
    model, multiplied = method.attach(model_of(name), 0), speed()["float32"] * 1e9
    first = True
    for point in points():
        if point.model == name:
            job = job_of(point, model, method)
            if first:  # what is done once
                model.family.token_log_probs(model, model.family.collate(model, job.train[:1])).sum().backward()
            first = False
            yield {"model": name, "length": point.length, "rows": point.rows, **_timed(job, multiplied, threads)}


def _timed(job: Any, multiplied: float, threads: int) -> dict[str, float]:
    import torch

    from tunewright.pipeline.forecast import LIBRARIES, dry_step
    from tunewright.pipeline.work import Size, of_steps

    model, tokens = job.model, sum(row.length for row in job.train)
    clock = time.process_time if threads == 1 else time.perf_counter
    _peak(again=True)
    started = clock()
    dry_step(job, 0)
    training, memory = clock() - started, _peak()
    model.module.eval()
    started = clock()
    with torch.inference_mode():
        for row in job.train:
            model.family.token_log_probs(model, model.family.collate(model, [row]))
    reading = clock() - started
    size = Size.of(model, sum(p.numel() for p in job.method.trained(model).values()))
    work = of_steps(job)
    return {
        "training": tokens / training,
        "reading": tokens / reading,
        "share": (size.forward(work) + size.backward(work)) / training / multiplied,
        "memory": memory / 1e9,
        "foretold": (LIBRARIES + size.weight_bytes + 16 * size.trained + size.activations(work, 0)) / 1e9,
    }


def _peak(again: bool = False) -> int:
    """Bytes held at most since the last time that it began `again`."""
    from tunewright.core.memory import peak_memory

    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return peak_memory()
    if again:
        reset.write_text("5")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


def table(found: Sequence[dict[str, Any]], threads: int) -> list[str]:
    """The page's table."""
    how = "processor time, so that other programs do not count" if threads == 1 else "by the clock"
    lines = [
        f"{threads} thread{'' if threads == 1 else 's'}, float32, {how}; LoRA r=16 on all linear layers.",
        "",
        "| model | tokens a row | rows a step | training, tokens/s | reading, tokens/s | share of matrix speed | "
        "peak memory | by the formula |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        lines.append(
            f"| {one['model']} | {one['length']} | {one['rows']} | {one['training']:.0f} | {one['reading']:.0f} | "
            f"{one['share']:.2f} | {one['memory']:.2f} GB | {one['foretold']:.2f} GB |"
        )
    return lines


def plot(found: Sequence[dict[str, Any]]) -> str:
    """Two panels over the length: tokens a second, and peak memory; a line a model; logarithmic axes."""
    panels = [("training", "tokens a second, training"), ("memory", "peak memory, GB")]
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 300" font-family="sans-serif" font-size="12">',
        '<rect width="760" height="300" fill="white"/>',
    ]
    for panel, (key, title) in enumerate(panels):
        left, top, width, height = 60 + 380 * panel, 40, 290, 200
        lines = {name: [one for one in _by_length(found) if one["model"] == name] for name in SHAPES}
        values = [one[key] for line in lines.values() for one in line]
        low, high = math.log(min(values) / 1.2), math.log(max(values) * 1.2)
        first, last = math.log(LENGTHS[0]), math.log(LENGTHS[-1])

        def at(length: float, value: float, box: Any = (left, top, width, height, low, high, first, last)) -> str:
            x, y, w, h, lo, hi, a, b = box
            return f"{x + w * (math.log(length) - a) / (b - a):.1f},{y + h * (hi - math.log(value)) / (hi - lo):.1f}"

        parts.append(f'<text x="{left}" y="24" font-weight="bold">{title}</text>')
        parts.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>')
        for length in LENGTHS:
            x = at(length, math.exp(low)).split(",")[0]
            parts.append(f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{length}</text>')
        for value in (min(values), max(values)):
            y = at(LENGTHS[0], value).split(",")[1]
            parts.append(f'<text x="{left - 6}" y="{y}" text-anchor="end">{value:.3g}</text>')
        for colour, (name, line) in zip(colours, lines.items(), strict=False):
            path = " ".join(at(one["length"], one[key]) for one in line)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [
                f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{colour}"/>' for p in path.split()
            ]
            if panel == 0:
                begin = left + 120 * list(lines).index(name)
                parts.append(f'<text x="{begin}" y="290" fill="{colour}">{name}</text>')
        parts.append(f'<text x="{left + width}" y="{top + height + 32}" text-anchor="end">tokens a row</text>')
    return "\n".join([*parts, "</svg>", ""])


def _by_length(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first measurement of each model and length, shortest first: without those of more rows."""
    once = {(one["model"], one["length"]): one for one in reversed(found)}
    return sorted(once.values(), key=lambda one: one["length"])


def main(threads: int = 1) -> None:
    found = []
    for name in SHAPES:
        words = [sys.executable, "-m", "benchmarks.cost", "model", name, str(threads)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
        found += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        print("\n".join(table(found, threads)), flush=True)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text("\n".join([before + BEGIN, *table(found, threads), END + rest.split(END)[1]]), encoding="utf-8")
    PLOT.write_text(plot(found), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["model"]:
        for one in measure(sys.argv[2], int(sys.argv[3])):
            print(json.dumps(one), flush=True)
    else:
        main(*map(int, sys.argv[1:]))
