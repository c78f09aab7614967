"""The same architecture from random weights, on the same rows for as many steps: what pre-training bought."""

from __future__ import annotations

from tunewright.core import plugins
from tunewright.core.progress import Progress, under
from tunewright.core.store import Run
from tunewright.data.encoder import Encoded
from tunewright.evaluate.contracts import Outcome
from tunewright.evaluate.suite import Suite
from tunewright.pipeline.prepare import Prepared
from tunewright.pipeline.under_way import gone_on_from
from tunewright.train.job import Job
from tunewright.train.loop import train as loop
from tunewright.train.stopping import StopRequest

_RATE = 5e-4
"""Peak learning rate, usual for training models of this size from random weights."""


def scratch_outcomes(prepared: Prepared, run: Run, suite: Suite, progress: Progress) -> list[Outcome]:
    """Trains the twin in `children/scratch` (going on where it stopped) and asks it the same."""
    child = run.child("scratch")
    child.folder.mkdir(parents=True, exist_ok=True)
    method = plugins.build("methods", "full")
    twin = prepared.model.family.from_scratch(prepared.model, prepared.settings.seed)
    steps = next(event["step"] for event in run.events("end"))
    settings = prepared.settings.train.model_copy(
        update={"learning_rate": _RATE, "max_steps": steps, "early_stopping_patience": 0, "save_total_limit": 1}
    )
    no_validation: tuple[Encoded, ...] = ()
    job = Job(
        method.attach(twin, prepared.settings.seed),
        method,
        prepared.objective.plain,
        plugins.build("gradients", "plain"),
        prepared.train,
        no_validation,
        settings,
        prepared.settings.seed,
        products=prepared.mixed,
    )
    with gone_on_from(run), StopRequest().listening() as stop:
        loop(job, child, under(progress, "from scratch"), stop)
    return suite.ask(job.model, prepared.test, progress, "from scratch")
