"""Closer looks at answers that are there already: by subgroup, and where the tuned model does worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tunewright.core.blocks import Block, dumped
from tunewright.core.store import Run
from tunewright.evaluate.compare import Answered, How
from tunewright.evaluate.contracts import Metric
from tunewright.evaluate.error_slices import error_blocks, error_sentences, find_error_slices
from tunewright.evaluate.slices import slice_blocks, slice_figures, slice_sentences, slice_tables


def closer_looks(run: Run, answered: Answered, how: How, private: bool) -> list[str]:
    """Writes `evaluations/slices.json` and `evaluations/error_slices.json`; returns sentences to print.

    Words and units of single rows are no business of a report on a private run: there only subgroups are looked at.
    """
    sentences: list[str] = []
    tables = slice_tables(answered, how)
    if tables:
        sentences += slice_sentences(tables)
        _write(run, "slices", slice_figures(tables), slice_blocks(tables))
    else:
        (run.evaluations / "slices.json").unlink(missing_ok=True)
    looked_at = _looked_at(answered, how)
    if looked_at is None or private:
        (run.evaluations / "error_slices.json").unlink(missing_ok=True)
    else:
        looked = find_error_slices(answered.tuned, looked_at, answered.labels, how.seed)
        sentences += error_sentences(looked)
        _write(run, "error_slices", asdict(looked), error_blocks(looked))
    return sentences


def _looked_at(answered: Answered, how: How) -> Metric | None:
    """The first primary metric that single rows have a figure of, else another such one, else the first primary one."""
    primary = [metric for metric in answered.metrics if how.decides(metric)]
    others = [metric for metric in answered.metrics if metric not in primary and metric.needs != "text"]
    return next((metric for metric in (*primary, *others) if metric.of_rows), primary[0]) if primary else None


def _write(run: Run, name: str, figures: Any, blocks: Sequence[Block]) -> None:
    run.write(f"evaluations/{name}.json", {"figures": figures, "blocks": dumped(blocks)})
