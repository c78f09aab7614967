"""Go on with whatever was asked of a run, and exit as that verb would have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewright.core.errors import Interrupted, UserError
from tunewright.core.progress import Progress, silent
from tunewright.core.store import Run
from tunewright.pipeline.audit import audit
from tunewright.pipeline.children import pending
from tunewright.pipeline.evaluate import ask_base, evaluate, further_runs, standing
from tunewright.pipeline.reopen import reopen
from tunewright.pipeline.result import Result, together
from tunewright.pipeline.train import train_stage
from tunewright.pipeline.tune import stages
from tunewright.pipeline.under_way import asked_of
from tunewright.report import write as write_report
from tunewright.runs.opening import forget_noise_key


def resume(folder: Path, progress: Progress = silent) -> Result:
    """Finishes a run from its last good checkpoint, or from the stage it had reached."""
    run = Run.open(folder)
    verb = run.must_read("info.json")["verb"]
    if run.model.is_dir():
        forget_noise_key(run)  # it may have been stopped between saving and deleting
        if asked := asked_of(run):
            return _ask_again(folder, asked, progress)
        if verb == "train":
            return Result(0, (f"{folder} is finished: the model is in {run.model}.",), folder)
        if run.read("verdict.json") is None:
            return evaluate(folder, (), progress)
        if not pending(run):
            write_report(run)  # it may have been stopped between judging and reporting
            return standing(run)
    prepared = reopen(run, (), progress)
    with run.writing():
        if run.read("verdict.json") is not None:
            return further_runs(prepared, run, ask_base(prepared, run, progress), progress)
        if not run.model.is_dir():
            if verb == "tune":
                return stages(prepared, run, progress)
            train_stage(prepared, run, progress, None)
            return Result(0, (f"Trained. The model is in {run.model}.",), folder)
    return resume(folder, progress)  # another process trained it meanwhile


def _ask_again(folder: Path, requests: Sequence[dict[str, Any]], progress: Progress) -> Result:
    """Each in turn; one that cannot be done now is told once the others are."""
    results, faults = list[Result](), list[str]()
    for asked in requests:
        try:
            results.append(_again(folder, asked, progress))
        except Interrupted:
            raise
        except UserError as error:
            faults += error.problems
    if faults:
        raise UserError(faults)
    return together(results)


def _again(folder: Path, asked: dict[str, Any], progress: Progress) -> Result:
    if asked["verb"] == "audit":
        json_out = Path(asked["json"]) if asked["json"] else None
        return audit(folder, json_out, asked["twin"], asked["control"], progress)
    return evaluate(folder, asked["set"], progress)
