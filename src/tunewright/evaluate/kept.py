"""Outcomes kept by content: what a base model answered is not asked again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import UserError
from tunewright.core.files import cache_folder, digest, lines_of, write_atomic
from tunewright.core.records import Example, unit_name
from tunewright.core.store import Run
from tunewright.core.words import command
from tunewright.evaluate.compare import metric_name
from tunewright.evaluate.contracts import Answers, Metric, Outcome

PASSING = "passing"
"""Answers with an array of this name are not kept: something was absent (a judge's endpoint) that may come back."""
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
        lines = [json.loads(line) for line in lines_of(text)]
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


@dataclass(frozen=True, slots=True)
class Parts:
    """Keeps pieces of a probe's answers in a folder until the whole is kept."""

    folder: Path

    def __call__(self, name: str, make: Callable[[], Answers]) -> Answers:
        """The piece of that name, from the folder or made now."""
        path = self.folder / f"{digest(name)}.npz"
        found = _read_arrays(path)
        if found is None:
            found = make()
            _keep_arrays(path, found)
        return found


def is_kept(name: str) -> bool:
    """Whether the cache holds answers under that name of a file."""
    return (cache_folder() / "evaluations" / name).is_file()


def arrays_by_content(key: str, ask: Callable[[Parts], Answers], folder: Path | None = None) -> tuple[Answers, Path]:
    """A probe's answers as kept (npz without pickles), or asked now and kept; and the file they are kept in.

    Args:
        key: Of the content.
        ask: Makes them, in pieces if it wants.
        folder: Where to keep them; None = the cache.
    """
    path = (folder or cache_folder() / "evaluations") / f"{key}.npz"
    found = _read_arrays(path)
    if found is None:
        parts = Parts(path.with_suffix(".parts"))
        found = ask(parts)
        if PASSING in found:  # asked again, it goes on with the pieces that were whole (grades may have been paid for)
            return found, path
        _keep_arrays(path, found)
        shutil.rmtree(parts.folder, ignore_errors=True)  # pieces may hold answers that are not to be stored
    return found, path


def _read_arrays(path: Path) -> Answers | None:
    if not path.is_file():
        return None
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, KeyError, BadZipFile):
        path.unlink(missing_ok=True)
        return None


def _keep_arrays(path: Path, arrays: Answers) -> None:
    content = BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # numpy's stub takes no mapping of arrays
    write_atomic(path, content.getvalue())


def rows_key(examples: Sequence[Example]) -> str:
    """A hash of what is asked and wanted in these rows, whose they are and how much they count: what a test is."""
    return digest([
        (e.id, e.unit, e.survey_weight, e.content)
        for e in sorted(examples, key=lambda example: example.id)
    ])  # fmt: skip


def answers_key(examples: Sequence[Example]) -> str:
    """The same without what is asked: equal where one test was put in other words (other facts, a shorter past)."""
    return digest([
        (e.id, e.unit, e.survey_weight, e.content[1])
        for e in sorted(examples, key=lambda example: example.id)
    ])  # fmt: skip


def labels_key(labels: Sequence[str]) -> str:
    """A hash of what can be chosen from: among more labels the same row is a harder question."""
    return digest(sorted(labels))


@dataclass(frozen=True, slots=True)
class RowRecords:
    """The records of a run's tuned model on one metric, as they lie in `evaluations/tuned.jsonl`."""

    ids: list[str]
    units: list[str]
    weights: NDArray[np.float64]
    records: NDArray[np.float64]
    """[rows, numbers]"""

    @classmethod
    def by_metric(cls, run: Run) -> dict[str, RowRecords]:
        """Those of every metric that was measured; the file is read once."""
        found: dict[str, list[dict[str, Any]]] = {}
        for line in _lines_of(run):
            found.setdefault(line["metric"], []).append(line)
        return {metric: cls._of(lines) for metric, lines in found.items()}

    @classmethod
    def of_run(cls, run: Run, metric: str) -> RowRecords:
        """Empty when the metric was not measured."""
        return cls.by_metric(run).get(metric) or cls._of([])

    @classmethod
    def _of(cls, lines: Sequence[dict[str, Any]]) -> RowRecords:
        return cls(
            [line["id"] for line in lines],
            [unit_name(line["id"], line["unit"]) for line in lines],
            np.array([line.get("weight", 1.0) for line in lines]),
            np.array([line["record"] for line in lines], dtype=float),
        )

    def only(self, ids: Sequence[str]) -> RowRecords:
        """Some rows, in that order."""
        places = {name: place for place, name in enumerate(self.ids)}
        rows = [places[name] for name in ids]
        return RowRecords(list(ids), [self.units[row] for row in rows], self.weights[rows], self.records[rows])


def _lines_of(run: Run) -> list[dict[str, Any]]:
    path = run.evaluations / "tuned.jsonl"
    try:
        return [json.loads(line) for line in lines_of(path.read_text(encoding="utf-8")) if line]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is gone or damaged ({error}). Run: {command('evaluate', run.folder)}") from None


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
                    "weight": outcome.example.survey_weight,
                    "metric": metric_name(metric),
                    "record": list(record),
                }
                lines.append(json.dumps(line, ensure_ascii=False))
    return "\n".join(lines) + "\n"
