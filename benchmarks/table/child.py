"""What both environments' child processes share. Only the standard library: peers do not have ours, nor we theirs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".bench"
"""Workloads and measurements; git ignores it. Not under benchmarks/, where nothing may be ignored."""

BATCH, NEW_TOKENS = 8, 64
"""Of free generation: prompts at a time on both sides, and tokens of an answer at most."""

MOST_STEPS = 8
"""Of a training run: one pass over the workload's rows, which both sides take in the same order."""


def workload(name: str) -> Any:
    """What `python -m benchmarks.ours.workload` made: the same rows for both sides."""
    return json.loads((KEPT / "workloads" / f"{name}.json").read_text(encoding="utf-8"))


def steps() -> int:
    """Optimiser steps of a training run; the first is left out of every rate."""
    return int(os.environ.get("BENCH_STEPS", "4"))


def this_round() -> int:
    """The number of the round, from 0: what differs between repeated runs."""
    return int(os.environ.get("BENCH_ROUND", "0"))


def since_command() -> float:
    """Seconds since the runner started this process."""
    return time.time() - float(os.environ["BENCH_STARTED"])


def cores() -> int:
    """Cores this process may use: the thread count of both sides."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def rate(tokens: Sequence[float], seconds: Sequence[float]) -> float:
    """Tokens per second, the first step aside: it allocates."""
    skipped = 1 if len(tokens) > 1 else 0
    return sum(tokens[skipped:]) / sum(seconds[skipped:])


def emit(result: dict[str, Any], packages: Sequence[str]) -> None:
    """Prints the result, with the versions it was measured with, as the last line."""
    sys.stdout.write("\n" + json.dumps({**result, "versions": {name: version(name) for name in packages}}) + "\n")
    sys.stdout.flush()
