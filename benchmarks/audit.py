"""Does the audit see leaks, and does it keep quiet where there are none? Handwritten digits, a small network.

`python -m benchmarks.audit [--seeds 20] [--json]`. In every seed, through the product: a run without privacy (the
control), a private run, and two private runs with a planted fault (the comparison before training, which would notice
one of them, is off). What is asked:

- the control's bound is 2 or more;
- no private run's bound lies above its epsilon (at the delta of the test, see `tested_claim`);
- each fault is caught (bound above epsilon) in 18 of 20 seeds or more.

Few rows, so that 80 runs take minutes; the control has more canaries and is trained longer, since it is looked at from
outside alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from tunewright.core.config import Request
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.gradients import _noise, private
from tunewright.models import per_unit
from tunewright.models.families.image_classifier import ImageClassifier
from tunewright.pipeline import train
from tunewright.pipeline.audit import canaried
from tunewright.pipeline.digits import shape, write_digits
from tunewright.pipeline.reopen import reopen

EPSILON, ROWS = 1.0, 80
SETS = (
    "train.threads=1", "train.lr_scheduler_type=constant", "method=full",
    "train.early_stopping_patience=0", "train.weight_decay=0", "data.splits=[0.8, 0.0, 0.2]",
)  # fmt: skip
CONTROL = ("audit.canaries=1200", "train.per_device_train_batch_size=64", "train.max_steps=800", "train.save_steps=800",
           "train.eval_steps=800", "train.learning_rate=0.005")  # fmt: skip
PRIVATE = ("audit.canaries=200", f"privacy.target_epsilon={EPSILON}", "privacy.clip=0.01", "privacy.delta=1e-5",
           "train.learning_rate=0.002", "train.per_device_train_batch_size=8", "train.max_steps=30",
           "train.save_steps=30")  # fmt: skip
KEYS = {"control": "control", "private": "above", "layer unclipped": "layer", "sigma / 10": "sigma"}
"""What is run -> the key of how often its bound lay above the limit."""
LAYER = "body.2.0.weight"
"""The one that is left unclipped: the largest."""


class _Unclipped:
    """A layer's gradients that no clipping factor reaches, and whose size is not counted."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def squares(self) -> torch.Tensor:
        return torch.zeros_like(self.real.squares())

    def weighted(self, factor_U: torch.Tensor) -> torch.Tensor:
        whole: torch.Tensor = self.real.weighted(torch.ones_like(factor_U))
        return whole


@contextmanager
def planted(kind: str) -> Iterator[None]:
    """Within it, private training has the fault; the comparison with the definition that would see it is off."""
    noisy, watch, clipped, stage = (cast(Any, one) for one in (_noise.Clipped, per_unit.Watch, private.Private, train))
    release, end, begin, prove = noisy.release, watch.end, clipped.begin, stage.prove
    head: list[int] = []

    def begun(self: Any, model: Any, trained: Any, secret: str) -> Any:
        head[:] = [id(trained[LAYER])]
        return begin(self, model, trained, secret)

    def ended(self: Any) -> Any:
        found = end(self)
        return {name: _Unclipped(one) if name in head else one for name, one in found.items()}

    def quietly(self: Any, *given: Any) -> None:
        release(self.model_copy(update={"sigma": self.sigma / 10}), *given)

    try:
        stage.prove = lambda job: None
        if kind == "layer unclipped":
            watch.end, clipped.begin = ended, begun
        if kind == "sigma / 10":
            noisy.release = quietly
        yield
    finally:
        noisy.release, watch.end, clipped.begin, stage.prove = release, end, begin, prove


def measure(place: Path, kind: str, seed: int) -> dict[str, float]:
    """Trains and audits once: the bound, the claim, the noise found over the promised one."""
    sets = (*SETS, f"seed={seed}", *(CONTROL if kind == "control" else PRIVATE))
    out = place / f"{kind.split()[0]}-{seed}"
    request = Request(str(place / "rows.jsonl"), None, sets, (), out, None, str(place / "model"))
    with planted(kind):
        train.train(request, silent)
    run = Run.open(out)
    found = canaried(reopen(run, (), silent), run, silent)
    return {"bound": found.bound.epsilon, "claim": found.tested.epsilon, "noise": found.noise or 0.0}


def main() -> None:
    """Prints a line a kind and, with --json, all figures."""
    words = argparse.ArgumentParser()
    words.add_argument("--seeds", type=int, default=20)
    words.add_argument("--kinds", nargs="*", default=[*KEYS])
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    logging.getLogger("tunewright").setLevel(logging.ERROR)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["TUNEWRIGHT_CACHE"] = str(place / "cache")
        lines = write_digits(place / "all.jsonl", range(5, 10)).read_text().splitlines(keepends=True)
        (place / "rows.jsonl").write_text("".join(lines[:ROWS]))
        ImageClassifier().fresh(place / "model", shape("56789"), 0)
        for kind in asked.kinds:
            found = [measure(place, kind, seed) for seed in range(asked.seeds)]
            bounds = sorted(one["bound"] for one in found)
            above = sum(one["bound"] > min(one["claim"], 2.0 if kind == "control" else 1e9) for one in found)
            figures |= {f"{KEYS[kind]}_bounds": [round(bound, 3) for bound in bounds], KEYS[kind]: above}
            limit = "2" if kind == "control" else f"the claimed {found[0]['claim']:.2f}"
            middle = bounds[len(bounds) // 2]
            print(
                f"{kind}: bound {bounds[0]:.2f} to {bounds[-1]:.2f}, middle {middle:.2f}; "
                f"above {limit} in {above} of {asked.seeds} seeds",
                flush=True,
            )
    if asked.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
