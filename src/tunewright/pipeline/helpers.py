"""Processes that help a run to train: each opens the run from its folder, as `resume` does, and lends its gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tunewright.core.store import Run
from tunewright.pipeline import mitigate
from tunewright.pipeline.jobs import job_of
from tunewright.pipeline.machine import peak_memory
from tunewright.pipeline.reopen import reopen
from tunewright.pipeline.result import silent
from tunewright.train.engine import ALONE, Alone, Helped, Seat, answered, follow, helped
from tunewright.train.job import Job


@contextmanager
def processes(job: Job, run: Run) -> Iterator[Alone | Helped]:
    """What computes the steps of a run: this process, or it and the helpers that the plan asks for."""
    if job.settings.processes == 1:
        yield ALONE
        return
    with helped(job, torch.get_num_threads(), _help, run.folder) as engine:
        yield engine


def _help(folder: Path, seat: Seat) -> None:
    """A helper's whole life."""

    def work() -> None:
        run = Run(folder)
        prepared = reopen(run, (), silent)
        follow(mitigate.referred(job_of(prepared), run), seat, peak_memory)

    answered(seat, work)
