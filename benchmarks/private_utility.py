"""What privacy costs: accuracy against epsilon, by which weights train. Digits: body trained on 0-4, tuned on 5-9.

`python -m benchmarks.private_utility [--seeds 5] [--epsilons 0.5 1 3 8 inf] [--policies full norm_head ...] [--json]`.
Runs go through the product; accuracy is on unseen digits of a split that the seed moves, alike for all policies. The
body has 96,000 weights. Each policy has a learning rate of its own, the best of three or four at epsilon 3 on the
splits of seeds 5 and 6, which are in no table (norm and sparse: tried on a body of 6,600 weights).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tunewright.core.config import Request
from tunewright.core.store import Run
from tunewright.pipeline import digits
from tunewright.pipeline.tune import tune

COMMON = (
    "train.threads=1", "train.per_device_train_batch_size=128", "train.max_steps=120", "train.save_steps=120",
    "train.eval_steps=120", "train.early_stopping_patience=0", "train.lr_scheduler_type=constant",
    "evaluate.resamples=200", "evaluate.baselines=[]", "evaluate.metrics=[accuracy]", "data.splits=[0.7, 0.0, 0.3]",
)  # fmt: skip
POLICIES: dict[str, tuple[str, ...]] = {
    "full": ("method=full", "train.learning_rate=0.01"),
    "last": ("method=last", "method.layers=1", "train.learning_rate=0.02"),
    "norm": ("method=norm", "train.learning_rate=0.1"),
    "norm_head": ("method=norm_head", "train.learning_rate=0.02"),
    "sparse": ("method=sparse", "method.share=0.1", "train.learning_rate=0.02"),
}
"""Which weights train."""
WIDTH = 32


def accuracy(place: Path, policy: str, epsilon: float, seed: int) -> float:
    """Accuracy on the unseen digits of one run."""
    privacy = () if epsilon == float("inf") else (f"privacy.target_epsilon={epsilon}",)
    sets = (*COMMON, *POLICIES[policy], *privacy, f"seed={seed}")
    example = digits.folder(WIDTH)
    out = place / f"{policy}-{epsilon}-{seed}"
    tune(Request(str(example / "rows.jsonl"), None, sets, (), out, None, str(example / "model")))
    (found,) = Run.open(out).must_read("verdict.json")["metrics"]
    return float(found["tuned"])


def main() -> None:
    """Prints a line a policy and, with --json, all figures."""
    words = argparse.ArgumentParser()
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--first-seed", type=int, default=0)
    words.add_argument("--epsilons", type=float, nargs="*", default=[0.5, 1, 3, 8, float("inf")])
    words.add_argument("--policies", nargs="*", default=[*POLICIES])
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    logging.getLogger("tunewright").setLevel(logging.ERROR)
    figures: dict[str, Any] = {}
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["TUNEWRIGHT_CACHE"] = str(place / "cache")
        digits.make(lambda sentence: None, WIDTH)
        for policy in asked.policies:
            for epsilon in asked.epsilons:
                found = [accuracy(place, policy, epsilon, seed) for seed in seeds]
                figures[f"{policy} {epsilon:g}"] = found
                spread = statistics.stdev(found) if len(found) > 1 else 0.0
                print(f"{policy}, epsilon {epsilon:g}: {statistics.mean(found):.3f} (sd {spread:.3f})", flush=True)
    if asked.json:
        means = {name: statistics.mean(found) for name, found in figures.items()}
        others = [mean for name, mean in means.items() if name.endswith(" 3") and not name.startswith("full")]
        if others and "full 3" in means:
            figures["gain"] = max(others) - means["full 3"]
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
