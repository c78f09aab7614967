"""How many processes compute a step. The first holds all that steers training; others only lend their gradients.

Before each step the first process lays the trained weights into memory that all of them share, and tells each worker
its micro-batches. A worker lays the gradients that it made beside them: with privacy the clipped sums, without noise.
The first process adds them up in the order of the workers and goes on alone: noise, clipping, optimiser, events and
checkpoints are its own. So noise is drawn once whatever the number of processes, and a run with the same number of them
repeats bit for bit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from tunewright.core.errors import UserError
from tunewright.core.progress import Progress
from tunewright.models.contracts import Making
from tunewright.train import shared
from tunewright.train.fingerprint import fingerprint
from tunewright.train.job import Job
from tunewright.train.share import Seen, Share
from tunewright.train.stopping import StopRequest
from tunewright.train.worker import Worker

_PATIENCE = 5.0
"""Seconds that workers have to end, all together."""
_LOOK = 0.2
"""Seconds after which it is looked again whether a signal came."""

Compute = Callable[[Share], list[Seen]]
"""Computes a share in this process."""


class Engine(Protocol):
    """What computes the shares of a step."""

    def ready(self, progress: Progress, stop: StopRequest) -> None:
        """Comes before the first step; returns early when a signal comes."""

    def compute(self, share: Share, trained: Mapping[str, nn.Parameter], own: Compute, making: Making) -> list[Seen]:
        """All micro-batches of a step, by their number; the gradients are then in `making`."""


class Alone:
    """This process computes everything."""

    peak_bytes = 0
    """Memory of workers; there are none."""

    def ready(self, progress: Progress, stop: StopRequest) -> None:
        """It is."""

    def compute(self, share: Share, trained: Mapping[str, nn.Parameter], own: Compute, making: Making) -> list[Seen]:
        """The whole share."""
        return own(share)


ALONE = Alone()


@dataclass(slots=True)
class Team:
    """This process and workers, each with its part of the threads."""

    job: Job
    command: Sequence[str]
    """What a worker runs; its seat is added as the last word. It makes the same job by itself, then follows."""
    threads: int
    """Of each process while it computes a step."""
    workers: list[Worker] = field(default_factory=list)
    memory_PW: Tensor = field(init=False)
    """[processes, weights] all trained weights one after the other; under them the gradients of each worker."""
    peak_bytes: int = 0
    """Memory that the workers held at most, together; known when they have ended."""

    def ready(self, progress: Progress, stop: StopRequest) -> None:
        """Starts the workers, and waits until each has made the same job.

        Raises:
            UserError: One could not, or made another job.
        """
        trained = self.job.method.trained(self.job.model)
        memory, self.memory_PW = shared.made(self.job.settings.processes, trained)
        for place in range(1, self.job.settings.processes):
            self.workers.append(Worker.start(self.command, memory, place, self.job.settings.processes, self.threads))
        os.close(memory)
        wanted = fingerprint(self.job)
        for done, worker in enumerate(self.workers):
            progress("workers get ready", done, len(self.workers))
            while not worker.answers(_LOOK):
                if stop.requested:
                    return
            if worker.hear() != wanted:
                raise UserError(
                    "A worker process read other rows or chose other weights than this one, so a file that the plan "
                    "names has changed since the start. Leave the files alone while a run starts, then resume it."
                )

    def compute(self, share: Share, trained: Mapping[str, nn.Parameter], own: Compute, making: Making) -> list[Seen]:
        """Each process its part; gradients are added in the order of the workers."""
        mine, *others = share.dealt(1 + len(self.workers))
        busy = [(worker, part) for worker, part in zip(self.workers, others, strict=True) if part.micro]
        shared.lay(self.memory_PW[0], trained, trained)
        for worker, part in busy:
            worker.say(asdict(part))
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            seen = own(mine)
        finally:
            torch.set_num_threads(before)
        for worker, _ in busy:
            said = worker.hear()
            seen = seen + [Seen.from_json(one) for one in said["seen"]]
            made = frozenset(said["made"])
            for name, part_W in shared.parts(self.memory_PW[worker.seat.place], trained):
                if name in made:
                    making.add(name, part_W.clone())
        return sorted(seen, key=lambda one: one.number)

    def end(self) -> None:
        """Sends the workers home, and hears what memory they held."""
        for worker in self.workers:
            worker.say(None)
        deadline = time.monotonic() + _PATIENCE
        for worker in self.workers:
            if worker.answers(max(0.0, deadline - time.monotonic())):
                self.peak_bytes += int(worker.hear())


@contextmanager
def together(job: Job, threads: int, command: Sequence[str]) -> Iterator[Team]:
    """Processes that compute the steps of a job together; the workers end with it, however it ends.

    Args:
        job: What is trained.
        threads: Of all processes together.
        command: What a worker runs (`Team.command`).
    """
    team = Team(job, command, max(1, threads // job.settings.processes))
    try:
        yield team
        team.end()
    finally:
        for worker in team.workers:
            worker.stop()
