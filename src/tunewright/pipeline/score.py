"""`score`: how probable is each of some answers after a context, exactly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tunewright.core.errors import UserError
from tunewright.core.files import lines_of, write_json
from tunewright.core.records import Example, Turn, text_part
from tunewright.core.store import Run
from tunewright.evaluate.contracts import Progress
from tunewright.models.contracts import LoadedModel
from tunewright.models.embedded import resolve_model
from tunewright.models.families.causal_lm import score_ids
from tunewright.models.opening import open_model
from tunewright.pipeline.result import Result, silent
from tunewright.runs.opening import open_tuned


def score(
    model: str | None,
    run: Path | None,
    rows: Path,
    out: Path,
    terminator: bool = False,
    precision: str = "float32",
    progress: Progress = silent,
) -> Result:
    """Writes `{"rows": [{"log_probs": [...]}]}` in the order of the rows."""
    if (model is None) == (run is None):
        raise UserError("score: give either --model M or --run RUN.")
    asked = list(_read(rows))
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}[precision]
    opened = open_tuned(Run.open(run), dtype) if run else open_model(resolve_model(str(model)), dtype)
    if "text" not in opened.family.capabilities:
        raise UserError(f"score reads text; models of family '{opened.family.plugin_name()}' don't.")
    results: list[dict[str, Any]] = []
    for log_probs in _scores(opened, asked, terminator):
        results.append({"log_probs": log_probs})
        progress("scoring", len(results), len(asked))
    write_json(out, {"rows": results})
    return Result(0, (f"{len(results)} rows scored in {out}.",))


def _scores(model: LoadedModel, asked: list[tuple[Any, list[str]]], terminator: bool) -> Iterator[list[float]]:
    family: Any = model.family
    encoder = family.encoder(model, _unbounded())
    contexts: list[list[int]] = []
    answers: list[list[list[int]]] = []
    known: dict[tuple[str, ...], list[list[int]]] = {}
    for context, options in asked:
        if isinstance(context, str):
            contexts.append(list(model.tokenizer(context)["input_ids"]))
        else:
            contexts.append(encoder.context_ids(Example(_turns(context), ()), 0))
        key = tuple(options)
        known.setdefault(key, [encoder.answer_ids(text, terminator) for text in options])
        answers.append(known[key])
    for scores in score_ids(model, contexts, answers):
        yield [float(value) for value in scores]


def _unbounded() -> Any:
    from tunewright.models.contracts import EncodeSettings

    return EncodeSettings(max_length=1 << 30)


def _turns(messages: list[dict[str, Any]]) -> tuple[Turn, ...]:
    return tuple(Turn(str(m["role"]), (text_part(str(m["content"])),)) for m in messages)


def _read(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """Rows of `context` (text or messages) and `answers`; all faults at once."""
    if not path.is_file():
        raise UserError(f"--rows {path} does not exist.")
    faults, rows = [], []
    for number, line in enumerate(lines_of(path.read_text(encoding="utf-8-sig")), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            faults.append(f"{path}:{number}: not JSON ({error.msg}).")
            continue
        fault = _fault(row)
        if fault:
            faults.append(f"{path}:{number}: {fault}")
        else:
            rows.append((row["context"], list(row["answers"])))
    if faults:
        raise UserError(faults)
    if not rows:
        raise UserError(f"{path} has no rows.")
    yield from rows


def _fault(row: Any) -> str:
    if not isinstance(row, dict) or not {"context", "answers"} <= row.keys():
        return 'a row must be {"context": text or messages, "answers": [text, ...]}.'
    context, answers = row["context"], row["answers"]
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a for a in answers):
        return "answers must be a list of texts, none empty."
    messages = (
        isinstance(context, list)
        and context
        and all(
            isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str)
            for m in context
        )
    )
    if not (messages or (isinstance(context, str) and context)):
        return "context must be a text that is not empty, or a list of messages with role and content."
    return ""
