"""A training run through the product: `python -m benchmarks.ours.train lora|full`; figures from its events."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks.ours.workload import CHAT_SETTINGS, FOLDER
from benchmarks.table.child import emit, rate, since_command, steps
from tunewright.core.config import Request
from tunewright.core.store import Run
from tunewright.pipeline.train import train

_SPIN = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile os.getppid() == PARENT: pass"


@contextmanager
def busy_core() -> Iterator[None]:
    """Another program that keeps one core busy, and ends with this one."""
    other = subprocess.Popen([sys.executable, "-c", _SPIN.replace("PARENT", str(os.getpid()))])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def run(asked: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Trains, and reads tokens, seconds and losses from the run folder."""
    reached: dict[str, float] = {}

    def progress(what: str, done: int, total: int, detail: str = "") -> None:
        reached.setdefault(what, since_command())

    chosen = (f"method.name={asked.method}", f"train.max_steps={asked.steps}", f"train.precision={asked.precision}")
    train(Request(data=str(FOLDER / "chat.jsonl"), sets=(*CHAT_SETTINGS, *chosen), out=folder), progress)
    done = Run.open(folder)
    events, info = done.events("step"), done.must_read("info.json")
    tokens, seconds = [e["tokens"] for e in events], [e["seconds"] for e in events]
    return {
        "tokens": tokens,
        "seconds": seconds,
        "losses": [e["loss_sum"] / e["count"] for e in events],
        "tokens_per_second": rate(tokens, seconds),
        # The dry step is ours alone, and aside: what came before it, and the first step.
        "first_step_seconds": reached["dry step on the longest batch"] + seconds[0],
        "threads": info["threads"],
        "precision": info["precision"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=["lora", "full"])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--steps", type=int, default=steps())
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, busy_core() if asked.busy else nullcontext():
        result = run(asked, Path(folder) / "run")
    emit(result, ["torch", "transformers", "peft"])


if __name__ == "__main__":
    main()
