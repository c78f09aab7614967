"""The facts that matter before the first step, as lines to print."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from tunewright.data.formats import counted, few
from tunewright.data.hazards import hazard_lines
from tunewright.data.identifiers import identifier_line
from tunewright.pipeline import discretion
from tunewright.pipeline.forecast import Forecast


def tell(lines: Iterable[str]) -> None:
    """Prints lines beside the progress, on the error stream."""
    for line in lines:
        logging.getLogger("tunewright").warning(line)


def data_lines(data: dict[str, Any], where: str = "see data.json") -> list[str]:
    """What data.json found, in a few lines.

    Args:
        data: The content of data.json.
        where: Where the rows that are counted here are listed.
    """
    if "withheld" in data:
        return [*discretion.lines(data), *(f"{sentence}." for sentence in _left_out(data["encoding"]))]
    facts, encoding = data["facts"], data["encoding"]
    splits = ", ".join(f"{count} {name}" for name, count in facts["counts"].items() if isinstance(count, int))
    lines = [
        f"Rows: {splits or facts['rows']} (format {facts['format']}); {_split(facts)}.",
        f"Tokens a row: median {encoding['median']}, at most {encoding['longest']}; "
        f"{encoding['trained_share']:.1%} of tokens are trained.",
    ]
    if encoding.get("stop_trained") is not None:
        lines.append(f"The stop token is trained in {encoding['stop_trained']:.1%} of rows.")
    prompts = counted(facts.get("contradictions", 0), "prompt")
    told = {
        f"rows hold contradicting answers to {prompts}": facts.get("contradicting_rows", 0),
        "training rows were over max_length, and their context was cut": len(encoding.get("cut_rows") or ()),
        "rows start with two start tokens": encoding.get("double_bos", 0),
        "bad rows were skipped": facts["dropped"]["bad_rows"],
    }
    lines += [f"{sentence}; {where}." for sentence in _left_out(encoding)]
    lines += [f"{count} {what}; {where}." for what, count in told.items() if count]
    if unread := facts.get("unread"):
        lines.append(f"Columns that are not read: {few(unread)}.")
    if weighted := facts.get("training_weight"):
        lines.append(
            f"Column {weighted} says how much a row is trained on; figures count every row once. Where it is a survey "
            f"weight, have figures count by it: data.survey_weight={weighted}."
        )
    lines += _unseen(facts)
    lines += hazard_lines(facts.get("safety") or {}, where)
    found = identifier_line(facts.get("identifiers") or {})
    return [*lines, found] if found else lines


def _split(facts: dict[str, Any]) -> str:
    """How the rows were split, and that nothing stands on two sides but by plan."""
    by_year = "split by year, so people stand on both sides, as planned"
    return by_year if facts.get("by_time") else f"{_made(facts)}, none overlaps"


def _made(facts: dict[str, Any]) -> str:
    """Which splits are the user's and which were made."""
    made = facts.get("splits_made") or ()
    given = [name for name, count in facts["counts"].items() if count and name not in (*made, "train")]
    if not made:
        return "splits as given"
    if not given:
        return "splits made by unit and content"
    return f"{' and '.join(given)} as given, {' and '.join(made)} made of train by unit and content"


def _left_out(encoding: dict[str, Any]) -> list[str]:
    """How many rows of each split were dropped as too long."""
    dropped = {name: count for name, count in (encoding.get("overlong_dropped") or {}).items() if count}
    told = ", ".join(f"{count} {name}" for name, count in dropped.items())
    return [f"Left out as over max_length ({encoding['max_length']} tokens): {told} rows"] if told else []


def _unseen(facts: dict[str, Any]) -> list[str]:
    """A warning of test rows that cannot be answered by anything that was learned."""
    rows = facts.get("test_rows_of_unseen_labels")
    if not rows:
        return []
    all_rows, labels = counted(facts["counts"]["test"], "test row"), few(facts["labels_unseen_in_train"])
    return [
        f"{rows} of {all_rows} have labels that no training row has ({labels}): they cannot be learned and lower every "
        "figure. Give training rows of these labels, or leave them out of the test."
    ]


def forecast_line(forecast: Forecast) -> str:
    """The forecast in a line."""
    stored = f", {forecast.stored_bytes / 1e9:.2f} GB more while training" if forecast.stored_bytes else ""
    return (
        f"Forecast ({forecast.basis}): {forecast.seconds / 60:.1f} minutes "
        f"({forecast.training_seconds / 60:.1f} training), {forecast.memory_bytes / 1e9:.1f} GB of memory, "
        f"{forecast.disk_bytes / 1e9:.2f} GB of disk{stored}."
    )
