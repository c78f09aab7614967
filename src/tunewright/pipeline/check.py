"""`check` and `plan`: what would be done and what would spoil it; nothing is trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.core import plan_text
from tunewright.core.blocks import Span
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.core.files import require_other, require_writable, write_json
from tunewright.core.progress import Progress, silent
from tunewright.data.identifiers import identifier_line, redact_spans
from tunewright.data.readers import BadRows
from tunewright.data.split_files import find_files
from tunewright.pipeline.advice import gate_advice, safety_advice, trained_requests
from tunewright.pipeline.asked import untested
from tunewright.pipeline.forecast import by_formula
from tunewright.pipeline.guarantee import guarantee, privacy_lines, prove
from tunewright.pipeline.inside import further_lines
from tunewright.pipeline.jobs import job_of
from tunewright.pipeline.machine import fix_threads
from tunewright.pipeline.prepare import Prepared, Rows, Unusable, prepare, read_rows
from tunewright.pipeline.result import Result
from tunewright.pipeline.summary import data_lines, forecast_line
from tunewright.report.facts import label_of, value_of

_TITLES = {"facts": "The rows as they were read", "encoding": "The training rows as the model sees them"}
_ROWS = {"facts": "Rows read", "encoding": "Rows trained on"}
_LISTED = 6
_GREEN, _DIM, _END = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def check(request: Request, show_mask: int = 0, progress: Progress = silent) -> Result:
    """The data report: what the rows are, how they would be trained on, and rows with their mask.

    Raises:
        UserError: What stands in the way of training; rows that cannot be read are all listed in `request.out`.
    """
    _require_place(request)
    try:
        rows = read_rows(request, progress)
    except BadRows as error:
        if request.out:
            require_other(request.out, *{bad.file for bad in error.bad})
            write_json(request.out, {"facts": {"bad": [asdict(bad) for bad in error.bad]}})
            raise BadRows(error.bad, error.beside, request.out) from None
        raise
    _require_not_read(request, rows)
    private = rows.plan.settings.privacy.on
    if private and show_mask:
        raise UserError("--show-mask prints rows, and the plan keeps them private. Leave it out.")
    fix_threads(rows.plan.settings.train.threads)
    try:
        prepared = prepare(rows, progress)
    except Unusable as error:
        if request.out:
            write_json(request.out, error.data)
        raise
    if problems := untested(prepared):
        raise UserError(problems)
    promise = _promise(prepared) if private else []
    advice = [*([] if private else safety_advice(prepared)), *gate_advice(prepared), *trained_requests(prepared)]
    where = f"see {request.out}" if request.out else "--out FILE lists them"
    advice += [*_identifiers(prepared), *_repeated(prepared)] if private else []
    lines = [*rows.plan.notes, *data_lines(prepared.data, where), *advice, *_facts(prepared.data), "", *promise]
    for row in prepared.train[:show_mask]:
        lines += [
            "",
            f"{row.example.source}: {row.length} tokens, {len(row.targets)} trained",
            mask_text(redact_spans(prepared.encoder.render(row))),
        ]
    if request.out:
        write_json(request.out, prepared.data)
    lines.append("Nothing stands in the way of training.")
    return Result(0, tuple(lines))


def _promise(prepared: Prepared) -> list[str]:
    """What private training would promise, once its gradients have been compared with the definition."""
    job = job_of(prepared)
    prove(job)
    return privacy_lines(guarantee(job, prepared))


def _repeated(prepared: Prepared) -> list[str]:
    """How many private rows stand there again, where each counts as somebody's only one."""
    copies = (prepared.dataset.facts.get("duplicates") or {}).get("exact", 0)
    if not copies or prepared.settings.privacy.unit != "row":
        return []
    return [
        f"{copies} of all rows read say what another one says (case and marks aside). With privacy.unit=row each copy "
        "counts as a row of its own: for whoever stands in several, epsilon adds up and delta grows faster still. "
        "Delete copies of one record, or name whose a row is with privacy.unit."
    ]


def _identifiers(prepared: Prepared) -> list[str]:
    """How many private rows name somebody: told here, to whom they belong, and kept nowhere."""
    found = identifier_line(prepared.dataset.facts.get("identifiers") or {})
    return [found] if found else []


def plan(request: Request, progress: Progress = silent) -> Result:
    """The resolved plan with the origin of every value, and the forecast; nothing runs."""
    _require_place(request)
    rows = read_rows(request, progress)
    _require_not_read(request, rows)
    fix_threads(rows.plan.settings.train.threads)
    prepared = prepare(rows, progress)
    job = job_of(prepared)
    forecast = by_formula(prepared, job)
    forecast = forecast.discreet() if job.discreet else forecast
    resolved = plan_text.written(rows.plan.dump()["resolved"])
    origins = [f"  {key}: {origin}" for key, origin in rows.plan.origins.items() if origin != "default"]
    lines = [
        *rows.plan.notes,
        resolved.rstrip(),
        "",
        "Not defaults:",
        *origins,
        "",
        f"{len(prepared.train)} training rows, {len(prepared.valid)} validation, {len(prepared.test)} test; "
        f"{job.steps} steps.",
        forecast_line(forecast),
        *further_lines(prepared.settings, prepared.rows_given, forecast.training_seconds),
        *gate_advice(prepared),
    ]
    if job.private:
        lines += privacy_lines(guarantee(job, prepared))
    if request.out:
        write_json(request.out, {"plan": rows.plan.dump(), "forecast": forecast.to_json()})
    return Result(0, tuple(lines))


def _require_place(request: Request) -> None:
    """Before any work: whether `--out` can be written, and is nothing that is read."""
    if request.out:
        data = request.data if request.data and not Path(request.data).is_dir() else None
        require_other(request.out, data, request.plan_file)
        require_writable(request.out)


def _require_not_read(request: Request, rows: Rows) -> None:
    """The same of files that a plan, or a folder, names."""
    if request.out:
        data = rows.plan.settings.data
        read = [path for path in find_files(Path(data.path)).values() if not path.is_dir()]
        require_other(request.out, *read, data.pool)


def mask_text(spans: list[Span]) -> str:
    """A rendered row for a terminal: trained text green and between [[ ]], the rest dim."""
    return "".join(f"{_GREEN}[[{s.text}]]{_END}" if s.trained else f"{_DIM}{s.text}{_END}" for s in spans)


def _facts(data: dict[str, Any]) -> list[str]:
    """Facts as lines, one a fact; long lists as counts."""
    lines = []
    for section, title in _TITLES.items():
        lines += ["", f"{title}:"]
        for name, value in data[section].items():
            long = isinstance(value, list) and len(value) > _LISTED
            label = _ROWS[section] if name == "rows" else label_of(name)
            lines.append(f"  {label}: {f'{len(value)} entries' if long else _words(name, value)}")
    return lines


def _words(name: str, value: Any) -> str:
    """A fact as a person reads it."""
    if value is None or value == "":
        return "none"
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return "; ".join(value_of(name, one) for one in value)
    return value_of(name, value)
