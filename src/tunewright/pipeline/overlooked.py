"""What lies beside the rows that are read and would be lost unseen; asked when a run is begun, not when it goes on."""

from __future__ import annotations

from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import Dataset
from tunewright.data.readers import READERS
from tunewright.data.split_files import overlooked

_LABELS = {"label", "labels", "category", "categories", "class", "target", "gold", "gold_label", "sentiment", "intent"}
"""Names, in any case, of columns that hold what somebody wants to have learned of a text."""


def require_all_splits_read(path: Path) -> None:
    """Whether every file of a folder that has a split's name is read.

    Raises:
        UserError: One is not, and rows of train would be taken in its place.
    """
    if left := overlooked(path):
        names = ", ".join(file.name + "/" * file.is_dir() for file in left)
        raise UserError(
            f"{path}: {names} cannot be read as a split, and rows of train would be taken in its place. Give valid and "
            f"test as one file each ({', '.join(READERS)}), as test.csv, or move what is none elsewhere."
        )


def require_no_labels_lost(dataset: Dataset, settings: DataSettings) -> None:
    """Whether texts come without labels, so that they are to be learned as they stand.

    Raises:
        UserError: A column that nothing reads is named as labels are: taken for plain text, they would be lost unseen.
    """
    if dataset.facts["format"] != "text" or settings.format != "auto":
        return
    if beside := sorted(name for name in dataset.facts.get("unread") or () if name.lower() in _LABELS):
        raise UserError(
            f"{settings.path}: found texts and {', '.join(beside)}, which most rows lack or which has another name "
            f"than `label`. To learn the labels, fill them in everywhere and give --map label={beside[0]}; to learn "
            "the texts alone, say --set data.format=text."
        )
