"""Does the learning curve foresee what more data buys? Half of the medical rows forecast what the other half brings.

Trains on an eighth, a quarter and half of the rows, forecasts the gain from half to all, trains on all of them, and
prints both. The test rows are the same throughout. The model and the rows must be fetched.

    python benchmarks/learning_curve.py [rows] [key=value ...]     # 1600 rows unless told; further plan keys
    python benchmarks/learning_curve.py tfidf [draws]              # TF-IDF as the model, rows drawn 20 times

The second takes a minute, so it can be repeated: how many intervals hold what the other half really bought.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.config import Request
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import Dataset, open_dataset
from tunewright.evaluate.baselines.tfidf import Tfidf
from tunewright.evaluate.contracts import Floats, Metric
from tunewright.evaluate.learning_curve import Forecast, forecast
from tunewright.evaluate.metrics.accuracy import Accuracy
from tunewright.evaluate.metrics.perplexity_renormalised import PerplexityRenormalised
from tunewright.pipeline.example_data import example
from tunewright.pipeline.tune import tune

PLAN = Path(__file__).parents[1] / "examples" / "medical.yaml"


def run(out: Path, sets: list[str]) -> dict[str, object]:
    """One run's verdict."""
    tune(Request(None, PLAN, tuple(sets), (), out))
    verdict: dict[str, object] = json.loads((out / "verdict.json").read_text(encoding="utf-8"))
    return verdict


def tuned(verdict: dict[str, object], name: str) -> float:
    """The tuned model's figure."""
    metrics: list[dict[str, object]] = verdict["metrics"]  # type: ignore[assignment]
    return float(next(metric["tuned"] for metric in metrics if metric["name"] == name))  # type: ignore[arg-type]


def drawn(dataset: Dataset, metrics: list[Metric], seed: int) -> list[tuple[Forecast, float]]:
    """Forecasts from an eighth, a quarter and half of the rows, drawn by the seed, and what the other half bought."""
    labels, test = dataset.labels or (), list(dataset.test)
    order = np.random.default_rng(seed).permutation(len(dataset.train))
    counts = [len(order) // part for part in (8, 4, 2, 1)]
    answered = [Tfidf().outcomes([dataset.train[int(i)] for i in order[:n]], test, labels) for n in counts]
    units = [str(row.unit) for row in test]
    found = []
    for metric in metrics:
        records: list[Floats] = [np.array([metric.record(o, labels) for o in some]) for some in answered]
        weights = np.ones(len(test))
        how: dict[str, Any] = {"units": units, "row_weights": weights, "seed": seed, "resamples": 1000}
        one = forecast(metric, type(metric).__name__.lower(), counts[:3], records[:3], **how)
        half, whole = (float(metric.summarise(some, weights[None])[0]) for some in records[2:])
        found.append((one, whole - half if metric.higher_is_better else half - whole))
    return found


def quick(draws: int = 20) -> None:
    """TF-IDF in the model's place: coverage of the forecast's intervals, and its error."""
    dataset = open_dataset(DataSettings(path=str(example("icd10"))))
    metrics: list[Metric] = [Accuracy(), PerplexityRenormalised()]
    found = [drawn(dataset, metrics, seed) for seed in range(draws)]
    print(
        f"{'figure':26}{'foretold':>10}{'bought':>10}{'inside':>10}{'told':>8}"
        f"   ({draws} draws of {len(dataset.train)} rows)"
    )
    for pairs in zip(*found, strict=True):
        inside = np.mean([one.low <= bought <= one.high for one, bought in pairs])
        foretold, bought = np.median([one.gain for one, _ in pairs]), np.median([bought for _, bought in pairs])
        told = np.mean([one.told for one, _ in pairs])
        print(f"{pairs[0][0].metric:26}{foretold:10.3f}{bought:10.3f}{inside:10.0%}{told:8.0%}", flush=True)


def main(count: int = 1600, *sets: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        both = ["evaluate.primary=[accuracy, nll]", *sets]
        half = [f"data.max_train_rows={count // 2}", "evaluate.learning_curve=true"]
        foretold = run(Path(name) / "half", [*both, *half])
        whole = run(Path(name) / "whole", [*both, f"data.max_train_rows={count}"])
    for one in foretold["learning_curve"]:  # type: ignore[attr-defined]
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
    if sys.argv[1:2] == ["tfidf"]:
        quick(*map(int, sys.argv[2:]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1600, *sys.argv[2:])
