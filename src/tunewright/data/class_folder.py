"""A folder of pictures for each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg")


def is_class_folder(path: Path) -> bool:
    """Whether a folder holds a folder of pictures for each label."""
    return path.is_dir() and any(_pictures(inner) for inner in sorted(path.iterdir()) if inner.is_dir())


def pictures_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """A row for each picture, in the order of names: the label is the name of its folder.

    Raises:
        UserError: A folder holds what is not read, or no picture.
    """
    folders = [inner for inner in sorted(path.iterdir()) if inner.is_dir() and not inner.name.startswith(".")]
    if faults := [fault for inner in folders if (fault := _unread(inner))]:
        raise UserError(faults)
    files = [file for inner in folders for file in _pictures(inner)]
    for number, file in enumerate(files, 1):
        yield number, {"image": str(file.relative_to(path)), "label": file.parent.name}


def _unread(folder: Path) -> str:
    """What a label's folder holds of pictures that are not read; a label must not lose some of them in silence."""
    others = [
        file
        for file in folder.iterdir()
        if file.name[0] != "." and (file.is_dir() or file.suffix.lower() in _OTHER_PICTURES)
    ]
    kinds = Counter("folders" if file.is_dir() else file.suffix for file in others)
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    allowed = f"Allowed are {', '.join(PICTURES)}: convert the others, or take them out."
    if told:
        return f"{folder}: found {told}, which are not read as pictures of '{folder.name}'. {allowed}"
    return "" if _pictures(folder) else f"{folder}: found no picture of '{folder.name}'. {allowed}"


_OTHER_PICTURES = (
    ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".jfif",
    ".ppm", ".pgm", ".dcm", ".nii", ".npy", ".svg", ".raw", ".dng", ".tga",
)  # fmt: skip


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES)
