"""How long one waits: from the command to the end of the first optimiser step, and for help."""

from benchmarks.table.row import Figure, Result, Row, Side, of_side, ratio
from benchmarks.table.rows._training import best_of_trl, ours, trl

BEST = trl("lora", best_of_trl(), "--raw", "--steps", "1")
HELP = Side("help", "benchmarks.ours.help")


def _first(result: Result) -> float:
    return float(result["first_step_seconds"])


ROW = Row(
    name="first_step",
    what="Seconds from the start of the process to the end of the first step of lora_sft, rows read and encoded "
    "by each side, both as cold as they come: the dry step, which we take before a run and the peer does not, is left "
    "out. The peer is the fastest configuration of TRL: its defaults take longer.",
    sides=(BEST, ours("lora", "tunewright", "--steps", "1", "--cold"), HELP),
    figures=(
        Figure("cold time over best TRL", ratio("tunewright", BEST.name, _first), 1 / 3, at_most=True),
        Figure("cold seconds, tunewright", of_side("tunewright", _first)),
        Figure("seconds, best TRL", of_side(BEST.name, _first)),
        Figure("seconds of --help", of_side("help", lambda result: float(result["seconds"])), 0.3, at_most=True),
    ),
)
