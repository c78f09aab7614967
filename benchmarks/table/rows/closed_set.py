"""Exact scores of a closed answer set against lm-evaluation-harness."""

from benchmarks.table.row import Figure, Result, Round, Row, Side, each, of_side, ratio

PEER = Side("lm-eval", "benchmarks.peers.lm_eval_score", ("1",), peer=True)
BATCHED = Side("lm-eval batch 16", "benchmarks.peers.lm_eval_score", ("16",), peer=True)
WHOLE = Side("lm-eval, a whole context", "benchmarks.peers.lm_eval_score", ("1", "whole"), peer=True)
OURS = Side("tunewright", "benchmarks.ours.score")


def _seconds(result: Result) -> float:
    return float(result["seconds_per_pair"])


def _tokens(result: Result) -> float:
    return float(result["tokens_per_pair"])


def _share(one: Round) -> float:
    """The ratio of times over the ratio of the tokens that must be computed."""
    times, tokens = (of(one[PEER.name]) / of(one["tunewright"]) for of in (_seconds, _tokens))
    return times / tokens


def _gap(one: Round) -> float:
    """Largest difference of a log-probability between the two, over the pairs that the peer scored."""
    ours = one["tunewright"]["scores"]
    return float(max(abs(ours[i][j] - score) for i, j, score in one[PEER.name]["scores"]))


ROW = Row(
    name="closed_set",
    what="20 contexts of 200 to 400 tokens x 300 titles of 1 to 6 tokens, float32, by us whole; by "
    "lm-evaluation-harness BENCH_PAIRS random pairs (500), one at a time (its default) and 16 at a time, and one "
    "context with all titles. Time a pair.",
    sides=(PEER, BATCHED, WHOLE, OURS),
    options=("BENCH_PAIRS",),
    figures=(
        Figure("speed over lm-eval", ratio(PEER.name, "tunewright", _seconds), 15),
        Figure("speed over lm-eval, batch 16", ratio(BATCHED.name, "tunewright", _seconds), 15),
        Figure("speed over lm-eval, a whole context", ratio(WHOLE.name, "tunewright", _seconds), 15),
        Figure("share of the ratio of tokens", each(_share), 0.5),
        Figure("ratio of tokens", ratio(PEER.name, "tunewright", _tokens)),
        Figure("ms a pair, tunewright", of_side("tunewright", lambda result: 1e3 * _seconds(result))),
        Figure("ms a pair, lm-eval", of_side(PEER.name, lambda result: 1e3 * _seconds(result))),
        Figure("largest difference of a log-probability", each(_gap), 1e-3, at_most=True),
    ),
)
