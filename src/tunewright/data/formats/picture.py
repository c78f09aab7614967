"""A picture and its label."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import MissingPart
from tunewright.core.plugins import Plugin
from tunewright.core.records import Example, Part, Turn
from tunewright.data.class_folder import PICTURES
from tunewright.data.formats import HIDDEN, Flaw, How, Row, shown
from tunewright.data.formats._common import answered, has_all, label_of, value

MOST_PIXELS = 4096 * 4096
"""A small file can hold a picture that fills the memory."""


class Picture(Plugin):
    """Pictures: `image`, the path of a .png or .jpg file or rows of numbers from 0 to 255, and `label`."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"image": ("picture", "file"), "label": ()}
    optional: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[tuple[str, ...]] = ("label",)
    uniform: ClassVar[tuple[str, ...]] = ("label",)
    recipe: ClassVar[str] = "pictures"

    def detect(self, columns: set[str], row: Row) -> float:
        """Sure when the image is a list of numbers, or a path that ends as a picture does."""
        found = value(row, self.columns, "image")
        named = isinstance(found, str) and found.lower().endswith(PICTURES)
        return 0.9 if has_all(columns, self.columns) and (named or isinstance(found, list)) else 0.0

    def parse(self, row: Row, how: How) -> Example:
        """The picture is the user's turn; the label is kept as it is."""
        found = value(row, self.columns, "image")
        pixels = _opened(how.folder / found, found) if isinstance(found, str) and found.strip() else _pixels(found)
        answers = answered(row.get("label"), how, label_of)
        return Example((Turn("user", (Part("image", pixels),)),), answers, label=True)


def _pixels(found: Any) -> NDArray[np.uint8]:
    """[height, width] or [height, width, colours]."""
    try:
        pixels = np.asarray(found)
    except ValueError:  # rows of different length
        pixels = np.zeros(0)
    numbers = pixels.dtype.kind in "iu" and pixels.size
    if not numbers or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        expected = "the path of a .png or .jpg file, or equally long rows of whole numbers (1 or 3 a pixel)"
        raise Flaw("image", shown(found), expected, "correct it or delete the row")
    if pixels.min() < 0 or pixels.max() > 255:
        found_range = "other numbers" if HIDDEN.get() else f"numbers from {pixels.min()} to {pixels.max()}"
        raise Flaw("image", found_range, "numbers from 0 to 255", "bring them to that range")
    return pixels.astype(np.uint8)


def _opened(path: Path, written: str) -> NDArray[np.uint8]:
    """A file's pixels, grey or in three colours; what else is in the file is not looked at."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingPart(
            "Pictures in files are read by Pillow. Install it: pip install 'tunewright[images]'."
        ) from None
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MOST_PIXELS:
                size = f"{image.width} x {image.height} pixels in {shown(written)}"
                raise Flaw("image", size, f"at most {MOST_PIXELS:,} pixels", "make it smaller")
            if image.mode[0] in "IF":  # wider than 8 bits: to convert it would clip it
                found = f"mode {image.mode}, more than 8 bits a colour, in {shown(written)}"
                raise Flaw("image", found, "8 bits a colour", "scale it to 8 bits and save it again")
            grey = image.mode in ("1", "L", "LA")
            return np.array(image.convert("L" if grey else "RGB"), dtype=np.uint8)
    except FileNotFoundError:
        raise Flaw("image", f"{shown(written)}, where no file is", "a file", "correct the path") from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, Flaw):
            raise
        found = f"{shown(written)}, which does not open ({type(error).__name__})"
        raise Flaw("image", found, "a whole PNG or JPEG file", "save it again or delete the row") from None
