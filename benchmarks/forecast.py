"""What `plan` and the dry step say a run will cost, against what it did: the shipped examples.

`python -m benchmarks.forecast [medical legal careers] [--json]`; the model and the rows must be fetched. Each example
is planned and then tuned as it stands, in processes of their own; nothing kept of an earlier run is used. A figure is
the larger of forecast and actual over the smaller: 1 is exact, 1.25 is off by a quarter.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.medical import cache_apart

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("medical", "legal", "careers")


def tunewright(cache: Path, *words: str) -> None:
    """One command, which must end as a finished run does: well, or not proven better."""
    start = "import sys; from tunewright.cli import main; sys.exit(main())"
    surroundings = {**os.environ, "TUNEWRIGHT_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", start, *words], env=surroundings, check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(done.returncode)


def measured(name: str) -> dict[str, float]:
    """Of one example: how far plan and dry step were off, in time and in memory."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        cache, plan = cache_apart(folder), str(EXAMPLES / f"{name}.yaml")
        tunewright(cache, "plan", "--plan", plan, "--out", str(folder / "planned.json"))
        tunewright(cache, "tune", "--plan", plan, "--out", str(folder / "run"))
        planned = json.loads((folder / "planned.json").read_text(encoding="utf-8"))["forecast"]
        told = json.loads((folder / "run" / "forecast.json").read_text(encoding="utf-8"))
    actual = told["actual"]
    figures: dict[str, float] = {}
    for which, forecast in (("plan", planned), ("dry_step", told["forecast"])):
        for what, key in (("time", "seconds"), ("memory", "memory_bytes")):
            figures[f"{name}_{which}_{what}"] = off(forecast[key], actual[key])
            print(f"{name}: {which}, {what}: {forecast[key]:,.0f} foreseen, {actual[key]:,.0f} found", flush=True)
    return figures


def off(foreseen: float, found: float) -> float:
    """The larger over the smaller."""
    return max(foreseen, found) / min(foreseen, found)


def main() -> None:
    """Prints a line a forecast."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("examples", nargs="*", default=NAMES)
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    if unknown := set(asked.examples) - set(NAMES):
        words.error(f"there is no example {', '.join(sorted(unknown))}; allowed: {', '.join(NAMES)}")
    found: dict[str, Any] = {}
    for name in asked.examples:
        found |= measured(name)
    print("\n".join(f"{key}: {value:.2f}" for key, value in found.items()))
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
