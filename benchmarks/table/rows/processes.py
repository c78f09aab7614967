"""What a second process brings: two of one thread each beside one of two, on the same rows."""

from benchmarks.table.row import Figure, Row, of_side, ratio
from benchmarks.table.rows._training import loss_gap, ours, tokens_per_second

ONE, TWO = ours("lora", "one process"), ours("lora", "two processes", "--processes", "2")

ROW = Row(
    name="processes",
    what="lora_sft by us in one process, and in two that share the threads; each holds the model.",
    sides=(ONE, TWO),
    options=("BENCH_STEPS",),
    figures=(
        Figure("speed over one process", ratio(TWO.name, ONE.name, tokens_per_second)),
        Figure("tokens/s, one process", of_side(ONE.name, tokens_per_second)),
        Figure("tokens/s, two processes", of_side(TWO.name, tokens_per_second)),
        Figure("loss: largest difference of a step, nats", loss_gap(TWO.name, ONE.name)),
    ),
)
