"""A worker process: how the first process starts and hears it, and what it does.

They talk in lines of JSON over two pipes. A worker leads a group of its own, so that what a terminal or a scheduler
sends to the whole group is for the first process to act on; when that is gone, however, a third pipe breaks, and the
worker ends at once, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any

import torch

from tunewright.core.errors import UserError
from tunewright.train import shared
from tunewright.train.fingerprint import fingerprint
from tunewright.train.job import Job
from tunewright.train.share import Share, compute


@dataclass(frozen=True, slots=True)
class Seat:
    """What a worker is told on its command line; numbers of files that it inherits."""

    place: int
    """From 1; its row of the shared memory."""
    processes: int
    threads: int
    memory: int
    hears: int
    says: int
    lives: int
    """Breaks when the first process is gone."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as the first process holds it."""

    seat: Seat
    process: subprocess.Popen[bytes]
    to: IO[str]
    back: IO[str]
    life: int

    @classmethod
    def start(cls, command: Sequence[str], memory: int, place: int, processes: int, threads: int) -> Worker:
        """Starts it with its seat as the last word."""
        (hears, to), (back, says), (lives, life) = os.pipe(), os.pipe(), os.pipe()
        seat = Seat(place, processes, threads, memory, hears, says, lives)
        process = subprocess.Popen(
            [*command, json.dumps(asdict(seat))],
            pass_fds=(memory, hears, says, lives),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for file in (hears, says, lives):
            os.close(file)
        return cls(seat, process, os.fdopen(to, "w", encoding="utf-8"), os.fdopen(back, encoding="utf-8"), life)

    def say(self, message: Any) -> None:
        """Tells it something; that it is gone is found when it is heard."""
        with suppress(BrokenPipeError):
            self.to.write(json.dumps(message) + "\n")
            self.to.flush()

    def answers(self, seconds: float) -> bool:
        """Whether it says something, or is gone, within so many seconds."""
        return bool(select.select([self.back], [], [], seconds)[0])

    def hear(self) -> Any:
        """What it answered.

        Raises:
            UserError: It could not go on, or it is gone.
            OSError: A file or disk failed it.
            RuntimeError: A fault of ours.
        """
        line = self.back.readline()
        if not line.endswith("\n"):
            code = self.process.wait()
            raise UserError(
                f"A worker process ended by itself (exit code {code}; -9 is often too little memory, since each "
                "process holds the model). The last checkpoint is kept: free some memory and resume the run, or start "
                "it with fewer train.processes."
            )
        kind, said = json.loads(line)
        if kind == "refused":
            raise UserError(said)
        if kind == "system":
            raise OSError(*said)
        if kind == "failed":
            raise RuntimeError(said)
        return said

    def stop(self) -> None:
        """Ends it if it has not ended, and closes what connected it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for file in (self.to, self.back):
            with suppress(OSError):
                file.close()
        os.close(self.life)


def serve(word: str, job_of: Callable[[], Job], peak: Callable[[], int]) -> None:
    """A worker's whole life, from its seat (the last word of its command) on."""
    seat = Seat(**json.loads(word))
    threading.Thread(target=_end_with, args=(seat.lives,), daemon=True).start()
    with os.fdopen(seat.hears, encoding="utf-8") as hears, os.fdopen(seat.says, "w", encoding="utf-8") as says:

        def say(kind: str, said: Any) -> None:
            says.write(json.dumps((kind, said)) + "\n")
            says.flush()

        try:
            _follow(job_of(), seat, hears, say)
            say("ended", peak())
        except UserError as error:
            say("refused", error.problems)
        except OSError as error:
            say("system", (error.errno, error.strerror, error.filename))
        except Exception as error:  # noqa: BLE001  (a fault of ours, raised again where the user sees it)
            say("failed", f"{type(error).__name__}: {error} (in a worker)\n{traceback.format_exc()}")


def _follow(job: Job, seat: Seat, hears: IO[str], say: Callable[[str, Any], None]) -> None:
    """Computes the shares that it is told, until it is sent home."""
    torch.set_num_threads(seat.threads)
    trained = job.method.trained(job.model)
    memory_PW = shared.opened(seat.memory, seat.processes, trained)
    say("ready", fingerprint(job))
    with job.gradients.begin(job.model, trained, "") as making:
        while (told := json.loads(hears.readline())) is not None:
            with torch.no_grad():
                for name, part_W in shared.parts(memory_PW[0], trained):
                    trained[name].copy_(part_W)
            job.wake()
            seen = compute(job, making, Share.from_json(told))
            made = making.taken()
            shared.lay(memory_PW[seat.place], trained, made)
            say("seen", {"seen": [asdict(one) for one in seen], "made": sorted(made)})


def _end_with(lives: int) -> None:
    """Ends this process when the first one is gone, which closes the other end."""
    os.read(lives, 1)
    os._exit(1)
