"""What may be relied on: which layers start without torch, and what the package names exist."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import tunewright

SOURCE = Path(tunewright.__file__).parent
HEAVY = ("torch", "transformers", "peft", "sklearn", "scipy")
_LOADED = "import sys; import {modules}; print(*(name for name in {heavy!r} if name in sys.modules))"


def modules(package: str) -> list[str]:
    """A package and all modules in it, by name."""
    folder = SOURCE / package
    found = [path for path in folder.rglob("*.py") if path.name != "__main__.py"]
    names = [".".join(("tunewright", *path.relative_to(SOURCE).with_suffix("").parts)) for path in found]
    return sorted(name.removesuffix(".__init__") for name in names)


def loaded_by(names: list[str], heavy: tuple[str, ...]) -> list[str]:
    """Which of the heavy packages are there after importing the modules in a fresh process."""
    code = _LOADED.format(modules=", ".join(names), heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.split()


def test_core_report_and_cli_know_no_torch() -> None:
    names = [name for package in ("core", "report", "cli") for name in modules(package)]
    assert len(names) > 20
    assert loaded_by(names, HEAVY) == []


def test_start_up_of_the_command_line_is_light() -> None:
    assert loaded_by(["tunewright.cli.app"], (*HEAVY, "pydantic", "rich", "jinja2", "numpy")) == []


def test_a_heavy_import_would_be_seen() -> None:
    assert loaded_by(["numpy", "tunewright"], ("numpy", "torch")) == ["numpy"]


@pytest.mark.parametrize("package", ["data", "data/formats"])
def test_reading_rows_needs_no_torch(package: str) -> None:
    assert "torch" not in loaded_by(modules(package), HEAVY)


def test_the_command_that_is_installed_is_the_one_that_is_tested() -> None:
    (script,) = entry_points(group="console_scripts", name="tunewright")
    assert script.value == "tunewright.cli:main"


def test_typed_packages_say_so() -> None:
    assert (SOURCE / "py.typed").is_file()
