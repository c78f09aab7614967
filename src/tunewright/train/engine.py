"""How many processes compute a step. The first holds all that steers training; others only lend their gradients.

Before each step the first process lays the trained weights into memory that all of them share, and tells each helper
its micro-batches. A helper lays the gradients that it made beside them: with privacy the clipped sums, without noise.
The first process adds them up in the order of the helpers and goes on alone: noise, clipping, optimiser, events and
checkpoints are its own. So noise is drawn once whatever the number of processes, and a run with the same number of them
repeats bit for bit.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch
import torch.multiprocessing as processes
from torch import Tensor, nn

from tunewright.core.errors import UserError
from tunewright.models.contracts import Making
from tunewright.train.job import Job
from tunewright.train.share import Seen, Share, compute
from tunewright.train.stopping import handled

_PATIENCE = 5.0
"""Seconds that a helper has to end: it may be within a step."""


Compute = Callable[[Share], list[Seen]]
"""Computes a share in this process."""


class Engine(Protocol):
    """What computes the shares of a step."""

    def compute(self, share: Share, trained: Mapping[str, nn.Parameter], own: Compute, making: Making) -> list[Seen]:
        """All micro-batches of a step, by their number; the gradients are then in `making`."""


class Alone:
    """This process computes everything."""

    peak_bytes = 0
    """Memory of helpers; there are none."""

    def compute(self, share: Share, trained: Mapping[str, nn.Parameter], own: Compute, making: Making) -> list[Seen]:
        """The whole share."""
        return own(share)


ALONE = Alone()


@dataclass(frozen=True, slots=True)
class Seat:
    """What a helper is given: where it hears and answers, and memory that it shares with the first process."""

    connection: Connection
    weights_W: Tensor
    """All trained weights, one after the other, before the step."""
    sums_W: Tensor
    """The gradients that this helper made."""
    threads: int


@dataclass(frozen=True, slots=True)
class _Helper:
    seat: Seat
    """The first process's end of it."""
    process: Any

    def hear(self) -> Any:
        """What it answered.

        Raises:
            UserError: It could not go on, or it is gone.
        """
        try:
            kind, said = self.seat.connection.recv()
        except (EOFError, OSError):
            self.process.join(_PATIENCE)
            raise UserError(
                f"A helping process ended by itself (exit code {self.process.exitcode}; -9 is often too little memory, "
                "since each process holds the model). The last checkpoint is kept: free some memory and resume the "
                "run, or start it with fewer train.processes."
            ) from None
        if kind == "refused":
            raise UserError(said)
        if kind == "failed":
            raise RuntimeError(f"a helping process failed: {said}")
        return said

    def sent_home(self) -> int:
        """Ends it; bytes that it held at most, 0 where it cannot say."""
        peak = 0
        with suppress(EOFError, OSError):
            self.seat.connection.send(None)
            while not peak and self.seat.connection.poll(_PATIENCE):
                kind, said = self.seat.connection.recv()  # of a step that was given up, there may be an answer left
                peak = said if kind == "ended" else 0
        if not peak:
            self.process.kill()
        self.process.join()
        return peak


@dataclass(slots=True)
class Helped:
    """This process and helpers, each with its part of the threads."""

    helpers: list[_Helper]
    threads: int
    """Of each process while it computes a step."""
    peak_bytes: int = 0
    """Memory that the helpers held at most, together; known when they have ended."""

    def compute(self, share: Share, trained: Mapping[str, nn.Parameter], own: Compute, making: Making) -> list[Seen]:
        """Each process its part; gradients are added in the order of the helpers."""
        mine, *others = share.dealt(1 + len(self.helpers))
        busy = [(helper, part) for helper, part in zip(self.helpers, others, strict=True) if part.micro]
        if busy:
            _lay(self.helpers[0].seat.weights_W, trained, trained)
        for helper, part in busy:
            _say(helper, part)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            seen = own(mine)
        finally:
            torch.set_num_threads(before)
        for helper, _ in busy:
            said, names = helper.hear()
            seen = seen + said
            for name, part_W in _parts(helper.seat.sums_W, trained):
                if name in names:
                    making.add(name, part_W.clone())
        return sorted(seen, key=lambda one: one.number)

    def end(self) -> None:
        """Sends the helpers home; whoever does not go is stopped."""
        for helper in self.helpers:
            self.peak_bytes += helper.sent_home()


@contextmanager
def helped(job: Job, threads: int, help_with: Callable[..., None], *told: Any) -> Iterator[Helped]:
    """Starts the helpers of a job; they end with it.

    Args:
        job: What is trained.
        threads: Of all processes together.
        help_with: What a helper runs: makes the same job by itself, from what it is told and its seat, and then
            follows. It must be importable.
        told: What it is told beside its seat.
    """
    context, each = processes.get_context("spawn"), max(1, threads // job.settings.processes)
    trained = job.method.trained(job.model)
    size = sum(weight.numel() for weight in trained.values())
    dtype = torch.float64 if any(weight.dtype == torch.float64 for weight in trained.values()) else torch.float32
    weights_W = _shared(size, dtype)
    team = Helped([], each)
    try:
        with handled((signal.SIGINT,), signal.SIG_IGN):  # an interrupt is for the first process, which then ends them
            for _ in range(job.settings.processes - 1):
                ours, theirs = context.Pipe()
                sums_W = _shared(size, dtype)
                process = context.Process(
                    target=help_with, args=(*told, Seat(theirs, weights_W, sums_W, each)), daemon=True
                )
                process.start()
                theirs.close()
                team.helpers.append(_Helper(Seat(ours, weights_W, sums_W, each), process))
        yield team
    finally:
        team.end()


def follow(job: Job, seat: Seat, peak: Callable[[], int]) -> None:
    """What a helper does: computes the shares it is told, until it is sent home or the first process is gone."""
    torch.set_num_threads(seat.threads)
    trained = job.method.trained(job.model)
    with job.gradients.begin(job.model, trained, "") as making:
        while (share := _heard(seat)) is not None:
            with torch.no_grad():
                for name, part_W in _parts(seat.weights_W, trained):
                    trained[name].copy_(part_W)
            job.model.module.train()
            seen = compute(job, making, share)
            made = making.taken()
            _lay(seat.sums_W, trained, made)
            seat.connection.send(("seen", (seen, frozenset(made))))
    seat.connection.send(("ended", peak()))


def answered(seat: Seat, work: Callable[[], None]) -> None:
    """Does a helper's work; what stops it is told to the first process, which tells the user."""
    try:
        work()
    except UserError as error:
        seat.connection.send(("refused", error.problems))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the first process is gone, and so is the run's lock
    except Exception:  # noqa: BLE001  (a fault of ours, raised again where the user sees it)
        seat.connection.send(("failed", traceback.format_exc()))


def _say(helper: _Helper, part: Share) -> None:
    try:
        helper.seat.connection.send(part)
    except (BrokenPipeError, OSError):
        helper.hear()  # says why it is gone


def _heard(seat: Seat) -> Share | None:
    found: Share | None = seat.connection.recv()
    return found


def _shared(size: int, dtype: torch.dtype) -> Tensor:
    flat_W: Tensor = torch.zeros(size, dtype=dtype).share_memory_()  # type: ignore[no-untyped-call]
    return flat_W


def _parts(flat_W: Tensor, trained: Mapping[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    """Each weight's part of all weights one after the other, in its shape."""
    start = 0
    for name, weight in trained.items():
        yield name, flat_W[start : start + weight.numel()].view(weight.shape)
        start += weight.numel()


def _lay(flat_W: Tensor, trained: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Writes what there is of each weight into its part."""
    with torch.no_grad():
        for name, part_W in _parts(flat_W, trained):
            if name in values:
                part_W.copy_(values[name])
