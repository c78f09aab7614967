"""The medical example with 1,600 training rows and 3 passes: minutes of the whole run, and accuracy on unseen rows.

`python -m benchmarks.medical [--json]`; the model and the rows must be fetched. Nothing kept of an earlier run is used.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tunewright.core.files import cache_folder
from tunewright.pipeline.example_data import example

PLAN = Path(__file__).parents[1] / "examples" / "medical.yaml"
PASSES = 3
"""One more than the example takes for its 400 rows."""


def longer_rows(place: Path) -> Path:
    """The example's rows in a folder of their own, with the longer training file."""
    folder = Path(shutil.copytree(example("icd10"), place / "rows"))
    (folder / "train-1600.csv").replace(folder / "train.csv")
    return folder


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
        longer_rows(folder)
        cache = cache_apart(folder)
        start = "import sys; from tunewright.cli import main; sys.exit(main())"
        words = ["tune", str(folder / "rows"), "--plan", str(PLAN), "--out", str(folder / "run")]
        # A plan for 50 steps validates every 17, and might stop 300 before the passes that are asked for.
        sets = (f"train.num_train_epochs={PASSES}", "train.eval_steps=100", "train.early_stopping_patience=0")
        words += [word for one in sets for word in ("--set", one)]
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
