"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from benchmarks.table.child import ROOT, cores

NO_BF16 = "no bf16 products on this machine"
_TELLING = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def describe() -> str:
    """One line: processor, instruction sets that matter, cores, memory, system."""
    cpu, flags = _cpu()
    bf16 = "" if multiplies_bf16() else f"; {NO_BF16}"
    sets = ", ".join(flag for flag in _TELLING if flag in flags) or "no telling instruction set"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{cpu}, {cores()} cores ({sets}{bf16}), {memory:.0f} GB, {system}"


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for products of bfloat16."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & _cpu()[1])


def commit() -> str:
    """The commit of this checkout, with a + when it has changes."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", "src", ":(glob)benchmarks/**/*.py") else "")
    except (OSError, subprocess.SubprocessError):
        return "no commit"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _cpu() -> tuple[str, set[str]]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine(), set()
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in info.read_text(encoding="utf-8").splitlines())
        if value
    }
    return fields.get("model name", platform.machine()), set(fields.get("flags", fields.get("features", "")).split())
