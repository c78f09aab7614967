"""`doctor`: what works on this machine, and the command that brings what does not. Nothing is downloaded."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

from tunewright.core.errors import MissingPart, UserError
from tunewright.core.files import cache_folder
from tunewright.models.embedded import EMBEDDED, resolve_model
from tunewright.pipeline.example_data import EXAMPLES, example

State = Literal["ok", "missing", "warning", "fault"]
"""missing = optional and not there; warning = works, with a limit; fault = must be mended."""

_CHECKED = ("torch", "transformers", "peft")
_MEMORY_NEEDED, _DISK_NEEDED = 4.0, 3.0  # GB: LoRA on the default model; its conversion and a few runs
_COMPARE = {
    ">=": lambda have, limit: have >= limit,
    ">": lambda have, limit: have > limit,
    "<=": lambda have, limit: have <= limit,
    "<": lambda have, limit: have < limit,
    "==": lambda have, limit: have == limit,
    "!=": lambda have, limit: have != limit,
}


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: State
    sentence: str
    """What was found; unless all is well also how to mend it."""


def doctor() -> list[Finding]:
    """Looks at Python, libraries, processor, memory, disk, extras, models and example data."""
    return [
        _python(),
        *(_library(name) for name in _CHECKED),
        _torch_build(),
        _cores(),
        _bf16(),
        _memory(),
        _disk(),
        *_extras(),
        *(_model(name) for name in EMBEDDED),
        *(_example(name) for name in EXAMPLES),
    ]


def within(have: str, specifier: str) -> bool:
    """Whether a version meets a comma-separated specifier, by its release numbers alone (2.13.0+cpu is 2.13.0)."""
    clauses = re.findall(r"([<>=!]=?)\s*([\d.]+)", specifier)
    return all(_COMPARE[sign](_numbers(have), _numbers(limit)) for sign, limit in clauses)


def _numbers(text: str) -> tuple[int, ...]:
    found = [int(number) for number in re.findall(r"\d+", re.split(r"[+a-z]", text, maxsplit=1)[0])]
    while found and found[-1] == 0:
        found.pop()  # 5 and 5.0 are one version
    return tuple(found)


def _python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} ({sys.executable})")


def _library(name: str) -> Finding:
    wanted = next((spec for found, spec, extra in _requirements() if found == name and not extra), "")
    have = _installed(name)
    if have is None:
        return Finding(name, "fault", f"Not installed. Run `pip install '{name}{wanted}'`.")
    if not within(have, wanted):
        return Finding(name, "fault", f"{have}; tested with {wanted}. Run `pip install '{name}{wanted}'`.")
    return Finding(name, "ok", f"{have} (tested with {wanted or 'any'})")


def _torch_build() -> Finding:
    import torch

    unused = f"; {torch.cuda.get_device_name()} is there and not used" if torch.cuda.is_available() else ""
    return Finding("device", "ok", f"CPU ({torch.backends.cpu.get_cpu_capability()}){unused}")


def _cores() -> Finding:
    from tunewright.pipeline.machine import bound_cores, cores

    share = "" if cores() == bound_cores() else f", a container's share of {bound_cores()}"
    return Finding("threads", "ok", f"{cores()}, one a core{share}")


def _bf16() -> Finding:
    flags = Path("/proc/cpuinfo")
    found = set(flags.read_text(encoding="utf-8").split()) if flags.is_file() else set()
    fast = sorted(found & {"amx_bf16", "avx512_bf16", "bf16"})
    if fast:
        return Finding("bfloat16", "ok", f"The processor multiplies it by itself ({', '.join(fast)}).")
    if platform.machine() == "arm64":
        return Finding("bfloat16", "ok", "Whether it is fast is measured at the first run (precision: auto).")
    return Finding("bfloat16", "ok", "The processor has no instructions for it; precision: auto takes float32.")


def _memory() -> Finding:
    gigabytes = _bytes_of_memory() / 1e9
    if not gigabytes:
        return Finding(
            "memory", "warning", f"Its size is not known here; LoRA on smollm2 takes {_MEMORY_NEEDED:.0f} GB."
        )
    if gigabytes >= _MEMORY_NEEDED:
        return Finding("memory", "ok", f"{gigabytes:.1f} GB")
    return Finding(
        "memory",
        "warning",
        f"{gigabytes:.1f} GB; LoRA on smollm2 takes about {_MEMORY_NEEDED:.0f} GB. Lower "
        "train.per_device_train_batch_size and train.max_length.",
    )


def _bytes_of_memory() -> int:
    """Of the machine, or of the container if that is less; 0 where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    limit = Path("/sys/fs/cgroup/memory.max")
    stated = limit.read_text(encoding="ascii").strip() if limit.is_file() else ""
    return min(total, int(stated)) if stated.isdigit() else total


def _disk() -> Finding:
    folder = cache_folder()
    standing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(standing, os.W_OK):
        return Finding("cache", "fault", f"{folder} cannot be written. Set TUNEWRIGHT_CACHE to a folder that can.")
    free = shutil.disk_usage(standing).free / 1e9
    if free >= _DISK_NEEDED:
        return Finding("cache", "ok", f"{folder}, {free:.0f} GB free")
    return Finding(
        "cache",
        "warning",
        f"{folder} has {free:.1f} GB free; {_DISK_NEEDED:.0f} GB are good to have. Make room, or set TUNEWRIGHT_CACHE "
        "to a folder on another disk.",
    )


def _extras() -> list[Finding]:
    """What pyproject.toml offers beside the requirements, extra by extra."""
    by_extra: dict[str, list[str]] = {}
    for name, _, extra in _requirements():
        if extra:
            by_extra.setdefault(extra, []).append(name)
    found = []
    for extra, names in sorted(by_extra.items()):
        absent = [name for name in names if _installed(name) is None]
        if absent:
            sentence = f"Not installed: {', '.join(absent)}. Run `pip install 'tunewright[{extra}]'`."
            found.append(Finding(f"extra {extra}", "missing", sentence))
        else:
            found.append(Finding(f"extra {extra}", "ok", ", ".join(names)))
    return found


def _fetched(what: str, missing: str, find: Callable[[], Path]) -> Finding:
    try:
        return Finding(what, "ok", str(find()))
    except MissingPart:
        return Finding(what, "missing", missing)
    except UserError as error:
        return Finding(what, "fault", " ".join(error.problems))


def _model(name: str) -> Finding:
    model = EMBEDDED[name]
    accept = " --accept-licence" if model.terms else ""
    missing = f"Not fetched ({model.licence}). Run `tunewright fetch {name}{accept}`."
    return _fetched(f"model {name}", missing, lambda: resolve_model(name).folder)


def _example(name: str) -> Finding:
    return _fetched(f"data {name}", f"Not fetched. Run `tunewright fetch {name}`.", lambda: example(name))


def _requirements() -> list[tuple[str, str, str]]:
    """Name, specifier and extra of each requirement, as the installed package states them."""
    found = []
    for line in requires("tunewright") or ():
        requirement, _, marker = line.partition(";")
        parts = re.match(r"\s*([\w.-]+)\s*(?:\[[^\]]*\])?\s*\(?([^)]*)\)?", requirement)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", marker)
        if parts:
            found.append((parts[1], parts[2].strip(), extra[1] if extra else ""))
    return found


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
