"""One file a row, in the order of the table."""

from __future__ import annotations

from importlib import import_module

from benchmarks.table.row import Row

ORDER = (
    "lora_sft",
    "matrix_floor",
    "matrix_floor_bf16",
    "full_sft",
    "first_step",
    "competing_process",
    "processes",
    "closed_set",
    "generation",
)


def everything() -> list[Row]:
    """All rows: those of this folder, then those that are scripts of their own."""
    from benchmarks.table.scripts import rows_of_scripts

    return [*(import_module(f"{__name__}.{name}").ROW for name in ORDER), *rows_of_scripts()]
