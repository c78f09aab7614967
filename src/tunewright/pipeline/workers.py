"""Processes that help a run to train: each opens the run from its folder, as `resume` does, and lends its gradients.

`python -m tunewright.pipeline.workers RUN hidden|shown SEAT` is a worker; only a run starts one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from tunewright.core.memory import peak_memory
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.data.formats import HIDDEN
from tunewright.pipeline import mitigate
from tunewright.pipeline.discretion import rows_hidden
from tunewright.pipeline.guarantee import prove
from tunewright.pipeline.jobs import job_of
from tunewright.pipeline.reopen import reopen
from tunewright.train.engine import ALONE, Alone, Team, together
from tunewright.train.job import Job
from tunewright.train.worker import serve


@contextmanager
def processes(job: Job, run: Run) -> Iterator[Alone | Team]:
    """What computes the steps of a run: this process, or it and the workers that the plan asks for."""
    if job.settings.processes == 1:
        yield ALONE
        return
    told = (str(run.folder.absolute()), "hidden" if HIDDEN.get() else "shown")
    with together(job, torch.get_num_threads(), (sys.executable, "-m", __name__, *told)) as engine:
        yield engine


def main(folder: str, rows: str, seat: str) -> None:
    """A worker's whole life."""

    def made() -> Job:
        run = Run(Path(folder))
        with rows_hidden() if rows == "hidden" else nullcontext():
            job = mitigate.referred(job_of(reopen(run, (), silent)), run, silent)
            if job.private:
                prove(job)  # what it sees of the weights, every step knows
            return job

    serve(seat, made, peak_memory)


if __name__ == "__main__":
    main(*sys.argv[1:])
