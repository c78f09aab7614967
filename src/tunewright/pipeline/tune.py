"""check, forecast, train, evaluate and report in a row."""

from __future__ import annotations

import time

from tunewright.core.config import Request
from tunewright.core.progress import Progress, silent
from tunewright.core.store import Run
from tunewright.core.words import coarse
from tunewright.pipeline.evaluate import ask_base, evaluate_stage, further_runs
from tunewright.pipeline.machine import peak_memory
from tunewright.pipeline.prepare import Prepared
from tunewright.pipeline.result import Result
from tunewright.pipeline.train import begin, train_stage
from tunewright.report import write as write_report


def tune(request: Request, progress: Progress = silent) -> Result:
    """Everything, from rows to verdict."""
    prepared, run = begin(request, "tune", progress)
    with run.writing():
        return stages(prepared, run, progress)


def stages(prepared: Prepared, run: Run, progress: Progress) -> Result:
    """Base first (nothing is attached yet), then training, then the tuned model as opened from disk."""
    started = time.perf_counter()
    base = ask_base(prepared, run, progress)
    asked = time.perf_counter()
    tuned = train_stage(prepared, run, progress, asked - started)
    trained = time.perf_counter()
    evaluate_stage(prepared, run, base, tuned, progress)
    ended = time.perf_counter()
    forecast, told = run.read("forecast.json"), coarse if prepared.settings.privacy.on else float
    forecast["actual"] |= {
        "seconds": round(told(ended - started), 1),
        "evaluation_seconds": round(asked - started + ended - trained, 1),
        "memory_bytes": max(forecast["actual"]["memory_bytes"], int(told(peak_memory()))),
    }
    run.write("forecast.json", forecast)
    write_report(run)
    return further_runs(prepared, run, base, progress)
