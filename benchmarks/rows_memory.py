"""Peak memory by the number of rows: `tunewright check`, and `train` for two steps, on generated rows.

    python benchmarks/rows_memory.py MODEL_FOLDER [--rows 10000 100000 1000000] [--kind label|chat] [--verb check|train]

Rows are 4 to 24 words, chats have two turns of that; hardly two are equal. The peak is that of the process
(`ru_maxrss`), the libraries and the model included. A tiny model keeps the time to that of the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LABELS = ("cardiology", "neurology", "oncology", "surgery")


def rows(count: int, kind: str) -> Iterator[dict[str, Any]]:
    """Generated rows, the same for the same count."""
    rng = random.Random(count)

    def text() -> str:
        return " ".join(f"w{rng.randrange(50_000)}" for _ in range(rng.randint(4, 24)))

    for _ in range(count):
        if kind == "label":
            yield {"text": text(), "label": rng.choice(LABELS)}
        else:
            yield {"messages": [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]}


def measure(model: str, count: int, kind: str, verb: str) -> tuple[float, float]:
    """Peak memory in MB and seconds of one command."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        with open(data, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows(count, kind))
        command = [
            sys.executable,
            "-c",
            "import sys; from tunewright.cli import main; sys.exit(main())",
            verb,
            str(data),
        ]
        command += ["--set", f"model={model}"]
        if verb == "train":
            command += ["--set", "train.max_steps=2", "--out", f"{folder}/run"]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        error = process.stderr.read() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed: {error[-2000:]}")
        return usage.ru_maxrss / 1000, time.perf_counter() - started


def main() -> None:
    """Prints one line a size, with the growth a row since the size before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="a folder or a fetched model")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--kind", choices=("label", "chat"), default="label")
    parser.add_argument("--verb", choices=("check", "train"), default="check")
    asked = parser.parse_args()
    before: tuple[int, float] | None = None
    peaks = []
    for count in asked.rows:
        peak, seconds = measure(asked.model, count, asked.kind, asked.verb)
        growth = f"{(peak - before[1]) * 1e6 / (count - before[0]):6.0f} bytes a row more" if before else ""
        print(f"{asked.verb} {asked.kind} {count:9,} rows: {peak:6.0f} MB, {seconds:5.0f} s {growth}", flush=True)
        before = (count, peak)
        peaks.append(peak)
    if asked.json:
        print(json.dumps({"ratio": peaks[-1] / peaks[0]}))


if __name__ == "__main__":
    main()
