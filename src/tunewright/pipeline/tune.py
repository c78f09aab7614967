"""check, forecast, train, evaluate and report in a row."""

from __future__ import annotations

from tunewright.core.config import Request
from tunewright.core.store import Run
from tunewright.evaluate.contracts import Progress
from tunewright.pipeline.evaluate import ask_base, evaluate_stage
from tunewright.pipeline.prepare import Prepared
from tunewright.pipeline.result import Result, silent
from tunewright.pipeline.train import begin, train_stage


def tune(request: Request, progress: Progress = silent) -> Result:
    """Everything, from rows to verdict."""
    prepared, run = begin(request, "tune", progress)
    with run.writing():
        return stages(prepared, run, progress)


def stages(prepared: Prepared, run: Run, progress: Progress) -> Result:
    """Base first (nothing is attached yet), then training, then the tuned model as opened from disk."""
    base = ask_base(prepared, run, progress)
    tuned = train_stage(prepared, run, progress)
    return evaluate_stage(prepared, run, base, tuned, progress)
