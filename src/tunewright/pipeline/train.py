"""The train stage: a job from what was prepared, the loop, the result saved and opened again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.core.config import Plan, Request
from tunewright.core.files import flush
from tunewright.core.memory import peak_memory, release_memory
from tunewright.core.progress import Progress
from tunewright.core.store import Run, each_event, require_free
from tunewright.core.words import coarse, command
from tunewright.models.contracts import LoadedModel
from tunewright.pipeline import mitigate
from tunewright.pipeline.advice import gate_advice, safety_advice, trained_requests
from tunewright.pipeline.asked import needs_test
from tunewright.pipeline.discretion import mark_rows
from tunewright.pipeline.forecast import by_dry_step
from tunewright.pipeline.guarantee import guarantee, privacy_lines, prove
from tunewright.pipeline.inside import further_lines
from tunewright.pipeline.jobs import job_of, require_feasible
from tunewright.pipeline.machine import changed_since, fix_threads, folder_size, info
from tunewright.pipeline.places import absolute
from tunewright.pipeline.prepare import Prepared, Rows, prepare, read_rows
from tunewright.pipeline.result import Result
from tunewright.pipeline.summary import data_lines, forecast_line, tell
from tunewright.pipeline.traced import traced
from tunewright.pipeline.verify import verify
from tunewright.pipeline.workers import processes
from tunewright.runs.checkpoints import numbered
from tunewright.runs.made import as_made
from tunewright.runs.opening import forget_noise_key, serve
from tunewright.train.job import Job
from tunewright.train.loop import train as loop
from tunewright.train.stopping import StopRequest


def train(request: Request, progress: Progress) -> Result:
    """Check, forecast and train; the result is in RUN/model when this returns."""
    with begun(request, "train", progress) as (prepared, run):
        train_stage(prepared, run, progress, None)
    return Result(
        0, (f"Trained. The model is in {run.model}.", f"Evaluate it: {command('evaluate', run.folder)}"), run.folder
    )


@contextmanager
def begun(request: Request, verb: str, progress: Progress) -> Iterator[tuple[Prepared, Run]]:
    """Reads, checks and opens everything, and only then makes the run folder, which is locked within."""
    if request.out:
        require_free(request.out)
    with set_up(read_rows(request, progress), request.out, verb, progress) as made:
        yield made


@contextmanager
def set_up(rows: Rows, out: Path | None, verb: str, progress: Progress) -> Iterator[tuple[Prepared, Run]]:
    """Opens everything for rows that were read, and makes the run folder, locked within: `out`, or one under runs/."""
    threads = fix_threads(rows.plan.settings.train.threads)
    prepared = prepare(replace(rows, plan=absolute(rows.plan)), progress)
    if verb == "tune":
        needs_test(prepared)
    require_feasible(prepared)
    method = prepared.method.plugin_name()
    with Run.create(out, f"{Path(prepared.settings.data.path).stem}-{method}") as run:
        if prepared.canaries.coins:
            prepared.canaries.write(run.folder)
        begin_folder(prepared, run, verb, threads)
        advice = [*safety_advice(prepared), *gate_advice(prepared), *trained_requests(prepared)]
        tell([*rows.plan.notes, *data_lines(prepared.data), *advice])
        yield prepared, run


def begin_folder(prepared: Prepared, run: Run, verb: str, threads: int) -> None:
    """Writes what a run has from its beginning."""
    dtypes = prepared.dtype, prepared.products
    found = info(prepared.model.origin, dtypes, threads, mark_rows(run, prepared.dataset.fingerprint))
    capabilities = sorted(prepared.model.family.capabilities)
    found |= {} if prepared.encode.opens else {"opens": False}
    run.write("info.json", {**found, "verb": verb, "capabilities": capabilities})
    run.write("data.json", prepared.data)
    prepared.plan.write(run.plan_file)  # last: a folder with a plan is a run


def train_stage(prepared: Prepared, run: Run, progress: Progress, asked: float | None) -> LoadedModel:
    """Trains (or goes on training), saves, opens again. Returns the model as opened from disk.

    Args:
        prepared: What is trained.
        run: Where.
        progress: Told what is going on.
        asked: Seconds that asking the base took; None = nothing is evaluated in this run.
    """
    _told_otherwise(run)
    job = mitigate.held(job_of(prepared), prepared.objective, run, progress)
    for sentence in job.method.notes(job.model):
        run.note(sentence)
    if job.private:
        prove(job)
        promised = guarantee(job, prepared)
        run.write("privacy.json", promised)
        tell(privacy_lines(promised))
    if run.read("forecast.json") is None:
        progress("dry step on the longest batch", 0, 1)
        forecast = by_dry_step(prepared, job, asked)
        release_memory()
        forecast = forecast.discreet() if job.discreet else forecast
        tell([forecast_line(forecast), *_further(prepared, run, forecast.training_seconds)])
        run.write("forecast.json", {"forecast": forecast.to_json()})
    stopping = StopRequest(f"Go on with: {command('resume', run.folder)}")
    with stopping.listening() as stop, processes(job, run) as engine:
        ended = loop(traced(job, prepared, run), run, progress, stop, engine)
    most = peak_memory() + engine.peak_bytes
    release_memory()
    mitigate.protect(job, prepared.settings, prepared.dataset.train, run)
    progress("saving, and opening again", 0, 1)
    beside = run.folder / ".model.tmp"
    reopened, findings = save_verified(job, prepared, beside)
    stated = run.read("forecast.json")
    stated["actual"] = {
        "training_seconds": round(sum(event["seconds"] or 0.0 for event in each_event(run, "step", "stored")), 1),
        "memory_bytes": int(coarse(most)) if job.discreet else most,
        "disk_bytes": folder_size(run.folder),
        "steps": ended["step"],
    }
    run.write("forecast.json", stated)
    if job.discreet:
        findings = {"reopened_equal": findings["reopened_equal"]}  # the rest was measured on private rows
    planned = as_made(Plan.load(run.plan_file).settings)  # a child's is its own, whatever its run's says by now
    run.write("info.json", {**run.must_read("info.json"), "verified": findings, "settings": planned})
    flush(beside)
    beside.rename(run.model)  # last: a folder with a model is trained
    forget_noise_key(run)
    return reopened


def _told_otherwise(run: Run) -> None:
    """Says so where steps were taken under other versions, or on another kind of machine."""
    if numbered(run.checkpoints) and (changed := changed_since(run.must_read("info.json"))):
        run.note(f"Training went on with {'; '.join(changed)}: the bits are not those of an uninterrupted run.")


def _further(prepared: Prepared, run: Run, seconds: float) -> list[str]:
    """What the plan asks for beside this run; `train` alone leaves it undone, and says so."""
    lines = further_lines(prepared.settings, prepared.rows_given, seconds)
    if lines and run.must_read("info.json")["verb"] == "train":
        return [f"{lines[0]} `train` does not run them; `{command('evaluate', run.folder)}` will."]
    return lines


def save_verified(job: Job, prepared: Prepared, folder: Path) -> tuple[LoadedModel, dict[str, Any]]:
    """Writes the model into a new folder, which must answer like the trained model once it is opened again."""
    shutil.rmtree(folder, ignore_errors=True)
    job.method.save(job.model, folder)
    trained = replace(job.model, apart=False)  # batches of both laid out alike, so that they answer bit for bit alike
    reopened, findings = verify(
        trained, job.method, job.objective, folder, prepared.train, prepared.dtype, prepared.encode
    )
    reopened = serve(replace(reopened, opens=trained.opens, packs=trained.packs), prepared.settings)
    if reopened.tokenizer is not job.model.tokenizer and hasattr(reopened.tokenizer, "save_pretrained"):
        reopened.tokenizer.save_pretrained(folder)
    return reopened, findings
