"""A run is a folder: create, append, lock, resume. Nothing here knows torch."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tunewright.core.begun import WRITTEN
from tunewright.core.errors import UserError
from tunewright.core.files import lines_of, make_folder, naming, read_json, write_json
from tunewright.core.words import command

_LOCK = ".lock"
_BEFORE_THE_PLAN = {"info.json", "data.json", "canaries.json", "rows.key", _LOCK}
"""What a run folder may hold before plan.yaml, which is written last, makes it a run."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder. Paths are properties; each stage leaves files that the next reads."""

    folder: Path

    @classmethod
    @contextmanager
    def create(cls, out: Path | None, name: str) -> Iterator[Run]:
        """Makes a new run folder, locked within: `out` if given, else `runs/<date>-<name>` with a number if taken.

        Raises:
            UserError: `out` is a file, or a folder that is not empty, or another process begins a run there; what a run
                that never began left is cleared.
        """
        run = cls(_new_folder(name) if out is None else out)
        if out is not None:
            require_free(out)
            make_folder(out)
        with run.writing():
            require_free(run.folder)  # whoever had the lock before may have begun a run there
            for left in run.folder.iterdir():
                if left.name != _LOCK:
                    left.unlink()
            yield run

    @property
    def children(self) -> Path:
        """Where runs inside this one lie: further seeds, parts of the rows, twins."""
        return self.folder / "children"

    def child(self, name: str) -> Run:
        """A run inside this one, there or not."""
        return Run(self.children / name)

    @property
    def control(self) -> Path:
        """Where an audit keeps the twin without privacy while it needs it."""
        return self.child("control").folder

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Opens an existing run.

        Raises:
            UserError: The folder is not a run.
        """
        if _never_begun(folder):
            raise UserError(
                f"The run in {folder} stopped before it began, so there is nothing to go on with. Start it again with "
                f"--out {folder}, which is then cleared, or delete that folder."
            )
        if not (folder / "plan.yaml").is_file():
            raise UserError(f"{folder} is not a run folder (no plan.yaml in it). Runs are listed by `ls runs`.")
        return cls(folder)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def plan_file(self) -> Path:
        """plan.yaml"""
        return self.folder / "plan.yaml"

    @property
    def events_file(self) -> Path:
        """events.jsonl"""
        return self.folder / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """checkpoints/"""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """model/"""
        return self.folder / "model"

    @property
    def stored(self) -> Path:
        """stored/, there only until training has ended"""
        return self.folder / "stored"

    @property
    def evaluations(self) -> Path:
        """evaluations/"""
        return self.folder / "evaluations"

    def read(self, name: str) -> Any:
        """A JSON file of the run by name (`data.json`, `evaluations/comparison.json`); None when absent.

        Raises:
            UserError: It is no JSON (any more).
        """
        path = self.folder / name
        try:
            return read_json(path) if path.is_file() else None
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}). Put a whole copy back, or start the run again.") from None

    def must_read(self, name: str) -> dict[str, Any]:
        """A JSON file that every run has from its beginning.

        Raises:
            UserError: It is gone or damaged.
        """
        found = self.read(name)
        if not isinstance(found, dict):
            raise UserError(
                f"{self.folder}/{name} is gone or damaged; without it the run can't be opened. Put it back, "
                f"or start a new run from its plan: `{command('tune', '--plan', self.plan_file)}`."
            )
        return found

    def write(self, name: str, value: Any) -> None:
        """Writes a JSON file of the run, whole or not at all."""
        write_json(self.folder / name, value)

    def append(self, event: Mapping[str, Any]) -> None:
        """Appends one event, a line of JSON, flushed to disk."""
        with naming(self.events_file), open(self.events_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def note(self, sentence: str) -> None:
        """Tells the user something that is no event of the run itself, and keeps it in notes.txt, once."""
        logging.getLogger("tunewright").warning(sentence)
        path = self.folder / "notes.txt"
        if path.is_file() and sentence in lines_of(path.read_text(encoding="utf-8")):
            return  # a resumed run notes again what it had noted
        with naming(path), open(path, "a", encoding="utf-8") as file:
            file.write(sentence + "\n")

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """All whole events, or those of one type; whoever needs one at a time asks `each_event`."""
        return list(each_event(self, *([kind] if kind else [])))

    def cut_events(self, length: int) -> None:
        """Cuts events.jsonl to its first `length` bytes: what a checkpoint had seen."""
        if self.events_file.exists():
            os.truncate(self.events_file, min(length, self.events_file.stat().st_size))

    def events_length(self) -> int:
        """Bytes of events.jsonl now."""
        return self.events_file.stat().st_size if self.events_file.exists() else 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the run's lock: one writer per run folder.

        Raises:
            UserError: Another process writes to this run.
        """
        lock = FileLock(self.folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"{self.folder} is being written by another process. Wait for it, or stop it.") from None
        WRITTEN.append(self.folder)
        try:
            yield
        finally:
            lock.release()


def each_event(run: Run, *kinds: str) -> Iterator[dict[str, Any]]:
    """The whole events of a run one by one, or those of some types; a torn last line is left out.

    A step's event names every row that it saw, so whoever keeps them all holds hundreds of bytes a row and pass.
    """
    if not run.events_file.is_file():
        return
    with open(run.events_file, "rb") as file:
        for line in file:
            try:
                event = json.loads(line.decode("utf-8"))
            except json.JSONDecodeError:
                continue
            except UnicodeDecodeError as error:
                if error.reason != "unexpected end of data":  # no line of ours, torn or whole, has such bytes
                    raise
                continue
            if not kinds or event.get("type") in kinds:
                yield event


def _new_folder(name: str) -> Path:
    """A folder under runs/ that was not there."""
    stem = f"{date.today().isoformat()}-{re.sub(r'[^A-Za-z0-9_.]+', '-', name).strip('-').lower() or 'run'}"
    for number in range(1, 10_000):
        folder = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise UserError(f"runs/{stem}-* is full; give --out.")


def require_free(out: Path) -> None:
    """Whether a new run may be made there, to be asked before long work.

    Raises:
        UserError: It is a file, or a folder that is not empty, unless a run that never began left it.
    """
    if out.is_file():
        raise UserError(f"--out {out} is a file; a run is a folder. Give another --out.")
    if out.is_dir() and not _never_begun(out) and any(path.name != _LOCK for path in out.iterdir()):
        go_on = f", or `{command('resume', out)}` to go on with it" if (out / "plan.yaml").is_file() else ""
        raise UserError(f"{out} exists and is not empty. Give another --out{go_on}.")


_BEFORE_INFO = frozenset({_LOCK, "rows.key", "canaries.json"})
"""What may lie in a folder before info.json, and has names that nobody else gives."""


def _never_begun(folder: Path) -> bool:
    """Whether a folder holds only what a run writes before its plan: the disk was full, or the process was killed.

    A user's own data.json alone is not taken for it: info.json must be there, and ours.
    """
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    kept = {name for name in found if not re.fullmatch(r"\..+\.\d+\.tmp", name)}  # of a file that was never whole
    if kept and kept <= _BEFORE_INFO and kept - {_LOCK}:
        return True
    if "info.json" not in kept or kept - _BEFORE_THE_PLAN:
        return False
    try:
        info = read_json(folder / "info.json")
    except ValueError:
        return False
    return isinstance(info, dict) and {"tunewright", "verb"} <= info.keys()
