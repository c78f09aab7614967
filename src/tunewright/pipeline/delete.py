"""`delete`: a run with everything that was cached from its rows."""

from __future__ import annotations

import shutil
from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.core.files import cache_folder, read_json
from tunewright.core.store import Run
from tunewright.pipeline.result import Result


def delete(folder: Path) -> Result:
    """Removes the run folder and the cached answers that were made from its rows.

    Raises:
        UserError: Some of these answers lie in another cache, so that nothing would know of them afterwards.
    """
    run = Run.open(folder.resolve())
    with run.writing():
        # Runs inside the run keep answers of their own.
        kept = {Path(path) for file in run.folder.rglob("evaluations/kept.json") for path in read_json(file)}
        there, own = sorted(path for path in kept if path.is_file()), cache_folder().resolve()
        if elsewhere := [path for path in there if not path.resolve().is_relative_to(own)]:
            raise UserError(
                f"{elsewhere[0]} was made from the rows of {folder}, and lies in another cache than {own} (1 of "
                f"{len(elsewhere)} such files). Set TUNEWRIGHT_CACHE as it was then, or delete these files first."
            )
        for path in there:
            path.unlink()
        _remove(run)
    if folder.is_symlink():
        folder.unlink()
    return Result(0, (f"Deleted {folder} and {len(there)} cached files made from its rows.",))


def _remove(run: Run) -> None:
    """The plan last: as long as it is there the folder is a run, and can be deleted again if this is interrupted."""
    for entry in sorted(run.folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != run.plan_file:
            entry.unlink()
    shutil.rmtree(run.folder)
