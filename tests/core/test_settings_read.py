"""A setting that nothing reads is a promise that is not kept."""

import re
from pathlib import Path

import tunewright
from tunewright.core.plan_layers import LEAVES

NOT_READERS = {"settings.py", "aliases.py", "plan_layers.py"}
PLACEHOLDERS: set[str] = set()
"""Allow one value only, so there is nothing to read."""


def test_every_setting_is_read_somewhere():
    root = Path(tunewright.__file__).parent
    files = [path for path in root.rglob("*.py") if path.name not in NOT_READERS and "report" not in path.parts]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    names = [key.rsplit(".", 1)[-1] for key in LEAVES if key not in PLACEHOLDERS]
    assert [name for name in names if not re.search(rf"\.{name}\b|\"{name}\"", text)] == []
