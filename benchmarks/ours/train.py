"""A training run through the product: `python -m benchmarks.ours.train lora|full`; figures from its events.

Adapters are drawn by the number of the round, as the peer's are. `--cold` leaves the dry step out, so that the first
step is as cold as the peer's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

from benchmarks.ours.workload import CHAT_SETTINGS, FOLDER
from benchmarks.table.child import emit, rate, since_command, steps, this_round
from tunewright.core.config import Request
from tunewright.core.store import Run
from tunewright.methods.lora import Lora
from tunewright.pipeline import train as train_stage
from tunewright.pipeline.forecast import Forecast

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


@contextmanager
def drawn_by(seed: int) -> Iterator[None]:
    """Within it, adapters are drawn by this seed. The run's own seed would change the order of its rows as well."""
    attach = Lora.attach
    with patch.object(Lora, "attach", lambda method, model, _: attach(method, model, seed)):
        yield


@contextmanager
def cold() -> Iterator[None]:
    """Within it, nothing is forecast: no dry step has warmed the process when the first step comes."""
    nothing = Forecast(0.0, 0.0, 0.0, 0, 0, 0, "nothing")
    with patch.object(train_stage, "by_dry_step", lambda *_: nothing):
        yield


def run(asked: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Trains, and reads tokens, seconds and losses from the run folder."""
    reached: dict[str, float] = {}

    def progress(what: str, done: int, total: int, detail: str = "") -> None:
        if done:
            reached.setdefault(what, since_command())

    chosen = (
        f"method.name={asked.method}",
        f"train.max_steps={asked.steps}",
        f"train.precision={asked.precision}",
        f"train.processes={asked.processes}",
    )
    request = Request(data=str(FOLDER / "chat.jsonl"), sets=(*CHAT_SETTINGS, *chosen), out=folder)
    with drawn_by(this_round()), cold() if asked.cold else nullcontext():
        train_stage.train(request, progress)
    done = Run.open(folder)
    events, info = done.events("step"), done.must_read("info.json")
    tokens, seconds = [e["tokens"] for e in events], [e["seconds"] for e in events]
    return {
        "tokens": tokens,
        "seconds": seconds,
        "losses": [e["loss_sum"] / e["count"] for e in events],
        "tokens_per_second": rate(tokens, seconds),
        "first_step_seconds": reached["training"],
        "threads": info["threads"],
        "precision": info["precision"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=["lora", "full"])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--steps", type=int, default=steps())
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, busy_core() if asked.busy else nullcontext():
        result = run(asked, Path(folder) / "run")
    emit(result, ["torch", "transformers", "peft"])


if __name__ == "__main__":
    main()
