"""Seconds of `tunewright --help`, from the start of the process to its end: the best of three."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.table.child import emit

_HELP = "import sys; from tunewright.cli import main; sys.argv = ['tunewright', '--help']; sys.exit(main())"


def main() -> None:
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", _HELP], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    emit({"seconds": min(seconds)}, [])


if __name__ == "__main__":
    main()
