"""What privacy costs: accuracy on unseen rows against epsilon, by which weights train.

`python -m benchmarks.private_utility [digits|medical] [--seeds 5] [--epsilons 0.5 1 3 8 inf] [--policies full ...]
[--json]`. Runs go through the product.

digits: body trained on 0-4, tuned on 5-9, judged on a split that the seed moves, alike for all policies. The body has
96,000 weights. Each policy has a learning rate of its own, the best of those in notes.md at epsilon 3 on the splits
of seeds from 5 on, which are in no table.

medical: SmolLM2 on the medical example's 1,600 diagnoses, one chapter of 22 each, with the recipe's
instruction; what is protected is a category with its diagnoses. 8 steps of 256 rows on average, of about 215 of the
1,343 categories, 105,000 tokens a run. Seeds move noise, order and adapters, never the rows.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.medical import cache_apart
from tunewright.core.config import Request
from tunewright.core.store import Run
from tunewright.pipeline import digits
from tunewright.pipeline.example_data import example
from tunewright.pipeline.tune import tune

COMMON = (
    "train.threads=1", "train.early_stopping_patience=0", "train.lr_scheduler_type=constant", "evaluate.resamples=200",
    "evaluate.baselines=[]", "evaluate.metrics=[accuracy]",
)  # fmt: skip
WIDTH = 32
WHOLE_LAYERS = ("full", "last")
"""Policies that train no small part: what the others are compared with, and what is shown beside them."""


@dataclass(frozen=True)
class Task:
    """Rows, the model that is tuned on them, and which weights train."""

    prepare: Callable[[Path], tuple[Path, str]]
    """Makes rows and model in an empty folder with a cache beside it; returns where the rows are, and the model."""
    unit: str
    """Whom the promise is for, as a setting."""
    common: tuple[str, ...]
    policies: dict[str, tuple[str, ...]]


def _digits(place: Path) -> tuple[Path, str]:
    digits.make(lambda sentence: None, WIDTH)
    folder = digits.folder(WIDTH)
    return folder / "rows.jsonl", str(folder / "model")


def _medical(place: Path) -> tuple[Path, str]:
    """Without validation rows, which steer nothing under privacy."""
    folder = Path(shutil.copytree(example("icd10"), place / "rows"))
    (folder / "valid.csv").unlink()
    return folder, "smollm2"


TASKS = {
    "digits": Task(
        _digits,
        "privacy.unit=row",
        ("train.per_device_train_batch_size=128", "train.max_steps=120", "train.save_steps=120",
         "train.eval_steps=120", "data.splits=[0.7, 0.0, 0.3]"),
        {
            "full": ("method=full", "train.learning_rate=0.01"),
            "last": ("method=last", "method.layers=1", "train.learning_rate=0.02"),
            "norm": ("method=norm", "train.learning_rate=0.4"),
            "norm_head": ("method=norm_head", "method.share=0.3", "train.learning_rate=0.01"),
            "sparse": ("method=sparse", "method.share=0.1", "train.learning_rate=0.04"),
        },
    ),
    "medical": Task(
        _medical,
        "privacy.unit=unit",
        ("train.per_device_train_batch_size=16",
         "train.gradient_accumulation_steps=16", "train.max_steps=8", "train.save_steps=8", "train.eval_steps=8",
         "evaluate.probes=[]", "evaluate.generated_rows=0"),
        {
            "full": ("method=full", "method.tied=freeze", "train.learning_rate=3e-4"),
            "lora": ("method=lora", "method.r=16", "train.learning_rate=1e-3"),
            "norm": ("method=norm", "train.learning_rate=2e-2"),
            "sparse": ("method=sparse", "train.learning_rate=4e-3"),
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """A task made ready in a folder."""

    task: Task
    place: Path
    rows: Path
    model: str

    def accuracy(self, policy: str, epsilon: float, seed: int) -> float:
        """Accuracy on the unseen rows of one run."""
        privacy = () if epsilon == float("inf") else (f"privacy.target_epsilon={epsilon}", self.task.unit)
        sets = (*COMMON, *self.task.common, *self.task.policies[policy], *privacy, f"seed={seed}")
        out = self.place / f"{policy}-{epsilon}-{seed}"
        tune(Request(str(self.rows), None, sets, (), out, None, self.model))
        (found,) = Run.open(out).must_read("verdict.json")["metrics"]
        return float(found["tuned"])


def ready(task: Task, place: Path) -> Bench:
    """The task in a folder, with a cache of its own."""
    os.environ["TUNEWRIGHT_CACHE"] = str(cache_apart(place))
    return Bench(task, place, *task.prepare(place))


def main() -> None:
    """Prints a line a policy and, with --json, all figures."""
    words = argparse.ArgumentParser()
    words.add_argument("task", nargs="?", choices=[*TASKS], default="digits")
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--first-seed", type=int, default=0)
    words.add_argument("--epsilons", type=float, nargs="*", default=[0.5, 1, 3, 8, float("inf")])
    words.add_argument("--policies", nargs="*")
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    logging.getLogger("tunewright").setLevel(logging.ERROR)
    figures: dict[str, Any] = {}
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    with tempfile.TemporaryDirectory() as name:
        bench = ready(TASKS[asked.task], Path(name))
        for policy in asked.policies or bench.task.policies:
            for epsilon in asked.epsilons:
                found = [bench.accuracy(policy, epsilon, seed) for seed in seeds]
                figures[f"{policy} {epsilon:g}"] = found
                spread = statistics.stdev(found) if len(found) > 1 else 0.0
                print(f"{policy}, epsilon {epsilon:g}: {statistics.mean(found):.3f} (sd {spread:.3f})", flush=True)
    if asked.json:
        means = {name: statistics.mean(found) for name, found in figures.items()}
        few = [mean for name, mean in means.items() if name.endswith(" 3") and not name.startswith(WHOLE_LAYERS)]
        if few and "full 3" in means:
            figures["gain"] = max(few) - means["full 3"]
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
