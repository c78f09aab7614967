"""`check` and `plan`: what would be done and what would spoil it; nothing is trained, nothing is written."""

from __future__ import annotations

from typing import Any

import yaml

from tunewright.core.blocks import Span
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.core.files import write_json
from tunewright.data.identifiers import redact_spans
from tunewright.evaluate.contracts import Progress
from tunewright.pipeline.advice import safety_advice
from tunewright.pipeline.forecast import by_formula
from tunewright.pipeline.guarantee import guarantee, privacy_lines
from tunewright.pipeline.inside import further_lines
from tunewright.pipeline.machine import fix_threads
from tunewright.pipeline.prepare import prepare, read_rows
from tunewright.pipeline.result import Result, silent
from tunewright.pipeline.summary import data_lines, forecast_line
from tunewright.pipeline.train import job_of

_GREEN, _DIM, _END = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def check(request: Request, show_mask: int = 0, progress: Progress = silent) -> Result:
    """The data report: what the rows are, how they would be trained on, and rows with their mask."""
    rows = read_rows(request, progress)
    private = rows.plan.settings.privacy.on
    if private and show_mask:
        raise UserError("--show-mask prints rows, and the plan keeps them private. Leave it out.")
    fix_threads(rows.plan.settings.train.threads)
    prepared = prepare(rows, progress)
    promise = privacy_lines(guarantee(job_of(prepared), prepared)) if private else []
    advice = [] if private else safety_advice(prepared)
    lines = [*rows.plan.notes, *data_lines(prepared.data), *advice, "", *_facts(prepared.data), *promise]
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


def plan(request: Request, progress: Progress = silent) -> Result:
    """The resolved plan with the origin of every value, and the forecast; nothing runs."""
    rows = read_rows(request, progress)
    fix_threads(rows.plan.settings.train.threads)
    prepared = prepare(rows, progress)
    job = job_of(prepared)
    forecast = by_formula(prepared, job)
    resolved = yaml.safe_dump(rows.plan.dump()["resolved"], sort_keys=False, allow_unicode=True)
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
        *further_lines(prepared.settings, len(prepared.dataset.train), forecast.training_seconds),
    ]
    if job.private:
        lines += privacy_lines(guarantee(job, prepared))
    if request.out:
        write_json(request.out, {"plan": rows.plan.dump(), "forecast": forecast.to_json()})
    return Result(0, tuple(lines))


def mask_text(spans: list[Span]) -> str:
    """A rendered row for a terminal: trained text green and between [[ ]], the rest dim."""
    return "".join(f"{_GREEN}[[{s.text}]]{_END}" if s.trained else f"{_DIM}{s.text}{_END}" for s in spans)


def _facts(data: dict[str, Any]) -> list[str]:
    """Facts as lines, one a fact; long lists as counts."""
    lines = []
    for section in ("facts", "encoding"):
        for name, value in data[section].items():
            shown = f"{len(value)} entries" if isinstance(value, list) and len(value) > 6 else value
            lines.append(f"{name.replace('_', ' ')}: {shown}")
    return lines
