"""`score`: how probable is each of some answers after a context, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunewright.core.config import Plan
from tunewright.core.errors import UserError, first_of
from tunewright.core.files import require_other, require_writable, write_json
from tunewright.core.progress import Progress, silent
from tunewright.core.records import Example, Turn
from tunewright.core.store import Run
from tunewright.data.encoder import Unencodable
from tunewright.data.formats import Flaw, How, shown
from tunewright.data.formats._turns import prompt
from tunewright.data.lines import check_bytes, numbered_lines
from tunewright.models.contracts import EncodeSettings, LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.models.encoding import plain_ids
from tunewright.models.families.causal_lm import positions_of, score_ids
from tunewright.models.opening import open_model
from tunewright.pipeline.machine import fix_threads
from tunewright.pipeline.prepare import around_of
from tunewright.pipeline.result import Result
from tunewright.runs.opening import open_tuned

_SHAPE = '{"context": text or messages, "answers": [text, ...]}'


@dataclass(frozen=True, slots=True)
class _Asked:
    """One row."""

    place: str
    """File and line, for sentences."""
    context: str | tuple[Turn, ...]
    answers: tuple[str, ...]


def score(
    model: str | None,
    run: Path | None,
    rows: Path,
    out: Path,
    terminator: bool = False,
    precision: str = "float32",
    progress: Progress = silent,
) -> Result:
    """Writes `{"rows": [{"log_probs": [...]}]}` in the order of the rows.

    Raises:
        UserError: The rows, all faults at once, or the model cannot be taken.
        OSError: `out` cannot be written; known before anything is scored.
    """
    if (model is None) == (run is None):
        raise UserError("score: give either --model M or --run RUN.")
    require_other(out, rows)
    require_writable(out)
    asked = _read(rows)
    finished = Run.open(run) if run else None
    fix_threads(finished.must_read("info.json")["threads"] if finished else None)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[precision]
    opened = open_tuned(finished, dtype) if finished else open_model(resolve_model(str(model)), dtype)
    if "text" not in opened.family.capabilities:
        raise UserError(f"score reads text; models of family '{opened.family.plugin_name()}' don't.")
    results: list[dict[str, Any]] = []
    said = _answer_ids(opened, finished, terminator)
    for scores in score_ids(opened, *_encoded(opened, asked, said)):
        if not np.isfinite(scores).all():
            raise UserError(
                f"{asked[len(results)].place}: the model gives log-probabilities that are not finite. Its weights may "
                "be damaged, or overflow at this precision: try --precision float32, or another model."
            )
        results.append({"log_probs": [float(value) for value in scores]})
        progress("scoring", len(results), len(asked))
    write_json(out, {"rows": results})
    return Result(0, (f"{len(results)} rows scored in {out}.",))


def _answer_ids(model: LoadedModel, run: Run | None, terminator: bool) -> Callable[[str], list[int]]:
    """Text -> the tokens of an answer, and of what ends it: the template's end, or what follows a run's answers."""
    family: Any = model.family
    around = around_of(Plan.load(run.plan_file).settings) if run else None
    encoder = family.encoder(model, EncodeSettings(around=around))
    if around and terminator:  # tokenised apart, as it was trained
        return lambda text: [*encoder.text_ids(text), *encoder.stop_ids()]
    stop = encoder.chat.stop_text if terminator else ""
    return lambda text: list(encoder.text_ids(text + stop))


def _encoded(
    model: LoadedModel, asked: Sequence[_Asked], said: Callable[[str], list[int]]
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """The tokens of contexts and of their answers."""
    family: Any = model.family
    encoder = family.encoder(model, EncodeSettings(max_length=1 << 30))  # nothing is cut
    most = positions_of(model)
    known: dict[tuple[str, ...], list[list[int]]] = {}
    contexts, answers, faults = [], [], []
    for row in asked:
        if row.answers not in known:
            known[row.answers] = [said(text) for text in row.answers]
        try:
            if isinstance(row.context, str):
                ids = plain_ids(model.tokenizer, row.context)
            else:
                ids = encoder.prompt_ids(Example(row.context, ()))
        except Unencodable as error:
            faults.append(f"{row.place}: {error}.")
            continue
        needed = len(ids) + max(map(len, known[row.answers])) - 1  # nothing is predicted from an answer's last token
        if most is not None and needed > most:
            faults.append(
                f"{row.place}: found {needed} tokens of context and answer; the model has {most} positions. "
                "Shorten the context, or take another model."
            )
        contexts.append(ids)
        answers.append(known[row.answers])
    if faults:
        raise UserError(first_of(faults))
    return contexts, answers


def _read(path: Path) -> list[_Asked]:
    """Rows of `context` (text or messages) and `answers`; all faults at once."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"--rows {path} {found}. Give a file with a row a line: {_SHAPE}.")
    check_bytes(path)
    faults, rows = [], []
    for number, line in numbered_lines(path):
        place = f"{path}:{number}"
        if line is not None and not line.strip():
            continue
        try:
            rows.append(_row(line, place))
        except Flaw as flaw:
            faults.append(f"{place}: {flaw}")
    if faults:
        raise UserError(first_of(faults))
    if not rows:
        raise UserError(f"{path} has no rows.")
    return rows


def _row(line: str | None, place: str) -> _Asked:
    if line is None:
        raise Flaw("row", "a line that is too long", "a row a line", "shorten the row")
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"half a character (\\u{ord(error.object[error.start]):04x})"
        raise Flaw("row", half, "whole characters", "write both halves of the surrogate pair") from None
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise Flaw("row", f"no JSON ({reason})", _SHAPE, "correct the JSON") from None
    if not isinstance(row, dict) or not {"context", "answers"} <= row.keys():
        raise Flaw("row", shown(row), _SHAPE, "name both keys")
    context, answers = row["context"], row["answers"]
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a for a in answers):
        raise Flaw("answers", shown(answers), "a list of texts, none empty", 'write ["...", ...]')
    if not isinstance(context, str | list) or not context:
        raise Flaw("context", shown(context), "a text that is not empty, or a list of messages", "fill it in")
    return _Asked(place, context if isinstance(context, str) else prompt(context, "context", How()), tuple(answers))
