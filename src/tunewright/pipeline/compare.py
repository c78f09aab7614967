"""`compare`: runs on the same test rows side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.core.config import Plan
from tunewright.core.errors import UserError
from tunewright.core.store import Run
from tunewright.evaluate.contracts import Progress
from tunewright.pipeline.result import Result, silent


def compare(folders: Sequence[Path], progress: Progress = silent) -> Result:
    """One table: a line a run and metric, base and tuned with the interval of the difference.

    Raises:
        UserError: A run is not evaluated, or the runs were tested on different rows.
    """
    runs = [Run.open(folder) for folder in folders]
    faults = [
        f"{run.folder} is not evaluated yet. Run: tunewright evaluate {run.folder}"
        for run in runs
        if run.read("verdict.json") is None
    ]
    if faults:
        raise UserError(faults)
    asked = {run.name: _test_ids(run) for run in runs}
    first = next(iter(asked))
    different = [name for name, ids in asked.items() if ids != asked[first]]
    if different:
        raise UserError(
            f"{', '.join(different)} answered other test rows than {first}, so the figures cannot be compared. "
            "Compare runs of the same data, seed and splits."
        )
    rows = [_row(run, metric) for run in runs for metric in run.read("verdict.json")["metrics"]]
    header = ("run", "method", "metric", "base", "tuned", "difference", "95 % interval", "n", "decision")
    return Result(0, tuple(_table([header, *rows])))


def _test_ids(run: Run) -> set[str]:
    import json

    path = run.evaluations / "tuned.jsonl"
    return {json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines() if line}


def _row(run: Run, metric: dict[str, Any]) -> tuple[str, ...]:
    method = Plan.load(run.plan_file).settings.method
    name = method if isinstance(method, str) else str(method["name"])
    return (
        run.name, name, metric["name"] + (" *" if metric["primary"] else ""), f"{metric['base']:.3f}",
        f"{metric['tuned']:.3f}", f"{metric['difference']:+.3f}", f"{metric['low']:+.3f} to {metric['high']:+.3f}",
        str(metric["n"]), metric["decision"].replace("_", " "),
    )  # fmt: skip


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:], "* = primary"]
