"""The verdict in plain words: figure, interval, how many rows, and what it means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tunewright.core.blocks import Bar, Bars, Block, Cell, Table, Text
from tunewright.core.words import ABSENT, figure, interval, meaning_of, name_of, plural, signed

Metric = Mapping[str, Any]
Tone = Literal["plain", "good", "bad", "unsure"]

_TITLES: dict[str, tuple[str, Tone]] = {
    "better": ("Better than the base model", "good"),
    "worse": ("Worse than the base model", "bad"),
    "mixed": ("Mixed: better in one way, worse in another", "unsure"),
    "cannot_tell": ("Cannot tell with this many rows", "unsure"),
    "unbeaten": ("Not proven better than a trivial answer", "unsure"),
}
_MEANING = {
    "better": "The gain is larger than chance explains on rows that were kept out of training.",
    "worse": "The harm is larger than chance explains. Keep using the base model, or change the data or the settings.",
    "mixed": "Decide which of these matters for your use before using the tuned model.",
    "cannot_tell": "The change seen here could be chance. This is neither a success nor a failure.",
    "unbeaten": "It answers better than the base model, but one answer to every row might do as well.",
}
_DECISIONS = {"better": "better", "worse": "worse", "cannot_tell": "cannot tell"}
_STATES = {"passed": "passed", "failed": "failed", "cannot_tell": "cannot tell", "not_measured": "not measured"}
FEW = 12
"""Fewer units decide nothing, whatever they show."""
GATES = "Gates"
_ATTACKS = "max_attack_success_increase"
_GUARDED = {"min_gain": "result", _ATTACKS: "safety", "max_covert_bias_increase": "bias"}
"""Gate -> its chapter; others are of what was forgotten."""
_TRIVIAL = frozenset({"majority", "prior", "uniform"})
_NO_RIVAL = frozenset({"oracle"})
"""The best that anybody could answer is no simpler answerer."""
_SHARES = frozenset({"accuracy", "exact_match"})


def headline(verdict: Mapping[str, Any] | None, trained: bool) -> Text:
    """The first thing a reader sees.

    Args:
        verdict: verdict.json, or None when evaluation has not ended.
        trained: Whether training has ended.
    """
    if verdict is None:
        stage = "Training has ended, but base and tuned have not been compared yet."
        said = [stage if trained else "Training has not ended yet.", "Nothing is proven about this model so far."]
        return Text(title="Not finished", tone="unsure", paragraphs=said)
    kind = str(verdict.get("verdict"))
    metrics = [metric for metric in verdict.get("metrics", []) if metric.get("primary")]
    if kind == "cannot_tell" and any(metric.get("unbeaten") for metric in metrics):
        kind = "unbeaten"
    title, tone = _TITLES.get(kind, (f"Verdict: {name_of(kind)}", "unsure"))
    paragraphs = [sentence(metric) for metric in metrics] or ["No primary metric was measured."]
    paragraphs.append(" ".join([_MEANING.get(kind, ""), *(explain(metric) for metric in metrics)]).strip())
    unmet = [gate for gate in verdict.get("gates", []) if gate.get("state") != "passed"]
    if unmet:
        told = "; ".join(f"{gate_name(gate)}: {_state(gate)}" for gate in unmet)
        paragraphs.append(f"Not every gate passed. {told}.")
        title = f"{title}, but a gate did not pass" if kind == "better" else title
        tone = "unsure" if tone == "good" else tone
    return Text(title=title, tone=tone, paragraphs=paragraphs)


def sentence(metric: Metric) -> str:
    """One metric: from, to, change, interval, n."""
    base, tuned, change = metric["base"], metric["tuned"], metric["difference"]
    what = f" ({meaning_of(metric['name'])})" if meaning_of(metric["name"]) else ""
    moved = "stayed at" if change == 0 else "rose" if change > 0 else "fell"
    values = figure(tuned) if change == 0 else f"from {figure(base)} to {figure(tuned)}"
    return (
        f"{name_of(metric['name'])}{what} {moved} {values} on {plural(metric['n'], metric.get('unit', 'row'))} "
        f"kept out of training: a change of {signed(change)}, 95 % interval {interval(metric['low'], metric['high'])}."
    )


def explain(metric: Metric) -> str:
    """What the change of one metric means for somebody who uses the model."""
    said = [_in_practice(metric)]
    if metric.get("decision") == "cannot_tell":
        said.append(_undecided(metric))
    said.append(_against_baselines(metric))
    return " ".join(part for part in said if part)


def _in_practice(metric: Metric) -> str:
    low, high, change = metric["low"], metric["high"], metric["difference"]
    if metric.get("decision") == "cannot_tell" or change == 0:
        return ""
    if metric["name"] in _SHARES:
        near, far = sorted((abs(low), abs(high)))
        word = "more" if change > 0 else "fewer"
        return (
            f"Of 100 rows like these, about {abs(change) * 100:.0f} {word} are answered rightly "
            f"({near * 100:.0f} to {far * 100:.0f})."
        )
    if metric["name"] == "nll":
        ratio = math.exp(min(max(-change, -50.0), 50.0))
        return f"A token of the right answer is on average {figure(ratio)} times as likely as before."
    return ""


def _undecided(metric: Metric) -> str:
    low, high, change, smallest = metric["low"], metric["high"], metric["difference"], metric.get("smallest_detectable")
    if metric["n"] < FEW:
        return f"So few decide nothing: at least {plural(FEW, metric.get('unit', 'row'))} are needed."
    if low > 0 or high < 0:
        return _withheld(metric, gain=(change > 0) == metric["higher_is_better"])
    if not smallest or not math.isfinite(smallest):
        unit = metric.get("unit", "row")
        return f"Nearly all of it hangs on a few {unit}s, which decides nothing: add rows of other {unit}s."
    said = f"With this test, a change of about {figure(smallest)} or more would have been found 8 times in 10."
    needed = metric["n"] * (smallest / change) ** 2 if change else math.inf
    if metric["n"] < needed < 1e6:
        digits = 10 ** max(len(str(int(needed))) - 2, 0)
        rows = plural(math.ceil(needed / digits) * digits, metric.get("unit", "row"))
        said += f" To prove a change as small as the one seen would take about {rows}."
    return said


def _withheld(metric: Metric, gain: bool) -> str:
    """Why a gain over the base model, or a loss, does not count."""
    unbeaten = [name_of(name).lower() for name in metric.get("unbeaten") or ()]
    if not unbeaten:
        direction = "right" if gain else "wrong"
        return (
            f"It moved in the {direction} direction, but this does not stand once all primary measures are reckoned "
            "with."
        )
    return (
        "It moved in the right direction against the base model, but is not proven better than "
        f"{' and '.join(unbeaten)}. So the gain may be no more than having learnt the form of the answer."
    )


def _against_baselines(metric: Metric) -> str:
    rivals = {
        n: v for n, v in (metric.get("baselines") or {}).items() if v is not None and n not in _TRIVIAL | _NO_RIVAL
    }
    better = [f"{name_of(name)}, {figure(value)}" for name, value in rivals.items() if _loses(metric, name)]
    level = [
        f"{name_of(name)}, {figure(value)}"
        for name, value in rivals.items()
        if not _beats(metric, name) and not _loses(metric, name)
    ]
    sentences = []
    if better:
        sentences.append(f"A simpler answerer is better than the tuned model on the same rows: {'; '.join(better)}.")
    if level:
        sentences.append(f"It is not proven better than a simpler answerer on the same rows: {'; '.join(level)}.")
    return " ".join(sentences)


def _beats(metric: Metric, name: str) -> bool:
    """Whether tuned beats a baseline: by the interval of their difference, or the points where there is none."""
    return min(_lead(metric, name)) > 0


def _loses(metric: Metric, name: str) -> bool:
    return max(_lead(metric, name)) < 0


def _lead(metric: Metric, name: str) -> list[float]:
    """Ends of the interval of what tuned is ahead by, or the one figure where there is no interval."""
    sign = 1 if metric["higher_is_better"] else -1
    margin = (metric.get("margins") or {}).get(name) or [metric["tuned"] - metric["baselines"][name]]
    return [sign * end for end in margin]


def result_blocks(verdict: Mapping[str, Any] | None, metrics: Sequence[Metric], drawn: bool) -> list[Block]:
    """Bars (unless evaluation drew its own), all metrics, and what the evaluation printed."""
    verdict = verdict or {}
    found: list[Block] = []
    if not drawn:
        found += [_bars(metric) for metric in metrics if metric.get("primary")]
    if metrics:
        found.append(_metrics_table(metrics))
        found += [_rivals_table(metric) for metric in metrics if metric.get("primary") and metric.get("margins")]
    if said := [str(sentence) for sentence in verdict.get("sentences", [])]:
        found.append(Text(title="The verdict as it was printed", section="more", paragraphs=said))
    return found


def _bars(metric: Metric) -> Bars:
    bars = [
        Bar(label=name_of("base"), value=metric["base"], role="base"),
        Bar(label=name_of("tuned"), value=metric["tuned"], role="tuned"),
        *(Bar(label=name_of(k), value=v) for k, v in (metric.get("baselines") or {}).items() if v is not None),
    ]
    return Bars(title=name_of(metric["name"]), section="result", bars=bars, note=_direction(metric))


def _direction(metric: Metric) -> str:
    what = meaning_of(metric["name"])
    better = "Higher is better." if metric["higher_is_better"] else "Lower is better."
    return f"{what[:1].upper()}{what[1:]}. {better}" if what else better


def _metrics_table(metrics: Sequence[Metric]) -> Table:
    columns = ["Measure", "Decision", "Base", "Tuned", "Change", "95 % interval", "n", "Detectable"]
    rows: list[list[Cell]] = []
    for metric in sorted(metrics, key=lambda one: not one.get("primary")):
        mark = " (primary)" if metric.get("primary") else ""
        arrow = "higher is better" if metric["higher_is_better"] else "lower is better"
        rows.append([
            f"{name_of(metric['name'])}{mark}, {arrow}", _DECISIONS.get(str(metric.get("decision")), ABSENT),
            figure(metric["base"]), figure(metric["tuned"]), signed(metric["difference"]),
            interval(metric["low"], metric["high"]), plural(metric["n"], metric.get("unit", "row")),
            figure(metric.get("smallest_detectable")),
        ])  # fmt: skip
    note = (
        "The verdict looks at primary measures alone. The interval is that of the change. Detectable: the smallest "
        "change that this test finds 8 times in 10."
    )
    return Table(title="Every measure", section="result", columns=columns, rows=rows, note=note)


def _rivals_table(metric: Metric) -> Table:
    """What cheaper means reach on the same rows, and by how much tuned is ahead."""
    rows: list[list[Cell]] = []
    for name, (low, high) in metric["margins"].items():
        word = "tuned is better" if _beats(metric, name) else "it is better" if _loses(metric, name) else "cannot tell"
        rows.append([name_of(name), figure(metric["baselines"].get(name)), interval(low, high), word])
    note = f"The interval is of tuned minus the other, row by row. {_direction(metric)}"
    columns = ["Answered by", name_of(metric["name"]), "Tuned minus it, 95 % interval", "Which is better"]
    return Table(title="Against other answerers", section="result", columns=columns, rows=rows, note=note)


def gate_blocks(gates: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Each gate stands in the chapter of what it guards."""
    note = "A gate looks at the bound of the interval, not at the point, so a lucky test does not pass it."
    found: list[Block] = []
    for section in dict.fromkeys((*_GUARDED.values(), "forgot")):
        rows: list[list[Cell]] = [
            [gate_name(gate), _state(gate), figure(gate.get("value")), figure(gate.get("limit"))]
            for gate in gates if _GUARDED.get(str(gate["name"]).partition(" ")[0], "forgot") == section
        ]  # fmt: skip
        if rows:
            columns = ["Gate", "State", "Bound", "Limit"]
            found.append(Table(title=GATES, section=section, columns=columns, rows=rows, note=note))
    return found


def gate_name(gate: Mapping[str, Any]) -> str:
    """A gate, as `min_gain (accuracy)`, in words."""
    name, _, metric = str(gate["name"]).removesuffix(")").partition(" (")
    return f"{name_of(name)} ({name_of(metric)})" if metric else name_of(name)


def _state(gate: Mapping[str, Any]) -> str:
    if gate["name"] == _ATTACKS and gate.get("state") == "cannot_tell" and gate["value"] <= gate["limit"]:
        return "cannot tell, as the base left no room for it to fail"
    return _STATES.get(str(gate.get("state")), str(gate.get("state")))
