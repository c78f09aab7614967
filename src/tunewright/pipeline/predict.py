"""What the user came for: rows in, the same rows out with prediction, probability and abstention."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from scipy.stats import binomtest

from tunewright.core.config import Plan
from tunewright.core.errors import UserError
from tunewright.core.files import write_json
from tunewright.core.records import Example
from tunewright.core.store import Run
from tunewright.data.encoder import Unencodable
from tunewright.data.reading import open_rows
from tunewright.evaluate.contracts import Progress
from tunewright.models.contracts import EncodeSettings, LoadedModel
from tunewright.models.precision import resolve as resolve_dtype
from tunewright.pipeline.machine import fix_threads
from tunewright.pipeline.prepare import encode_settings
from tunewright.pipeline.result import Result, silent
from tunewright.runs.opening import open_tuned

ADDED = ("prediction", "probability", "abstain")
_ROWS_A_TIME = 32


@dataclass(frozen=True, slots=True)
class Predictor:
    """A run's model, ready to answer rows."""

    model: LoadedModel
    labels: tuple[str, ...]
    encode: EncodeSettings
    max_new_tokens: int
    threshold: float
    """Abstains below this probability."""

    def answer(self, examples: Sequence[Example]) -> Iterator[dict[str, Any]]:
        """For each example the three added columns."""
        family = self.model.family
        if not self.labels:
            for answer in family.generate(self.model, examples, self.max_new_tokens, self.encode):
                yield {"prediction": answer.text, "probability": "", "abstain": "" if answer.stopped else "unfinished"}
            return
        for scores in family.choices(self.model, examples, [self.labels] * len(examples), True, self.encode):
            shares = np.exp(scores - np.logaddexp.reduce(scores))
            best = int(shares.argmax())
            sure = float(shares[best])
            yield {"prediction": self.labels[best], "probability": round(sure, 6), "abstain": sure < self.threshold}


def predict(
    folder: Path, rows: Path, out: Path, min_accuracy: float | None = None, progress: Progress = silent
) -> Result:
    """Answers every row of a file, streaming; started again with the same files it goes on where it stopped."""
    run = Run.open(folder)
    plan = Plan.load(run.plan_file)
    threshold, sentence = threshold_for(run, min_accuracy)
    predictor = _open(run, plan, threshold)
    learnt = run.must_read("data.json")["facts"]["format"]
    given = open_rows(rows, plan.settings.data.model_copy(update={"format": learnt}))
    output = _Output.open(out, rows, {"run": str(run.folder.resolve()), "threshold": threshold})
    total = _count(rows)
    done, refused = output.done, []
    for _ in islice(given, done):
        pass
    with output:
        while batch := list(islice(given, _ROWS_A_TIME)):
            examples = [example for _, example in batch]
            refused += [str(e) for e in examples if not isinstance(e, Example)]
            output.write([row for row, _ in batch], _answers(predictor, examples))
            done += len(batch)
            progress("predicting", done, max(total, done))
    output.finish()
    lines = [f"{done} rows answered in {out}.", sentence, *refused[:20]]
    if refused:
        lines.append(f"{len(refused)} rows could not be read or answered; their prediction is empty.")
    return Result(2 if refused and len(refused) == done else 0, tuple(line for line in lines if line), folder)


def threshold_for(run: Run, min_accuracy: float | None) -> tuple[float, str]:
    """The smallest probability at which validation rows reach the accuracy (Wilson 95 % lower bound).

    Raises:
        UserError: The accuracy is no share, the run has no validation rows, or none reaches it.
    """
    if min_accuracy is None:
        return 0.0, ""
    if not 0 < min_accuracy < 1:
        raise UserError(f"--min-accuracy: found {min_accuracy}; a share between 0 and 1 is expected, as 0.9.")
    kept = run.read("evaluations/validation.json")
    if not kept:
        raise UserError(
            "--min-accuracy needs validation rows answered by the tuned model, and this run has none. "
            f"Run `tunewright evaluate {run.folder}` (on a closed label set with a validation split)."
        )
    rows = sorted(((r["probability"], r["correct"]) for r in kept["rows"]), reverse=True)
    found: float | None = None
    right = 0
    for number, (probability, correct) in enumerate(rows, 1):
        right += correct
        tied = number < len(rows) and rows[number][0] == probability
        if not tied and binomtest(right, number).proportion_ci(method="wilson").low >= min_accuracy:
            found = probability
    if found is None:
        raise UserError(
            f"No threshold reaches accuracy {min_accuracy} on the {len(rows)} validation rows (lower bound of the 95 % "
            "interval). Ask for less, or tune with more validation rows."
        )
    covered = sum(probability >= found for probability, _ in rows) / len(rows)
    return found, (
        f"Abstains below probability {found:.3f}: there, on validation rows, at least {min_accuracy:.0%} are right "
        f"(95 % lower bound), and {covered:.0%} of rows are answered."
    )


def _open(run: Run, plan: Plan, threshold: float) -> Predictor:
    from tunewright.core import plugins

    found = run.must_read("info.json")
    fix_threads(found["threads"])
    objective = plugins.build("objectives", plan.settings.objective)
    model = open_tuned(run, resolve_dtype(found["precision"]))
    labels = tuple((run.read("data.json") or {}).get("facts", {}).get("labels") or ())
    if ("choices" if labels else "generate") not in model.family.capabilities:
        raise UserError(f"Models such as {run.folder} cannot answer rows. `tunewright evaluate` measures them.")
    encode = replace(encode_settings(plan.settings, objective, labels), on_overlong="truncate-context")
    return Predictor(model, labels, encode, plan.settings.evaluate.max_new_tokens, threshold)


def _answers(predictor: Predictor, examples: Sequence[Any]) -> list[dict[str, Any]]:
    """Answers in order; rows that are none, or cannot be encoded, get empty columns."""
    empty = dict.fromkeys(ADDED, "")
    good = [i for i, example in enumerate(examples) if isinstance(example, Example)]
    answers: list[dict[str, Any]] = [empty] * len(examples)
    try:
        for index, answer in zip(good, predictor.answer([examples[i] for i in good]), strict=True):
            answers[index] = answer
    except Unencodable:
        for index in good:  # one row cannot be encoded: find out which
            try:
                answers[index] = next(iter(predictor.answer([examples[index]])))
            except Unencodable as error:
                answers[index] = {**empty, "abstain": str(error)}
    return answers


def _count(rows: Path) -> int:
    with open(rows, "rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


class _Output:
    """A file of predictions that grows row by row beside its final name, with a record of how far it is."""

    def __init__(self, out: Path, partial: Path, state: Path, done: int, columns: list[str] | None) -> None:
        self.out, self.partial, self.state, self.done, self.columns = out, partial, state, done, columns
        self.file: TextIO | None = None

    @classmethod
    def open(cls, out: Path, rows: Path, identity: dict[str, Any]) -> _Output:
        """Goes on with an unfinished output of the same run, rows and threshold, else starts anew."""
        from tunewright.core.files import file_digest, read_json

        if out.suffix.lower() not in (".csv", ".jsonl"):
            raise UserError(f"--out {out}: found '{out.suffix}'; .csv and .jsonl can be written.")
        partial, state = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.state.json")
        identity = {**identity, "rows": file_digest([rows])}
        out.parent.mkdir(parents=True, exist_ok=True)
        if partial.is_file() and state.is_file():
            kept = read_json(state)
            if kept["identity"] == identity and partial.stat().st_size >= kept["length"]:
                with open(partial, "r+b") as file:
                    file.truncate(kept["length"])
                return cls(out, partial, state, kept["done"], kept["columns"])
        partial.write_bytes(b"")
        write_json(state, {"identity": identity, "length": 0, "done": 0, "columns": None})
        return cls(out, partial, state, 0, None)

    def __enter__(self) -> _Output:
        self.file = open(self.partial, "a", encoding="utf-8", newline="")
        return self

    def __exit__(self, *error: object) -> None:
        if self.file:
            self.file.close()

    def write(self, rows: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]]) -> None:
        """Appends rows with their answers, then records how far the file is."""
        import os

        from tunewright.core.files import read_json

        assert self.file is not None
        for row, answer in zip(rows, answers, strict=True):
            self._line({**row, **answer})
        self.file.flush()
        os.fsync(self.file.fileno())
        self.done += len(rows)
        kept = read_json(self.state)
        write_json(
            self.state, {**kept, "length": self.partial.stat().st_size, "done": self.done, "columns": self.columns}
        )

    def finish(self) -> None:
        """The partial file takes its final name."""
        self.partial.replace(self.out)
        self.state.unlink(missing_ok=True)

    def _line(self, row: dict[str, Any]) -> None:
        assert self.file is not None
        if self.out.suffix.lower() == ".jsonl":
            self.file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            return
        if self.columns is None:
            self.columns = list(row)
            csv.writer(self.file).writerow(self.columns)
        csv.writer(self.file).writerow([_cell(row.get(name, "")) for name in self.columns])


def _cell(value: Any) -> Any:
    """A cell of a CSV: nested values as JSON, None as empty, truth as true/false."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else value
