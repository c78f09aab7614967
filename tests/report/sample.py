"""A rich, realistic run folder: 22 diagnoses from short complaints, tuned with LoRA."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

from tunewright.core.store import Run

from .sample_blocks import EVIL, USE, audit, comparison, data, dialect, retention, safety


def verdict(kind: str = "better") -> dict[str, Any]:
    """verdict.json of each kind."""
    base, tuned, low, high = {
        "better": (0.118, 0.743, 0.571, 0.676),
        "worse": (0.412, 0.355, -0.098, -0.017),
        "mixed": (0.412, 0.743, 0.284, 0.379),
        "cannot_tell": (0.412, 0.431, -0.042, 0.081),
    }[kind]
    decision = "better" if kind == "mixed" else kind
    metrics = [
        _metric(
            "accuracy",
            base,
            tuned,
            low,
            high,
            decision,
            primary=True,
            smallest=0.074,
            baselines={"majority": 0.061, "prior": 0.061, "tfidf": 0.708},
        ),
        _metric("macro_f1", 0.071, 0.729, 0.602, 0.711, "better"),
        _metric("nll", 1.842, 0.391, -1.562, -1.347, "better", higher=False, primary=kind == "mixed"),
        _metric("ece", 0.213, 0.064, -0.181, -0.117, "better", higher=False),
        _metric("stop_rate", 0.042, 1.0, 0.85, 1.0, "better", n=24),
    ]
    if kind == "mixed":
        metrics[2] |= {
            "base": 0.391,
            "tuned": 0.621,
            "difference": 0.23,
            "low": 0.18,
            "high": 0.29,
            "decision": "worse",
        }
    gates = [
        {"name": "min_gain", "state": "passed", "value": 0.571, "limit": 0.05},
        {"name": "max_loss_increase", "state": "passed", "value": 0.027, "limit": 0.1},
    ]
    return {
        "verdict": kind,
        "metrics": metrics,
        "gates": gates,
        "sentences": ["accuracy 0.118 -> 0.743 on 421 rows: better (0.571 to 0.676)."],
    }


def _metric(
    name: str,
    base: float,
    tuned: float,
    low: float,
    high: float,
    decision: str,
    *,
    primary: bool = False,
    higher: bool = True,
    n: int = 421,
    smallest: float = 0.05,
    baselines: dict[str, float] | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "base": base,
        "tuned": tuned,
        "difference": round(tuned - base, 6),
        "low": low,
        "high": high,
        "n": n,
        "unit": "row",
        "higher_is_better": higher,
        "smallest_detectable": smallest,
        "decision": decision,
        "primary": primary,
        "baselines": baselines or {},
    }


def events(shape: str = "levelled", steps: int = 552) -> list[dict[str, Any]]:
    """events.jsonl; `shape` is what validation does: falling, levelled or rising."""
    rng = random.Random(7)
    found: list[dict[str, Any]] = [{"type": "start", "step": 0}]
    for step in range(1, steps + 1):
        loss = 0.3 + 2.1 * math.exp(-step / 90) + rng.gauss(0, 0.12) * math.exp(-step / 400)
        count = rng.randint(20, 30)
        rows = [[f"train-{step}", round(loss * count, 4), count]]
        found.append(
            {
                "type": "step",
                "step": step,
                "loss_sum": round(loss * count, 4),
                "count": count,
                "learning_rate": 1e-3,
                "grad_norm": 0.8,
                "tokens": 420,
                "seconds": 0.61,
                "rows": rows,
            }
        )
        if step % (steps // 8) == 0:
            part = step / steps
            loss = {
                "falling": 2.4 - 1.9 * part,
                "levelled": 0.39 + 1.9 * math.exp(-9 * part),
                "rising": 0.45 + 1.9 * math.exp(-9 * part) + 0.3 * part**2,
            }[shape]
            found.append({"type": "validation", "step": step, "loss_sum": loss * 5000, "count": 5000, "loss": loss})
    return [*found, {"type": "end", "step": steps, "reason": "done", "best_step": steps // 2}]


def plan() -> dict[str, Any]:
    """plan.yaml."""
    return {
        "asked": {"model": "smollm2", "data": {"path": "symptoms.csv"}, "gates": {"min_gain": 0.05}},
        "resolved": {
            "model": "smollm2",
            "recipe": "classify",
            "seed": 0,
            "data": {
                "path": "symptoms.csv",
                "format": "auto",
                "use": USE,
                "licence": "CC-BY-4.0",
                "splits": [0.7, 0.1, 0.2],
                "slices": [],
                "map": {},
            },
            "method": {"name": "lora", "r": 16, "lora_alpha": 32},
            "train": {
                "learning_rate": 0.001,
                "num_train_epochs": 3,
                "packing": True,
                "max_length": 1024,
                "eval_steps": None,
            },
            "gates": {"min_gain": 0.05, "max_loss_increase": 0.1},
        },
        "origins": {
            "model": "command line",
            "data.path": "command line",
            "gates.min_gain": "plan file plan.yaml",
            "data.use": "plan file plan.yaml",
            "data.licence": "plan file plan.yaml",
            "recipe": "derived: closed label set",
            "train.learning_rate": "recipe classify",
            "train.num_train_epochs": "derived: 1,472 training rows",
            "gates.max_loss_increase": "plan file plan.yaml",
        },
    }


def write_sample(folder: Path, kind: str = "better", shape: str = "levelled") -> Run:
    """Writes the whole sample run into a new folder."""
    (folder / "model").mkdir(parents=True)
    run = Run(folder)
    run.plan_file.write_text(yaml.safe_dump(plan(), sort_keys=False, allow_unicode=True), encoding="utf-8")
    (run.model / "adapter_config.json").write_text("{}", encoding="utf-8")
    run.write("verdict.json", verdict(kind))
    run.write("evaluations/comparison.json", {"metrics": verdict(kind)["metrics"], **comparison()})
    run.write("evaluations/probe_retention.json", retention())
    run.write("evaluations/audit.json", audit())
    run.write("evaluations/probe_dialect.json", dialect())
    run.write("evaluations/probe_safety.json", safety())
    run.write("mitigations.json", {"rows": {"sentence": "44 refusals were mixed in evenly."}})
    for name, section in (("slices", "groups"), ("seeds", "runs")):
        block = {"kind": "table", "title": name, "section": section, "columns": ["a"], "rows": [[0.5]]}
        run.write(f"evaluations/{name}.json", {"figures": [], "blocks": [block]})
    run.write("data.json", data())
    run.write(
        "forecast.json",
        {
            "forecast": {
                "seconds": 502.0,
                "training_seconds": 362.0,
                "evaluation_seconds": 140.0,
                "memory_bytes": 1_480_000_000,
                "disk_bytes": 96_000_000,
            },
            "actual": {"training_seconds": 341.7, "memory_bytes": 1_312_000_000, "disk_bytes": 91_400_000},
        },
    )
    run.write(
        "info.json",
        {
            "versions": {"python": "3.11.9", "torch": "2.8.0", "transformers": "5.23.0", "peft": "0.18.0"},
            "machine": "Linux x86_64, 2 cores",
            "threads": 2,
            "precision": "float32",
            "model": {
                "name": "smollm2",
                "folder": "/home/somebody/.cache/models/smollm2",
                "licence": "Apache-2.0",
                "digest": "a17b" * 16,
            },
            "hashes": {"data": "5d1e0f6a9b3c2d44", "weights": "03c1c7e8d9a2b6f1"},
        },
    )
    run.write(
        "rows.json",
        {
            "blocks": [
                {
                    "kind": "table",
                    "title": "Suspected wrong labels",
                    "section": "rows",
                    "columns": ["Row", "Text", "Given", "Suspected", "Probability"],
                    "rows": [
                        ["symptoms.csv:441", EVIL, "allergy", "drug reaction", 0.93],
                        [
                            "symptoms.csv:1290",
                            "Sores around the mouth with a honey-coloured crust.",
                            "chicken pox",
                            "impetigo",
                            0.88,
                        ],
                    ],
                    "note": "Found by a word-count model that never saw the row. Look before changing anything.",
                },
                {
                    "kind": "table",
                    "title": "Same input, different answers",
                    "section": "rows",
                    "columns": ["Rows", "Text", "Answers"],
                    "rows": [
                        ["symptoms.csv:12, symptoms.csv:804", "I have a fever and a headache.", "malaria, typhoid"]
                    ],
                },
            ]
        },
    )
    run.events_file.write_text("".join(json.dumps(event) + "\n" for event in events(shape)), encoding="utf-8")
    return run
