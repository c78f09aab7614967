"""Free answers against `model.generate`."""

from benchmarks.table.row import Figure, Result, Round, Row, Side, each, of_side, ratio

PEER = Side("model.generate", "benchmarks.peers.generate", peer=True)
SORTED = Side("model.generate, by length", "benchmarks.peers.generate", ("by_length",), peer=True)
OURS = Side("tunewright", "benchmarks.ours.generate")


def _seconds(result: Result) -> float:
    return float(result["seconds"])


def _same(one: Round) -> float:
    """Share of answers that are the same text."""
    ours, theirs = one["tunewright"]["texts"], one[PEER.name]["texts"]
    return float(sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(theirs))


ROW = Row(
    name="generation",
    what="Greedy answers of at most 64 tokens to 32 questions of about 60 to 540 tokens, eight at a time, "
    "float32; by the peer as they come, and again with those of like length together, which saves it padding.",
    sides=(PEER, SORTED, OURS),
    figures=(
        Figure("speed over model.generate", ratio(PEER.name, "tunewright", _seconds), 1.3),
        Figure("speed over it with prompts by length", ratio(SORTED.name, "tunewright", _seconds), 1.3),
        Figure("share of equal answers", each(_same)),
        Figure("seconds, tunewright", of_side("tunewright", _seconds)),
        Figure("seconds, model.generate", of_side(PEER.name, _seconds)),
    ),
)
