"""The machine a run is on: threads are fixed at the start, versions are written down."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tunewright import __version__
from tunewright.models.contracts import Origin
from tunewright.pipeline.waiting import look_around

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "scipy", "scikit-learn")


def fix_threads(wanted: int | None) -> int:
    """Sets the thread count (one per core unless wanted otherwise) and returns it."""
    count = wanted or cores()
    torch.set_num_threads(count)
    look_around()
    return count


def cores() -> int:
    """Cores this process may use: those it is bound to, and no more than a container's share of time pays for.

    Threads beyond that share wait for one another: a container with 2 of 64 cores' time sees all 64.
    """
    bound = bound_cores()
    return max(1, min(bound, int(min(_shares(_CONTROL_GROUPS), default=bound))))


def bound_cores() -> int:
    """Cores this process is bound to, or all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shares(root: Path) -> Iterator[float]:
    """How many cores' time the limits of this process's control group and of those above it allow."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        own = root / next(line for line in lines if line.startswith("0::")).removeprefix("0::").strip().lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(root) and (folder / "cpu.max").is_file():
                yield from _share(*(folder / "cpu.max").read_text(encoding="ascii").split())
    older = root / "cpu"
    with suppress(OSError):
        quota, period = ((older / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        yield from _share(quota.strip(), period.strip())


def _share(quota: str, period: str) -> Iterator[float]:
    """Of microseconds of time in each period; nothing where there is no limit (`max`, or -1)."""
    if quota.isdigit() and period.isdigit() and int(period):
        yield int(quota) / int(period)


def surroundings() -> dict[str, Any]:
    """What the bits of a result depend on beside the plan: versions, and the machine's kind."""
    return {
        "tunewright": __version__,
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "capability": torch.backends.cpu.get_cpu_capability(),
        },
    }


def changed_since(found: Mapping[str, Any]) -> list[str]:
    """What is otherwise now than info.json says: `torch 2.9.0, now 2.13.0`. How many cores there are changes no bit."""
    was, now = ({**one, **one["versions"], **one["machine"]} for one in (found, surroundings()))
    names = [name for name in now if name not in ("versions", "machine", "cores")]
    return [f"{name} {was.get(name)}, now {now[name]}" for name in names if was.get(name) != now[name]]


def info(origin: Origin, dtypes: tuple[torch.dtype, torch.dtype], threads: int, data_hash: str) -> dict[str, Any]:
    """What info.json holds; of the dtypes the first is the model's, the second that in which training multiplies."""
    precision, products = (str(dtype).removeprefix("torch.") for dtype in dtypes)
    return {
        **surroundings(),
        "threads": threads,
        "precision": precision,
        "products": products,
        "model": {
            "name": origin.name,
            "folder": str(origin.folder),
            "digest": origin.digest,
            "reading": origin.reading,
            "licence": origin.licence,
        },
        "data": data_hash,
        "git": _git_state(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def multiplied_in(info: Mapping[str, Any]) -> str:
    """The precision with which a run trains as it began; older runs multiplied in that of their model."""
    return str(info.get("products", info["precision"]))


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git_state() -> str | None:
    """The commit of the working directory, with a + when it has changes; None outside git."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")
