"""The medical example as it is shipped: minutes of the whole run, and accuracy on unseen rows.

`python -m benchmarks.medical [--json]`; the model and the rows must be fetched. Nothing kept of an earlier run is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tunewright.core.files import cache_folder

PLAN = Path(__file__).parents[1] / "examples" / "medical.yaml"


def cache_apart(place: Path) -> Path:
    """A cache with what was fetched and the machine's speed: base figures are asked anew, what is made stays in it."""
    fetched, cache = cache_folder(), place / "cache"
    for part in ("models", "data", "machine"):
        (cache / part).mkdir(parents=True)
        for entry in sorted((fetched / part).glob("*")):
            (cache / part / entry.name).symlink_to(entry)
    return cache


def main() -> dict[str, float]:
    """Runs `tunewright tune` in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = cache_apart(folder)
        start = "import sys; from tunewright.cli import main; sys.exit(main())"
        words = ["tune", "--plan", str(PLAN), "--out", str(folder / "run")]
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", start, *words], env={**os.environ, "TUNEWRIGHT_CACHE": str(cache)}, check=False
        )
        minutes = (time.perf_counter() - started) / 60
        if done.returncode not in (0, 3):
            raise SystemExit(done.returncode)
        verdict = json.loads((folder / "run" / "verdict.json").read_text())
        accuracy = next(metric["tuned"] for metric in verdict["metrics"] if metric["name"] == "accuracy")
    return {"minutes": minutes, "accuracy": accuracy}


if __name__ == "__main__":
    figures = main()
    print(f"{figures['minutes']:.1f} minutes, accuracy {figures['accuracy']:.3f}")
    if "--json" in sys.argv:
        print(json.dumps(figures))
