"""Whether a folder held every weight of the model that was opened from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def lacks(folder: Path, loaded: Mapping[str, Any]) -> str:
    """A sentence about weights that the files lack, which the library draws at random in silence; empty if none.

    Args:
        folder: The model's.
        loaded: What `from_pretrained` tells with `output_loading_info`.
    """
    missing = sorted(loaded["missing_keys"])
    if not missing:
        return ""
    unknown = sorted(loaded["unexpected_keys"])
    instead = f" Found under names that this architecture does not have: {', '.join(unknown[:3])}." if unknown else ""
    return (
        f"{folder}: {len(missing)} weights of the model are not in its files (the first is {missing[0]}), and would be "
        f"drawn at random.{instead} Copy or fetch the whole model again, or save it under the names it was opened with."
    )
