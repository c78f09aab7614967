"""The facts that matter before the first step, as lines to print."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from tunewright.data.hazards import hazard_lines
from tunewright.data.identifiers import identifier_line
from tunewright.pipeline import discretion
from tunewright.pipeline.forecast import Forecast


def tell(lines: Iterable[str]) -> None:
    """Prints lines beside the progress, on the error stream."""
    for line in lines:
        logging.getLogger("tunewright").warning(line)


def data_lines(data: dict[str, Any]) -> list[str]:
    """What data.json found, in a few lines.

    Args:
        data: The content of data.json.
    """
    if "withheld" in data:
        return discretion.lines(data)
    facts, encoding = data["facts"], data["encoding"]
    splits = ", ".join(f"{count} {name}" for name, count in facts["counts"].items() if isinstance(count, int))
    lines = [
        f"Rows: {splits or facts['rows']} (format {facts['format']}); splits "
        f"{'made by unit and content' if facts.get('splits_made') else 'as given'}, none overlaps.",
        f"Tokens a row: median {encoding['median']}, at most {encoding['longest']}; "
        f"{encoding['trained_share']:.1%} of tokens are trained.",
    ]
    if encoding.get("stop_trained") is not None:
        lines.append(f"The stop token is trained in {encoding['stop_trained']:.1%} of rows.")
    told = {
        "rows hold contradicting answers": len(facts.get("contradiction_rows") or ()),
        "rows were over max_length": encoding.get("over_max_length", 0),
        "rows start with two start tokens": encoding.get("double_bos", 0),
        "bad rows were skipped": len(facts.get("bad") or ()),
    }
    lines += [f"{count} {what}; see data.json." for what, count in told.items() if count]
    lines += hazard_lines(facts.get("safety") or {})
    found = identifier_line(facts.get("identifiers") or {})
    return [*lines, found] if found else lines


def forecast_line(forecast: Forecast) -> str:
    """The forecast in a line."""
    stored = f", {forecast.stored_bytes / 1e9:.2f} GB more while training" if forecast.stored_bytes else ""
    return (
        f"Forecast ({forecast.basis}): {forecast.seconds / 60:.1f} minutes "
        f"({forecast.training_seconds / 60:.1f} training), {forecast.memory_bytes / 1e9:.1f} GB of memory, "
        f"{forecast.disk_bytes / 1e9:.2f} GB of disk{stored}."
    )
