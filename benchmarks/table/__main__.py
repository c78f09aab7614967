"""`python -m benchmarks.table [ROW ...]`: measures the rows (all, unless named) and writes benchmarks/results.md.

A name may also be that of a script that only prints (`scripts.PLAIN`); all of them run when no row is named.
BENCH_RUNS rounds a row (5), BENCH_STEPS training steps (4), BENCH_PAIRS pairs of the scoring peer (500).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import yaml

from benchmarks.table import figures, machine, render, runner
from benchmarks.table.child import MOST_STEPS, ROOT, steps
from benchmarks.table.row import Row
from benchmarks.table.rows import everything
from benchmarks.table.scripts import PLAIN, is_there

RESULTS, REASONS = ROOT / "benchmarks" / "results.json", ROOT / "benchmarks" / "reasons.yaml"
PAGE = RESULTS.with_suffix(".md")


def main(names: Sequence[str]) -> int:
    """Measures, then writes the page; a side that fails ends its row, and the rest goes on."""
    rows = {row.name: row for row in everything()}
    unknown = [name for name in names if name not in rows and name not in PLAIN]
    if unknown:
        known = ", ".join([*rows, *PLAIN])
        sys.stderr.write(f"There is no row {', '.join(unknown)}. Allowed: {known}, or none for all.\n")
        return 2
    if not 2 <= steps() <= MOST_STEPS:
        sys.stderr.write(f"BENCH_STEPS: found {steps()}; allowed are 2 to {MOST_STEPS}, one pass over the rows.\n")
        return 2
    subprocess.run([sys.executable, "-m", "benchmarks.ours.workload"], cwd=ROOT, check=True)
    failed = [row.name for row in rows.values() if (not names or row.name in names) and not measured(row)]
    failed += [name for name in PLAIN if (not names or name in names) and not printed(name)]
    write_results([*rows.values()])
    sys.stderr.write(f"The table is in {PAGE.relative_to(ROOT)}.\n")
    for name in failed:
        sys.stderr.write(f"FAILED: {name}\n")
    return 1 if failed else 0


def measured(row: Row) -> bool:
    """Runs what is missing of a row; false when a side failed."""
    if row.impossible or not is_there(row):
        return True
    rounds = int(os.environ.get("BENCH_RUNS", "5"))
    try:
        runner.measure(row, rounds, runner.Measurements.of(row.name), runner.fingerprint(), runner.told(row, rounds))
    except runner.ChildError as error:
        sys.stderr.write(f"{row.name}: {error}\n")
        return False
    return True


def printed(name: str) -> bool:
    """Runs a script that only prints."""
    sys.stderr.write(f"== {name}\n")
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT).returncode == 0


def write_results(rows: Sequence[Row]) -> None:
    """The page from all figures that stand: of each row the newest, from here or from elsewhere."""
    stand = figures.read(RESULTS)
    for row in rows:
        rounds, last = runner.Measurements.of(row.name).newest(row)
        if rounds and (row.name not in stand or last["at"] >= stand[row.name].at):
            stand[row.name] = figures.Measured.of(row, rounds, last, machine.describe())
    figures.write(RESULTS, stand)
    reasons = yaml.safe_load(REASONS.read_text(encoding="utf-8")) if REASONS.is_file() else {}
    PAGE.write_text(render.table(rows, stand, reasons or {}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
