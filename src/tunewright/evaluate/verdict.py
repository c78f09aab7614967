"""The verdict: better, worse, mixed or cannot tell, from the primary metrics alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from tunewright.evaluate.bootstrap import LEVEL, MIN_UNITS
from tunewright.evaluate.contracts import Comparison
from tunewright.evaluate.gates import Gate, remedy
from tunewright.evaluate.several import adjusted

_KEYS = (
    "name", "base", "tuned", "difference", "low", "high", "n", "unit", "higher_is_better", "smallest_detectable",
    "decision", "primary", "baselines",
)  # fmt: skip
_GATE_KEYS = ("name", "state", "value", "limit")
_WORDS = {"better": "better", "worse": "worse", "mixed": "mixed", "cannot_tell": "cannot tell"}


def judge(comparisons: Sequence[Comparison], gates: Sequence[Gate] = ()) -> dict[str, Any]:
    """The content of verdict.json.

    Better = at least one primary metric better and none worse; worse the other way round; mixed = both; else
    cannot_tell. Primary metrics are corrected together (`holm`); the decision of a comparison, which knows the
    trivial baselines, can only be withdrawn here.

    Returns:
        `verdict`, `metrics`, `gates` and `sentences`, in plain words, the first one being the verdict.
    """
    decided = holm(comparisons)
    primary = [comparison for comparison in decided if comparison.primary]
    decisions = {comparison.decision for comparison in primary}
    if {"better", "worse"} <= decisions:
        verdict = "mixed"
    else:
        verdict = next((word for word in ("better", "worse") if word in decisions), "cannot_tell")
    return {
        "verdict": verdict,
        "metrics": [{key: value for key, value in asdict(c).items() if key in _KEYS} for c in decided],
        "gates": [{name: getattr(gate, name) for name in _GATE_KEYS} for gate in gates],
        "sentences": [
            _headline(verdict, primary),
            *(sentence(comparison) for comparison in primary),
            *(_gate_sentence(gate) for gate in gates),
        ],
    }


def holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons, those primary ones undecided that do not survive Holm's correction (Holm 1979).

    Sorted by p, the i-th of m must lie at or below 5 % / (m - i); from the first that does not, none stands. A gain
    that must be one over the base and over each trivial answer has the largest of their p (Berger 1982).
    """
    primary = [i for i, comparison in enumerate(comparisons) if comparison.primary]
    against_base = adjusted([comparisons[i].p_value for i in primary])
    against_all = adjusted([max(comparisons[i].p_value, comparisons[i].p_unbeaten) for i in primary])
    decided, most = list(comparisons), 1 - LEVEL + 1e-12
    for index, base, joint in zip(primary, against_base, against_all, strict=True):
        if joint > most:
            unbeaten = comparisons[index].unbeaten if base <= most else ()
            decided[index] = replace(comparisons[index], decision="cannot_tell", unbeaten=unbeaten)
    return decided


def exit_code(verdict: Mapping[str, Any], require: Literal["better", "not_worse"] = "better") -> int:
    """0 when proven better and every gate of the verdict passed, else 3.

    `not_worse` also accepts a verdict of cannot_tell; a gate must pass all the same.
    """
    accepted = {"better"} if require == "better" else {"better", "cannot_tell"}
    passed = all(gate["state"] == "passed" for gate in verdict.get("gates", ()))
    return 0 if verdict["verdict"] in accepted and passed else 3


def sentence(comparison: Comparison) -> str:
    """One metric in plain words: what it was and is, how sure that is, and why nothing can be told if so."""
    c = comparison
    units = f"{c.n} {c.unit}{'' if c.n == 1 else 's'}"
    found = (
        f"{c.name}: {_WORDS[c.decision]}. Base {_figure(c.base)}, tuned {_figure(c.tuned)}, difference "
        f"{c.difference:+.3g} (95 % interval {c.low:+.3g} to {c.high:+.3g}, {units})."
    )
    return f"{found} {_why(c)}".rstrip()


def _why(c: Comparison) -> str:
    """Why nothing can be told; empty when something was."""
    if c.decision != "cannot_tell":
        return ""
    if c.n < MIN_UNITS:
        return f"At least {MIN_UNITS} {c.unit}s are needed for a decision: add test rows."
    if c.smallest_detectable is None:
        return (
            f"Nearly all of the figure hangs on a few {c.unit}s (one holds nearly all rows, or hardly one has what the "
            f"figure needs, such as one of the labels), which decides nothing: add rows of other {c.unit}s."
        )
    if c.p_value > 1 - LEVEL:
        return f"Differences below about {c.smallest_detectable:.2g} are found too rarely with so many {c.unit}s."
    if c.unbeaten:
        return (
            f"It is above the base, but not proven above the baseline {' and '.join(c.unbeaten)}: "
            "learning the form of the answer is no success."
        )
    return "It does not stand once all primary metrics are reckoned with."


def _headline(verdict: str, primary: Sequence[Comparison]) -> str:
    if not primary:
        return "Cannot tell: no primary metric was measured."
    names = ", ".join(comparison.name for comparison in primary)
    if verdict == "cannot_tell" and (unbeaten := [comparison.name for comparison in primary if comparison.unbeaten]):
        return (
            "The tuned model is better than the base on unseen rows, but not proven better than a trivial answer "
            f"({', '.join(unbeaten)})."
        )
    return {
        "better": f"The tuned model is better than the base on unseen rows ({names}).",
        "worse": f"The tuned model is worse than the base on unseen rows ({names}).",
        "mixed": f"The tuned model is better in one respect and worse in another ({names}).",
        "cannot_tell": f"Cannot tell with this many test rows whether the tuned model is better ({names}).",
    }[verdict]


def _gate_sentence(gate: Gate) -> str:
    words = {
        "passed": "passed",
        "failed": "failed",
        "cannot_tell": "cannot tell"
        + ("" if gate.at_ceiling else ": the limit lies inside the interval, or the units are too few"),
        "not_measured": "not measured",
    }[gate.state]
    bound = "" if gate.value is None else f" (bound {gate.value:.3g})"
    return f"Gate {gate.name}: {words}; limit {gate.limit:g}{bound}. {remedy(gate)}".rstrip()


def _figure(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"
