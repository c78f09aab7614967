"""check, forecast, train, evaluate and report in a row."""

from __future__ import annotations

import time

from tunewright.core.config import Request
from tunewright.core.memory import peak_memory
from tunewright.core.progress import Progress, silent
from tunewright.core.store import Run
from tunewright.core.words import coarse
from tunewright.pipeline.evaluate import ask_base, evaluate_stage, further_runs
from tunewright.pipeline.prepare import Prepared
from tunewright.pipeline.result import Result
from tunewright.pipeline.train import begun, train_stage
from tunewright.report import write as write_report


def tune(request: Request, progress: Progress = silent) -> Result:
    """Everything, from rows to verdict."""
    with begun(request, "tune", progress) as (prepared, run):
        return stages(prepared, run, progress)


def stages(prepared: Prepared, run: Run, progress: Progress) -> Result:
    """Base first (nothing is attached yet), then training, then the tuned model as opened from disk."""
    whole = run.read("forecast.json") is None  # else an earlier process did a part, and nobody knows how long it took
    started = time.perf_counter()
    base = ask_base(prepared, run, progress)
    asked = time.perf_counter()
    tuned = train_stage(prepared, run, progress, asked - started)
    trained = time.perf_counter()
    evaluate_stage(prepared, run, base, tuned, progress)
    ended = time.perf_counter()
    forecast, told = run.read("forecast.json"), coarse if prepared.settings.privacy.on else float
    actual = forecast["actual"]
    actual["memory_bytes"] = max(actual["memory_bytes"], int(told(peak_memory())))
    if whole:
        actual["seconds"] = round(told(ended - started), 1)
        actual["evaluation_seconds"] = round(told(asked - started + ended - trained), 1)
    run.write("forecast.json", forecast)
    write_report(run)
    return further_runs(prepared, run, base, progress)
