"""What is left of our speed when another program keeps one core busy."""

from benchmarks.table.row import Figure, Row, of_side, ratio
from benchmarks.table.rows._training import ours, tokens_per_second

QUIET, BUSY = ours("lora", "quiet"), ours("lora", "one core busy", "--busy")

ROW = Row(
    name="competing_process",
    what="lora_sft by us alone, and beside an endless loop pinned to one core; the same thread count.",
    sides=(QUIET, BUSY),
    options=("BENCH_STEPS",),
    figures=(
        Figure("speed over quiet speed", ratio(BUSY.name, QUIET.name, tokens_per_second), 0.5),
        Figure("tokens/s, quiet", of_side(QUIET.name, tokens_per_second)),
        Figure("tokens/s, one core busy", of_side(BUSY.name, tokens_per_second)),
    ),
)
