"""Shows what is said about each broken file of the tests: `python benchmarks/broken_tour.py`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "data"))

from broken_files import BROKEN, write

from tunewright.core.errors import UserError
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import open_dataset


def main() -> int:
    accepted = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, broken in BROKEN.items():
            path = write(Path(folder), name)
            try:
                open_dataset(DataSettings(path=str(path), **broken.settings))
            except UserError as error:
                said = str(error).replace(f"{folder}/", "").replace("\n", "\n    ")
            else:
                said, accepted = "ACCEPTED", accepted + 1
            print(f"{name}\n    {said}\n")
    print(f"{len(BROKEN)} broken inputs, {accepted} accepted.")
    return accepted


if __name__ == "__main__":
    sys.exit(main())
