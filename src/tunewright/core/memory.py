"""What this process holds in memory, and giving back what it does not."""

from __future__ import annotations

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path


def peak_memory() -> int:
    """Bytes this process has held at most."""
    with suppress(OSError, StopIteration, ValueError):  # the other figure may be that of who started the process
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory() -> int:
    """Bytes this process holds now; where the system does not tell, at most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return peak_memory()
    return pages * resource.getpagesize()


def release_memory() -> None:
    """Gives memory that is free but kept for later back to the system, where its C library can; what comes next may be
    larger blocks that find no place in it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
