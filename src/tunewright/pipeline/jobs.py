"""The job of a plan: its method attached, its rows, its gradients."""

from __future__ import annotations

from itertools import chain

from tunewright.core import plugins
from tunewright.data.formats import HIDDEN
from tunewright.models.contracts import LoadedModel
from tunewright.pipeline import mitigate
from tunewright.pipeline.guarantee import private_job
from tunewright.pipeline.prepare import Prepared
from tunewright.train.job import Job


def job_of(prepared: Prepared) -> Job:
    """Attaches the method and makes the job."""
    return _job(prepared, prepared.method.attach(prepared.model, prepared.settings.seed))


def require_feasible(prepared: Prepared) -> None:
    """Sees to it, before anything is asked, attached or written, that the rows can keep what the plan promises.

    Raises:
        UserError: They can't; the sentence names the nearest that they can.
    """
    if prepared.settings.privacy.on:
        _job(prepared, prepared.model)


def _job(prepared: Prepared, model: LoadedModel) -> Job:
    train, by = mitigate.with_more(prepared.settings, prepared.dataset.train, prepared.train, prepared.encoder)
    job = Job(
        model,
        prepared.method,
        prepared.objective,
        plugins.build("gradients", "plain"),
        train if train.then else prepared.train,
        prepared.valid,
        prepared.settings.train,
        prepared.settings.seed,
        by,
        hidden=HIDDEN.get(),
        products=prepared.mixed,
    )
    if not prepared.settings.privacy.on:
        return job
    return private_job(job, prepared.settings.privacy, chain(prepared.dataset.valid, prepared.dataset.test))
