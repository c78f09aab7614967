"""A worker of the engine's tests: its words are HOW MODEL KIND SETTINGS SEAT."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from train.test_loop import make_job
from train.test_private_loop import private_job
from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.models.contracts import Origin
from tunewright.train.worker import serve

MAKERS = {"plain": make_job, "private": private_job}


def job_in(folder: str, kind: str, settings):
    def opened(_, dtype=torch.float32):
        return build("families", "causal_lm").open(Origin("tiny", Path(folder), "none"), dtype)

    return MAKERS[kind](opened, **settings)


def lent(how: str, job):
    """The same job, or what may go wrong with it."""
    if how == "refuses":
        raise UserError("the rows have changed")
    if how == "fails":
        raise LookupError("of ours")
    if how == "has no disk":
        raise OSError(28, "No space left on device", "rows.jsonl")
    if how == "never comes":
        time.sleep(600)
    if how == "knows other rows":
        train = list(job.train)
        train[3], train[4] = train[4], train[3]
        return replace(job, train=tuple(train))
    return job


def main() -> None:
    how, folder, kind, settings, seat = sys.argv[1:]
    serve(seat, lambda: lent(how, job_in(folder, kind, json.loads(settings))), lambda: 7)
