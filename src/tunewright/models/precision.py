"""Whether this machine multiplies bfloat16 fast: measured once, kept in the cache, recorded in the run."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

from tunewright.core.files import cache_folder, digest, read_json, write_json

WORTH = 1.5
"""bfloat16 is taken when its matrix product is at least so many times faster than float32's."""


def resolve(setting: str) -> torch.dtype:
    """The dtype of frozen weights for a plan's `precision` (auto, float32, bfloat16)."""
    if setting == "auto":
        speeds = measure()
        return torch.bfloat16 if speeds["bfloat16"] >= WORTH * speeds["float32"] else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[setting]


def measure() -> dict[str, float]:
    """GFLOP/s of a matrix product in float32 and bfloat16: the best measured here so far, as busy moments mislead."""
    capability = torch.backends.cpu.get_cpu_capability()
    machine = digest(_processor(), platform.machine(), torch.__version__, capability)
    path = cache_folder() / "machine" / f"{machine}-{torch.get_num_threads()}.json"
    kept: dict[str, float] = read_json(path) if path.is_file() else {}
    speeds = {
        "float32": max(_speed(torch.float32), kept.get("float32", 0.0)),
        "bfloat16": max(_speed(torch.bfloat16), kept.get("bfloat16", 0.0)),
    }
    if speeds != kept:
        write_json(path, speeds)
    return speeds


def _processor() -> list[str]:
    """Its model and what it can do: a cache may be shared by machines of which one alone multiplies bfloat16 fast."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    first = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    return [platform.processor(), *(first.get(name, "") for name in ("model name", "flags", "Features"))]


def _speed(dtype: torch.dtype) -> float:
    rows, inner, columns = 512, 576, 1536
    a, b = torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype)
    torch.nn.functional.linear(a, b)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * rows * inner * columns / best / 1e9
