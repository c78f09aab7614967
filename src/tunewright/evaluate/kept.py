"""Outcomes kept by content: what a base model answered is not asked again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.files import cache_folder, write_atomic
from tunewright.core.records import Example
from tunewright.evaluate.compare import metric_name
from tunewright.evaluate.contracts import Metric, Outcome

_PLAIN = ("answer_log_prob", "answer_tokens", "answer_bytes", "text", "stopped", "loss_sum", "loss_count")


def dump(outcomes: Sequence[Outcome]) -> str:
    """Outcomes as JSON lines; the examples themselves are not in it, only their ids."""
    lines = []
    for outcome in outcomes:
        line: dict[str, Any] = {"id": outcome.example.id, **{name: getattr(outcome, name) for name in _PLAIN}}
        line["choices"] = None if outcome.choices is None else outcome.choices.tolist()
        lines.append(json.dumps(line, ensure_ascii=False))
    return "\n".join(lines) + "\n"


def load(text: str, examples: Sequence[Example]) -> list[Outcome] | None:
    """What `dump` wrote, joined with the examples; None when it is torn or of other examples."""
    try:
        lines = [json.loads(line) for line in text.splitlines()]
        if [line.pop("id") for line in lines] != [example.id for example in examples]:
            return None
        outcomes = [Outcome(example, **line) for example, line in zip(examples, lines, strict=True)]
    except (ValueError, TypeError, KeyError):
        return None
    return [o if o.choices is None else replace(o, choices=np.array(o.choices, dtype=float)) for o in outcomes]


def outcomes_by_content(
    key: str, examples: Sequence[Example], ask: Callable[[], list[Outcome]]
) -> tuple[list[Outcome], Path]:
    """Outcomes from the cache, or asked now and kept there; and the file they are kept in."""
    path = cache_folder() / "evaluations" / f"{key}.jsonl"
    found = load(path.read_text(encoding="utf-8"), examples) if path.is_file() else None
    if found is None:
        found = ask()
        write_atomic(path, dump(found))
    return found, path


def arrays_by_content(key: str, ask: Callable[[], dict[str, NDArray[Any]]]) -> tuple[dict[str, NDArray[Any]], Path]:
    """A probe's answers from the cache (npz without pickles), or asked now and kept there."""
    path = cache_folder() / "evaluations" / f"{key}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}, path
        except (ValueError, OSError, KeyError):
            path.unlink(missing_ok=True)
    answers = ask()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp.npz")
    np.savez(beside, **answers)  # type: ignore[arg-type]  # numpy's stub takes no mapping of arrays
    beside.replace(path)
    return answers, path


def records_as_lines(outcomes: Sequence[Outcome], metrics: Sequence[Metric], labels: Sequence[str]) -> str:
    """A line per example and metric, for `evaluations/base.jsonl` and `tuned.jsonl`."""
    lines = []
    for outcome in outcomes:
        for metric in metrics:
            record = metric.record(outcome, labels)
            if record is not None:
                line = {
                    "id": outcome.example.id,
                    "unit": outcome.example.unit,
                    "metric": metric_name(metric),
                    "record": list(record),
                }
                lines.append(json.dumps(line, ensure_ascii=False))
    return "\n".join(lines) + "\n"
