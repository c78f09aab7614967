"""Pictures from files, folders and numbers; what is no picture is told with its place."""

from __future__ import annotations

import builtins
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tunewright.core.errors import MissingPart, UserError
from tunewright.core.settings import DataSettings
from tunewright.data.dataset import open_dataset
from tunewright.data.formats import Flaw, How
from tunewright.data.formats.picture import Picture


def _pixels(number: int, colours: int = 0) -> np.ndarray:
    shape = (6, 5, 3) if colours else (6, 5)
    return np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)


def _parsed(found: object, folder: Path = Path()) -> np.ndarray:
    example = Picture().parse({"image": found, "label": "a"}, How(folder=folder))
    return example.context[0].parts[0].value


@pytest.mark.parametrize("colours", [0, 3])
@pytest.mark.parametrize("ending", ["png", "PNG"])
def test_a_file_gives_its_pixels_as_numbers_do(tmp_path: Path, colours: int, ending: str) -> None:
    Image.fromarray(_pixels(0, colours)).save(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(_parsed(f"a.{ending}", tmp_path), _pixels(0, colours))
    np.testing.assert_array_equal(_parsed(_pixels(0, colours).tolist()), _pixels(0, colours))


def test_a_photograph_and_a_palette_are_read_in_colour(tmp_path: Path) -> None:
    Image.fromarray(_pixels(0, 3)).save(tmp_path / "a.jpg")
    Image.fromarray(_pixels(0, 3)).convert("P").save(tmp_path / "b.png")
    assert _parsed("a.jpg", tmp_path).shape == _parsed("b.png", tmp_path).shape == (6, 5, 3)


@pytest.mark.parametrize(
    "found",
    [[[0, 1], [2]], [[0.5, 1.0]], [[True, False]], [], [[[1, 2]]], [[256]], [[-1]], "absent.png", "text.png", 3, None,
     {"bytes": "x"}, ""],
)  # fmt: skip
def test_what_is_no_picture_is_a_flaw(tmp_path: Path, found: object) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(Flaw, match=r"image: found .*expected .*To mend"):
        _parsed(found, tmp_path)


def test_other_kinds_of_file_are_not_opened_whatever_they_are_called(tmp_path: Path) -> None:
    """Libraries for pictures read dozens of kinds, and each is a way in."""
    Image.fromarray(_pixels(0)).save(tmp_path / "a.tiff")
    (tmp_path / "a.tiff").rename(tmp_path / "a.png")
    with pytest.raises(Flaw, match="whole PNG or JPEG"):
        _parsed("a.png", tmp_path)


def test_a_small_file_that_unpacks_to_a_huge_picture_is_refused(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with pytest.raises(Flaw, match="9000 x 9000 pixels"):
        _parsed("a.png", tmp_path)


def test_without_pillow_the_command_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.fromarray(_pixels(0)).save(tmp_path / "a.png")
    real = builtins.__import__

    def without(name: str, *more: object, **words: object) -> object:
        if name == "PIL":
            raise ImportError(name)
        return real(name, *more, **words)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPart, match="pip install"):
        _parsed("a.png", tmp_path)


def _folders(root: Path, number: int = 0) -> None:
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for k in range(10):
            Image.fromarray(_pixels(1000 * number + 100 * len(label) + k + (50 if label == "dog" else 0))).save(
                root / label / f"{k}.png"
            )
    (root / "cat" / "notes.txt").write_text("no picture")


def test_a_folder_for_each_label_is_read_as_it_is(tmp_path: Path) -> None:
    _folders(tmp_path / "animals")
    found = open_dataset(DataSettings(path=str(tmp_path / "animals")))
    assert found.labels == ("cat", "dog")
    assert found.facts["format"] == "picture"
    assert (found.facts["rows"], found.splits_given) == (20, False)
    before = found.facts["files"][0]["sha256"]
    Image.fromarray(_pixels(99999)).save(tmp_path / "animals" / "cat" / "0.png")
    again = open_dataset(DataSettings(path=str(tmp_path / "animals")))
    assert again.facts["files"][0]["sha256"] != before
    assert again.fingerprint != found.fingerprint


def test_split_folders_are_splits(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        _folders(tmp_path / split, number)
    found = open_dataset(DataSettings(path=str(tmp_path)))
    assert [len(found.train), len(found.valid), len(found.test)] == [20, 20, 20]
    assert found.labels == ("cat", "dog")


def test_paths_start_at_the_file_of_rows_and_faults_have_their_line(tmp_path: Path) -> None:
    Image.fromarray(_pixels(0)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "label": "cat"}, {"image": "b.png", "label": "dog"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"line 2, field 'image'.*where no file is"):
        open_dataset(DataSettings(path=str(tmp_path / "rows.jsonl")))


def test_a_file_of_more_than_8_bits_is_refused_and_not_clipped(tmp_path):
    Image.new("I;16", (4, 4), 40_000).save(tmp_path / "scan.png")
    with pytest.raises(Flaw, match="more than 8 bits a colour") as told:
        _parsed("scan.png", tmp_path)
    assert "scale it to 8 bits" in told.value.mend
