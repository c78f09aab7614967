"""Full fine-tuning of the same rows."""

from benchmarks.table.row import Figure, Row, of_side, ratio
from benchmarks.table.rows._training import best_of_trl, loss_gap, ours, peak_gigabytes, tokens_per_second, trl

DEFAULTS, BEST = trl("full", "defaults"), trl("full", best_of_trl())

ROW = Row(
    name="full_sft",
    what="All weights of SmolLM2-135M trained on the rows of lora_sft.",
    sides=(DEFAULTS, BEST, ours("full")),
    options=("BENCH_STEPS",),
    figures=(
        Figure("speed over TRL defaults", ratio("tunewright", DEFAULTS.name, tokens_per_second), 3),
        Figure("speed over best TRL", ratio("tunewright", BEST.name, tokens_per_second)),
        Figure("peak memory over TRL defaults", ratio("tunewright", DEFAULTS.name, peak_gigabytes)),
        Figure("loss: largest difference of a step from best TRL, nats", loss_gap("tunewright", BEST.name)),
        Figure("tokens/s, tunewright", of_side("tunewright", tokens_per_second)),
        Figure("tokens/s, best TRL", of_side(BEST.name, tokens_per_second)),
    ),
)
