"""`delete`: a run with everything that was cached from its rows."""

from __future__ import annotations

import shutil
from pathlib import Path

from tunewright.core.files import cache_folder
from tunewright.core.store import Run
from tunewright.pipeline.result import Result


def delete(folder: Path) -> Result:
    """Removes the run folder and the cached answers that were made from its rows."""
    run = Run.open(folder)
    with run.writing():
        kept = [Path(path) for path in run.read("evaluations/kept.json") or ()]
        own = cache_folder().resolve()
        removed = 0
        for path in kept:
            if path.resolve().is_relative_to(own) and path.is_file():
                path.unlink()
                removed += 1
        shutil.rmtree(run.folder)
    return Result(0, (f"Deleted {folder} and {removed} cached files made from its rows.",))
