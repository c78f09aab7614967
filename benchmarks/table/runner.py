"""Runs the sides of a row in turn, and keeps every result as a line, so that a broken-off benchmark goes on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table.child import KEPT, ROOT
from benchmarks.table.machine import commit
from benchmarks.table.row import Result, Round, Row, Side

PEER = ROOT / ".venv-peer" / "bin" / "python"
OPTIONS = {"BENCH_STEPS": "4", "BENCH_PAIRS": "500"}
"""Environment variables that change what a run does, and what they are unless set."""
_CODE = ("src/**/*.py", "benchmarks/**/*.py", "benchmarks/peers/requirements.txt", "constraints.txt")


class ChildError(RuntimeError):
    """A child process failed, or printed no JSON line."""


def options() -> dict[str, str]:
    """The options as they stand."""
    return {name: os.environ.get(name, default) for name, default in OPTIONS.items()}


def fingerprint(root: Path = ROOT) -> str:
    """Of the code and the options: results of other code are not mixed with these."""
    found = hashlib.sha256(repr(options()).encode())
    for path in sorted(path for pattern in _CODE for path in root.glob(pattern)):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Measurements:
    """The kept lines of one row, a file of JSON lines."""

    path: Path

    @classmethod
    def of(cls, row: str, folder: Path = KEPT / "measurements") -> Measurements:
        """The file of a row."""
        return cls(folder / f"{row}.jsonl")

    def append(self, line: dict[str, Any]) -> None:
        """Keeps one result. The line break comes first: a torn line before this one spoils nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(line))

    def lines(self) -> Iterator[dict[str, Any]]:
        """All that was kept, oldest first; a torn last line is left out."""
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else ():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue

    def rounds(self, row: Row, code: str) -> list[Round]:
        """The whole rounds measured with this code."""
        found: dict[int, dict[str, Result]] = {}
        for line in self.lines():
            if line["code"] == code:
                found.setdefault(line["round"], {})[line["side"]] = line["result"]
        names = {side.name for side in row.sides}
        first = found.get(0, {})
        once = {side.name: first[side.name] for side in row.sides if side.once and side.name in first}
        whole = [{**once, **found[number]} for number in sorted(found)]
        return [one for one in whole if one.keys() >= names]

    def newest(self, row: Row) -> tuple[list[Round], dict[str, Any]]:
        """The rounds of the newest code that has a whole one, and the last line of them; empty if there is none."""
        for line in reversed([*self.lines()]):
            rounds = self.rounds(row, line["code"])
            if rounds:
                return rounds, line
        return [], {}


Run = Callable[[Side, int], Result]


def run_child(side: Side, number: int) -> Result:
    """Runs one side once and adds its peak memory and its time.

    Raises:
        ChildError: It failed, or its last line is not JSON.
    """
    python = str(PEER) if side.peer else sys.executable
    environment = {
        **os.environ,
        "BENCH_ROUND": str(number),
        "BENCH_PEER": str(PEER),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "BENCH_STARTED": repr(time.time()),
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        started = time.perf_counter()
        command = [python, "-m", side.module, *side.arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        lines = out.read().strip().splitlines()
        if process.returncode != 0 or not lines or not lines[-1].startswith("{"):
            raise ChildError(f"{' '.join(command)} ended with {process.returncode}:\n{err.read()[-3000:]}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {**json.loads(lines[-1]), "peak_bytes": peak, "wall_seconds": seconds}


def measure(row: Row, rounds: int, kept: Measurements, code: str, run: Run = run_child) -> list[Round]:
    """Runs what is missing of a row's rounds, its sides one after the other, and gives all of them."""
    have = {(line["round"], line["side"]) for line in kept.lines() if line["code"] == code}
    for number in range(row.rounds or rounds):
        for side in row.sides:
            if (number, side.name) in have or (side.once and number > 0):
                continue
            result = run(side, number)
            now = time.strftime("%Y-%m-%d %H:%M")
            line = {"row": row.name, "side": side.name, "round": number, "code": code, "commit": commit(), "at": now}
            kept.append({**line, "options": options(), "result": result})
    return kept.rounds(row, code)


def told(row: Row, rounds: int) -> Run:
    """As `run_child`, and says what runs."""

    def run(side: Side, number: int) -> Result:
        sys.stderr.write(f"{row.name}, round {number + 1} of {row.rounds or rounds}: {side.name}\n")
        return run_child(side, number)

    return run
