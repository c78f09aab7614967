"""How far the luck of training carries: the same plan and the same test rows under several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunewright.core.blocks import Block, Cell, Table
from tunewright.core.words import name_of

Metrics = Sequence[Mapping[str, Any]]
"""`metrics` of a verdict.json."""


def spread(runs: Mapping[int, Metrics]) -> dict[str, dict[str, Any]]:
    """Metric -> its figures over seeds: `values` and `decisions` by seed, mean, deviation, lowest, highest, primary,
    and the seeds in which it is `missing`.

    Args:
        runs: The metrics of each seed; the first is the one whose model is kept.
    """
    found: dict[str, dict[str, Any]] = {}
    for metric in next(iter(runs.values())):
        rows = {seed: next((m for m in metrics if m["name"] == metric["name"]), None) for seed, metrics in runs.items()}
        there = {seed: row for seed, row in rows.items() if row is not None}
        values = np.array([row["tuned"] for row in there.values()])
        found[metric["name"]] = {
            "values": {str(seed): row["tuned"] for seed, row in there.items()},
            "decisions": {str(seed): row["decision"] for seed, row in there.items()},
            "mean": float(values.mean()),
            "deviation": float(values.std(ddof=1)) if len(values) > 1 else None,
            "lowest": float(values.min()),
            "highest": float(values.max()),
            "primary": bool(metric["primary"]),
            "missing": [str(seed) for seed, row in rows.items() if row is None],
        }
    return found


def spread_sentences(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each primary metric in plain words."""
    said = []
    for name, one in found.items():
        if not one["primary"]:
            continue
        kept, decisions = next(iter(one["values"])), list(one["decisions"].values())
        tally = ", ".join(f"{decisions.count(d)} {d.replace('_', ' ')}" for d in dict.fromkeys(decisions))
        values = ", ".join(f"{value:.3f}" for value in one["values"].values())
        missing = f" Not measured under seed {', '.join(one['missing'])}." if one["missing"] else ""
        about = "" if one["deviation"] is None else f" (standard deviation {one['deviation']:.2g})"
        said.append(
            f"Over {len(one['values'])} seeds {name} of the tuned model is {values}{about}: {tally}. "
            f"The verdict is on the model of seed {kept}, which is kept.{missing}"
        )
    return said


def spread_blocks(found: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """One table, a line a metric."""
    seeds = list(next(iter(found.values()))["values"]) if found else []
    rows: list[list[Cell]] = [
        [name_of(name), *(one["values"].get(seed) for seed in seeds), one["mean"], one["deviation"]]
        for name, one in found.items()
    ]
    note = (
        "The tuned model under several training seeds, judged on the same test rows. The deviation is the luck of "
        "training alone; the interval of the verdict is the luck of the test rows."
    )
    columns = ["measure", *(f"seed {seed}" for seed in seeds), "mean", "standard deviation"]
    return [Table(title="Several seeds", note=note, section="runs", columns=columns, rows=rows)]
