"""What the quick probes take, which every `tune` of a chat model asks of base and of tuned.

`python -m benchmarks.quick_probes [--rounds 3] [--json]`: seconds a model, SmolLM2 in float32 on all cores. The model
is open already, and nothing is kept from before.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

import benchmarks.ours  # noqa: F401  (threads wait as the command line has them wait)
from benchmarks.table.child import cores
from tunewright.core import plugins
from tunewright.core.progress import silent
from tunewright.evaluate.probes._base import Probe
from tunewright.models.contracts import LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.pipeline.machine import fix_threads


def quick_probes() -> list[Probe]:
    """All that have a quick form, in it."""
    return [kind(**kind.forms["quick"]) for kind in plugins.everything("probes") if "quick" in kind.forms]


def seconds(probe: Probe, model: LoadedModel) -> float:
    """Of one asking."""
    started = time.perf_counter()
    probe.ask(model, silent)
    return time.perf_counter() - started


def main() -> None:
    """Prints seconds a probe, and together; with --json all rounds."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    fix_threads(cores())
    model = open_model(resolve_model("smollm2"), torch.float32)
    rounds = [{probe.plugin_name(): seconds(probe, model) for probe in quick_probes()} for _ in range(asked.rounds)]
    found = {name: [one[name] for one in rounds] for name in rounds[0]} | {
        "together": [sum(o.values()) for o in rounds]
    }
    for name, values in found.items():
        print(f"{name}: {', '.join(f'{value:.1f}' for value in values)} s", flush=True)
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
