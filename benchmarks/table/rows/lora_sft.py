"""LoRA on chat rows of mixed length, against TRL's defaults and the best of its configurations on this machine."""

from benchmarks.table.row import Figure, Row, of_side, ratio
from benchmarks.table.rows._training import (
    best_of_trl,
    gap_over_noise,
    loss_gap,
    loss_noise,
    ours,
    peak_gigabytes,
    tokens_per_second,
    trl,
)

DEFAULTS, BEST = trl("lora", "defaults"), trl("lora", best_of_trl())

ROW = Row(
    name="lora_sft",
    what="LoRA, r=16 on all linear layers of SmolLM2-135M, 8 conversations a step of 43 to 923 tokens (log-uniform), "
    "loss on answers; BENCH_STEPS optimiser steps (4), the first left out of the rates. Each round both sides draw "
    "other adapters; TRL's own noise is the largest difference of two of its runs.",
    sides=(DEFAULTS, BEST, ours("lora")),
    options=("BENCH_STEPS",),
    figures=(
        Figure("speed over TRL defaults", ratio("tunewright", DEFAULTS.name, tokens_per_second), 8),
        Figure("speed over best TRL", ratio("tunewright", BEST.name, tokens_per_second), 2.5),
        Figure(
            "peak memory over TRL defaults", ratio("tunewright", DEFAULTS.name, peak_gigabytes), 1 / 3, at_most=True
        ),
        Figure("peak memory over best TRL", ratio("tunewright", BEST.name, peak_gigabytes)),
        Figure("loss: largest difference of a step from best TRL, nats", loss_gap("tunewright", BEST.name)),
        Figure("loss: the same between two runs of TRL, nats", loss_noise(BEST.name)),
        Figure("loss gap over TRL's own noise", gap_over_noise("tunewright", BEST.name), 1, at_most=True),
        Figure("tokens/s, tunewright", of_side("tunewright", tokens_per_second)),
        Figure("tokens/s, best TRL", of_side(BEST.name, tokens_per_second)),
        Figure("tokens/s, TRL defaults", of_side(DEFAULTS.name, tokens_per_second)),
        Figure("peak GB, tunewright", of_side("tunewright", peak_gigabytes)),
        Figure("peak GB, TRL defaults", of_side(DEFAULTS.name, peak_gigabytes)),
    ),
)
