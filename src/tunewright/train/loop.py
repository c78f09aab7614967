"""The one training loop. Method, objective, gradients and order are arguments; nothing here knows a modality."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import nn

from tunewright.core.batches import batches
from tunewright.core.errors import Interrupted, UserError
from tunewright.core.files import digest, read_json, write_json
from tunewright.core.progress import Progress
from tunewright.core.seeds import key
from tunewright.core.store import Run
from tunewright.core.words import coarse, command
from tunewright.data.encoded_rows import lengths
from tunewright.data.encoder import Encoded
from tunewright.models.collate import MOST_ROWS, fresh
from tunewright.models.contracts import Making
from tunewright.models.stored import within
from tunewright.runs import checkpoints
from tunewright.runs.checkpoints import Checkpoint
from tunewright.train.below import Below, fault, passable
from tunewright.train.engine import ALONE, Engine
from tunewright.train.fingerprint import content, how
from tunewright.train.job import Job
from tunewright.train.optimiser import Optimiser
from tunewright.train.order import Order
from tunewright.train.poisson import Poisson
from tunewright.train.share import Share, compute, loss_of
from tunewright.train.stopping import Best, StopRequest

_VALIDATION_TOKENS = 4096
_HIDDEN: dict[str, Any] = {"loss_sum": None, "count": None, "grad_norm": None, "tokens": None, "rows": []}
"""What a private run's step events say of its rows: nothing."""


@dataclass(slots=True)
class _State:
    step: int = 0
    best: Best = field(default_factory=Best)
    below: Below | None = None
    """What frozen layers at the bottom made of rows, where it is kept."""
    seconds: float = 0.0
    """What the steps took, as far as they stand in the checkpoint or are of this process."""
    reads: str = ""
    """Hash of what training reads and which weights change; of private rows only who has the secret can tell it."""
    saved: int = -1
    """Step of the last checkpoint that this process wrote or read: what is whole is not written again."""
    secret: str = ""
    """Keys the noise and the sampling of a private run; lives here and in checkpoints alone."""

    def finished(self, job: Job) -> bool:
        """Whether all steps are done, or validation has not improved for long enough."""
        patience = job.settings.early_stopping_patience
        return self.step >= job.steps or (job.validations > 0 and 0 < patience <= self.best.since)


def train(job: Job, run: Run, progress: Progress, stop: StopRequest, engine: Engine = ALONE) -> dict[str, Any]:
    """Trains from the run's last good checkpoint, or from the start, and leaves the best weights in the model.

    Returns:
        The end event: steps done, why it ended, the best step.

    Raises:
        Interrupted: A signal came; a checkpoint was written.
        UserError: Loss or gradient is not finite, or the disk is full; the last good weights are kept.
    """
    trained = job.method.trained(job.model)
    optimiser = Optimiser.over(trained, job.settings)
    state = _resume(job, run, trained, optimiser)
    if job.private and not state.step:
        _checkpoint(job, run, trained, optimiser, state)  # the secret must be the same if it is begun again
    if not state.finished(job):
        state.below = _stored(job, run, progress, stop)
        engine.ready(progress, stop)
    order = job.order.keyed(state.secret) if isinstance(job.order, Poisson) else job.order
    with job.gradients.begin(job.model, trained, state.secret) as making:
        one = _Step(job, engine, order, trained, optimiser, making, state)
        while not state.finished(job):
            if stop.requested:
                _checkpoint(job, run, trained, optimiser, state)
                raise Interrupted(f"Stopped after step {state.step}. Go on with: {command('resume', run.folder)}")
            _take(one, run, progress)
        if stop.requested:  # in the last step, whose checkpoint is written
            raise Interrupted(f"Stopped after step {state.step}. Go on with: {command('resume', run.folder)}")
    kept = _load_best(run, trained, state) if job.validations else state.step
    reason = "done" if state.step == job.steps else "early_stopping"
    ended = {"type": "end", "step": state.step, "reason": reason, "best_step": kept}
    run.append(ended)
    shutil.rmtree(run.stored, ignore_errors=True)
    return ended


@dataclass(frozen=True, slots=True)
class _Step:
    """What every step works on."""

    job: Job
    engine: Engine
    order: Order | Poisson
    """Of a private run with its secret."""
    trained: dict[str, nn.Parameter]
    optimiser: Optimiser
    making: Making
    state: _State


def _take(one: _Step, run: Run, progress: Progress) -> None:
    """One step, told, and what is due after it: validation, checkpoint."""
    job, trained, optimiser, state = one.job, one.trained, one.optimiser, one.state
    started = time.perf_counter()
    try:
        event = _step(one)
    except Interrupted:  # a second signal, wherever it found the step: the weights may be half of this step's
        raise
    except UserError:
        _checkpoint(job, run, trained, optimiser, state)
        raise
    state.step += 1
    seconds = time.perf_counter() - started
    state.seconds += seconds
    told: float | None = round(seconds, 4)
    if job.discreet:  # a step's own time would tell how many came, so the last one tells the time of all
        told = coarse(state.seconds) if state.step == job.steps else None
        event, detail = {**event, **_HIDDEN}, ""
    else:
        detail = f"loss {event['loss_sum'] / event['count']:.3f}, {event['tokens'] / seconds:.0f} tokens/s"
    run.append({**event, "step": state.step, "seconds": told})
    progress("training", state.step, job.steps, detail)
    if job.validations and (state.step % job.eval_every == 0 or state.step == job.steps):
        _validate(job, run, trained, state)
    if state.step % job.save_every == 0 or state.finished(job):
        _checkpoint(job, run, trained, optimiser, state)


def _step(one: _Step) -> dict[str, Any]:
    """One optimiser step; nothing is changed when loss or gradient is not finite."""
    job, weights, step = one.job, list(one.trained.values()), one.state.step
    job.wake()
    micro = one.order.micro_batches(step, job.micro_rows)
    share = Share(step, 0.0, tuple(enumerate(tuple(rows) for rows in micro)))
    count = float(sum(job.train[i].weights.sum(dtype="float64") for _, rows in share.micro for i in rows))
    own = partial(compute, job, one.making, below=one.state.below)
    seen = one.engine.compute(replace(share, count=count), one.trained, own, one.making)
    rows_seen = [row for batch in seen for row in batch.rows]
    if not all(batch.finite for batch in seen):
        raise _not_finite("The loss", step, () if job.discreet else rows_seen)
    one.making.finish(step)
    # What is private already is not cut again: noise outweighs the signal, and the optimiser scales it.
    norm = nn.utils.clip_grad_norm_(weights, math.inf if job.private else job.settings.max_grad_norm)
    if not bool(norm.isfinite()):
        raise _not_finite("The gradient", step, () if job.discreet else rows_seen)
    rate = job.schedule.at(step)
    one.optimiser.step(rate)
    return {
        "type": "step",
        "step": step,
        "loss_sum": math.fsum(row[1] for row in rows_seen),
        "count": count,
        "learning_rate": rate,
        "grad_norm": float(norm),
        "tokens": sum(batch.tokens for batch in seen),
        "rows": rows_seen,
    }


def _not_finite(what: str, step: int, rows: Sequence[tuple[str, float, float]]) -> UserError:
    """Names the rows that broke it, or all; with none given, none (who was in a private step is not said)."""
    broken = [name for name, total, _ in rows if not math.isfinite(total)] or [name for name, *_ in rows]
    found = f"Rows: {', '.join(broken[:8])}. Look at these rows, or lower" if broken else "Lower"
    return UserError(
        f"{what} of step {step + 1} is not finite, so the step was not taken and the weights before it are kept. "
        f"{found} train.learning_rate, in a new run."
    )


def validation_loss(job: Job, below: Below | None = None) -> tuple[float, float]:
    """Sum and count of the objective over the validation rows."""
    job.model.module.eval()
    total, count = 0.0, 0.0
    with torch.no_grad():
        for rows in validation_batches(job, below is not None):
            _, loss = loss_of(job, rows, key(job.seed, "validation"), below)
            total += float(loss.sum_S.double().sum())
            count += float(loss.count_S.double().sum())
    return total, count


def validation_batches(job: Job, stored: bool = False) -> Iterator[list[Encoded]]:
    """The validation rows as they are computed together; of stored ones each brings what it begins with anew."""
    size = attrgetter("length") if stored else fresh(job.model)
    return batches(job.valid, size, _VALIDATION_TOKENS, MOST_ROWS, not job.model.packs)


def _validate(job: Job, run: Run, trained: dict[str, nn.Parameter], state: _State) -> None:
    total, count = validation_loss(job, state.below)
    if not math.isfinite(total):
        raise UserError(
            f"The validation loss after step {state.step} is not finite; lower train.learning_rate, in a new run."
        )
    state.best = state.best.after(total / count, state.step)
    if state.best.step == state.step:
        checkpoints.write(run.checkpoints / "best", Checkpoint(state.step, trained, {}, {}))
    if not job.discreet:
        run.append({"type": "validation", "step": state.step, "loss_sum": total, "count": count, "loss": total / count})


def _checkpoint(job: Job, run: Run, trained: dict[str, nn.Parameter], optimiser: Optimiser, state: _State) -> None:
    if state.saved == state.step:
        return
    where = run.checkpoints / f"{state.step:04d}"
    kept = {"events": run.events_length(), "best": state.best.to_json(), "how": how(job)}
    kept |= {"reads": state.reads, "processes": job.settings.processes, "stored_gb": job.settings.stored_gb}
    if job.private:
        kept |= {"secret": state.secret, "gradients": repr(job.gradients), "seconds": state.seconds}
    checkpoints.write(where, Checkpoint(state.step, trained, optimiser.state(), kept))
    state.saved = state.step
    checkpoints.prune(run.checkpoints, job.settings.save_total_limit)


def _resume(job: Job, run: Run, trained: dict[str, nn.Parameter], optimiser: Optimiser) -> _State:
    checkpoint, sentences = checkpoints.last_good(run.checkpoints)
    for sentence in sentences:
        run.note(sentence)
    if checkpoint is None:
        checkpoints.drop_after(run.checkpoints, -1)
        run.cut_events(0)
        run.append({"type": "start", "steps": job.steps, "rows": len(job.train), "validation_rows": len(job.valid)})
        secret = job.gradients.fresh_secret()
        return _State(reads=digest(secret, content(job)), secret=secret)
    kept = checkpoint.state
    secret = str(kept.get("secret", ""))
    reads = digest(secret, content(job))
    if kept.get("reads", reads) != reads:  # checkpoints of older versions do not say
        raise UserError(
            f"What training reads has changed since the checkpoint of step {checkpoint.step}: rows that a mitigation "
            "adds, public rows that coordinates were chosen by, or a setting in plan.yaml. Put it back, or start a new "
            "run."
        )
    if kept.get("how", how(job)) != how(job):
        raise UserError(
            f"plan.yaml now says to train otherwise than up to the checkpoint of step {checkpoint.step}: method, "
            "objective, seed or a setting of train (processes, threads and what is saved may change) is another. Put "
            "it back, or start a new run."
        )
    if job.private and kept.get("gradients") != repr(job.gradients):
        raise UserError(
            "The checkpoint was made with another noise or clipping than the plan now gives; start a new run."
        )
    if (before := kept.get("processes", 1)) != job.settings.processes:
        run.note(
            f"train.processes was {before} up to step {checkpoint.step} and is {job.settings.processes} from there: "
            "sums are added in another order, so the bits are not those of an uninterrupted run."
        )
    before, now = kept.get("stored_gb", job.settings.stored_gb), job.settings.stored_gb
    if bool(before) != bool(now) and passable(job):  # of more or less room the first decision stands
        shutil.rmtree(run.stored, ignore_errors=True)
        run.note(
            f"train.stored_gb was {before:g} up to step {checkpoint.step} and is {now:g} from there: frozen layers are "
            "read with other rows beside, so the bits may not be those of an uninterrupted run."
        )
    checkpoints.drop_after(run.checkpoints, checkpoint.step)
    run.cut_events(kept["events"])
    _copy(checkpoint, trained)
    optimiser.load(checkpoint.optimiser)
    best, seconds = Best.from_json(kept["best"]), float(kept.get("seconds", 0.0))
    return _State(checkpoint.step, best, seconds=seconds, reads=reads, saved=checkpoint.step, secret=secret)


def _stored(job: Job, run: Run, progress: Progress, stop: StopRequest) -> Below | None:
    """What the frozen bottom makes of rows that are read again, on disk; None if nothing is gained."""
    if not job.settings.stored_gb or not job.repeated():
        return None
    started = time.perf_counter()
    layers = passable(job)
    few = [job.train[i] for i in np.argsort(lengths(job.train), kind="stable")[:2].tolist()]
    why = fault(job.model, layers, job.objective, few) if layers else ""
    if why:
        run.note(f"The {len(layers)} frozen layers at the bottom are computed again in every pass: {why}.")
    if why or not layers:
        return None
    below = Below.of(job.model, layers, run.stored)
    # Which rows are stored decides how batches are computed, so a resumed run must store the same ones.
    earlier = run.events("stored")
    room = _room(job, run, below, earlier[0]["room"] if earlier else None)
    position = below.position_bytes(few[0])

    def rows() -> Iterator[Encoded]:
        return within((row for rows, _ in job.repeated() for row in rows), position, room)

    tokens = [row.length for row in rows()]
    below.fill(rows(), len(tokens), progress, stop)
    if not earlier:
        seconds = round(time.perf_counter() - started, 4)
        run.append({"type": "stored", "rows": len(tokens), "tokens": sum(tokens), "room": room, "seconds": seconds})
    return below


def _room(job: Job, run: Run, below: Below, told: float | None) -> float:
    """Bytes for what is stored, kept beside it from before anything is: the disk has another room afterwards."""
    file = run.stored / "room.json"
    if told is not None:
        return told
    with suppress(OSError, ValueError):
        return float(read_json(file)["bytes"])
    room = float(min(job.settings.stored_gb * 1e9, below.stored.free_disk() / 2))
    write_json(file, {"bytes": room})
    return room


def _load_best(run: Run, trained: dict[str, nn.Parameter], state: _State) -> int:
    """Puts the best weights into the model; the step whose weights are now in it."""
    best = checkpoints.read(run.checkpoints / "best")
    if best is None or best.step != state.best.step:  # of steps that were taken back and went otherwise
        found = "is torn" if best is None else f"holds the weights of step {best.step}, not of step {state.best.step}"
        run.note(f"checkpoints/best {found}; the last weights are used instead of the best ones.")
        return state.step
    _copy(best, trained)
    return best.step


def _copy(checkpoint: Checkpoint, trained: dict[str, nn.Parameter]) -> None:
    if checkpoint.trained.keys() != trained.keys():
        raise UserError("The checkpoint holds other weights than the plan trains; start a new run.")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(checkpoint.trained[name])
