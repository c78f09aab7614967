"""How long one waits: from the command to the end of the first optimiser step, and for help."""

from benchmarks.table.row import Figure, Result, Row, Side, of_side, ratio
from benchmarks.table.rows._training import ours, trl

PEER = trl("lora", "defaults", "--raw", "--steps", "1")
BEST = trl("lora", "fp32-single", "--raw", "--steps", "1")
HELP = Side("help", "benchmarks.ours.help")


def _first(result: Result) -> float:
    return float(result["first_step_seconds"])


ROW = Row(
    name="first_step",
    what="Seconds from the start of the process to the end of the first step of lora_sft, rows read and encoded "
    "by each side; our dry step aside.",
    sides=(PEER, BEST, ours("lora", "tunewright", "--steps", "1"), HELP),
    figures=(
        Figure("time over TRL defaults", ratio("tunewright", PEER.name, _first), 1 / 3, at_most=True),
        Figure("time over best TRL", ratio("tunewright", BEST.name, _first)),
        Figure("seconds, tunewright", of_side("tunewright", _first)),
        Figure("seconds, best TRL", of_side(BEST.name, _first)),
        Figure("seconds of --help", of_side("help", lambda result: float(result["seconds"])), 0.3, at_most=True),
    ),
)
