"""Does the learning curve foresee what more data buys? Half of the medical rows forecast what the other half brings.

Trains on an eighth, a quarter and half of the rows, forecasts the gain from half to all, trains on all of them, and
prints both. The test rows are the same throughout. The model and the rows must be fetched.

    python benchmarks/learning_curve.py [rows] [key=value ...]     # 1600 rows unless told; further plan keys
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from tunewright.core.config import Request
from tunewright.pipeline.example_data import example
from tunewright.pipeline.tune import tune

PLAN = Path(__file__).parents[1] / "examples" / "medical.yaml"


def run(rows: Path, out: Path, sets: list[str]) -> dict[str, object]:
    """One run's verdict."""
    tune(Request(str(rows), PLAN, tuple(sets), (), out))
    verdict: dict[str, object] = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    return verdict


def tuned(verdict: dict[str, object], name: str) -> float:
    """The tuned model's figure."""
    metrics: list[dict[str, object]] = verdict["metrics"]  # type: ignore[assignment]
    return float(next(metric["tuned"] for metric in metrics if metric["name"] == name))  # type: ignore[arg-type]


def main(count: int = 1600, *sets: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = Path(name) / "rows"
        shutil.copytree(example("icd10"), rows)
        (rows / "train-1600.csv").replace(rows / "train.csv")
        for other in rows.glob("train-*.csv"):
            other.unlink()
        both = ["evaluate.primary=[accuracy, nll]", *sets]
        half = [f"data.max_train_rows={count // 2}", "evaluate.learning_curve=true"]
        forecast = run(rows, Path(name) / "half", [*both, *half])
        whole = run(rows, Path(name) / "whole", [*both, f"data.max_train_rows={count}"])
    for one in forecast["learning_curve"]:  # type: ignore[attr-defined]
        sign = -1 if one["metric"] == "nll" else 1
        bought = sign * (tuned(whole, one["metric"]) - one["figures"][2])
        said = "told" if one["told"] else f"cannot tell: {one['why']}"
        within = "inside" if one["low"] <= bought <= one["high"] else "outside"
        path = ", ".join(f"{n} rows {figure:.3f}" for n, figure in zip(one["rows"], one["figures"], strict=True))
        print(
            f"{one['metric']}: {path}; forecast for {count} rows +{one['gain']:.3f} ({one['low']:.3f} to "
            f"{one['high']:.3f}, {said}); bought {bought:+.3f}, {within} the interval"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1600, *sys.argv[2:])
