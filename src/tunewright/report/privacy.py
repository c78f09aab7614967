"""What a private run promises, in figures and in one paragraph that a privacy officer can sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.core.blocks import Block, Cell, Table, Text
from tunewright.core.words import decimals, rounded_up

Json = Mapping[str, Any]


def privacy_blocks(
    found: Json | None, keys: Sequence[str] = (), twin: Json | None = None, control_there: bool = False
) -> list[Block]:
    """The guarantee as a paragraph and a table; nothing for a run without privacy.

    Args:
        found: The content of privacy.json.
        keys: Folders of checkpoints that are left, in which the key of a noise over these rows lies.
        twin: The same of a twin with canaries, if one was trained on the same rows.
        control_there: Whether a killed audit left a twin that was trained on them without privacy.
    """
    if not found:
        return []
    if not found["private"]:
        warning = f"This run is NOT private: {found['why_not']}. Its noise protects nobody; use it for tests alone."
        return [Text(title="Privacy", section="privacy", tone="bad", paragraphs=[warning]), _table(found)]
    paragraphs = [
        *_paragraphs(found, _KEY_THERE.format(" and ".join(keys)) if keys else _KEY_GONE),
        *_of_both(found, twin),
    ]
    paragraphs = [_CONTROL_THERE, *paragraphs] if control_there else paragraphs
    tone = "bad" if keys or control_there else "plain"
    text = Text(title="Privacy", section="privacy", tone=tone, paragraphs=paragraphs)
    return [text, _table(found)]


_KEY_GONE = "and was deleted with the checkpoints."
_KEY_THERE = (
    "and is STILL THERE, in {}: whoever has it can take the noise away. Nothing is promised until that is deleted, "
    "which `tunewright resume` does."
)

_CONTROL_THERE = (
    "children/control holds a twin that was trained WITHOUT privacy on the same rows: an audit needs it right now, "
    "or one that was killed left it. Nothing is promised until that folder is deleted, which `tunewright evaluate` and "
    "`tunewright audit` do."
)


def _of_both(found: Json, twin: Json | None) -> list[str]:
    if twin is None:
        return []
    epsilon = rounded_up(found["epsilon"]["prv"] + twin["epsilon"]["prv"], 3)
    return [
        "For the audit a twin with canaries was trained on the same rows (children/audited). The promise above is for "
        "whoever gets one of the two models. Who gets both, or figures made from both, is promised "
        f"({epsilon:.3g}, "
        f"{rounded_up(found['delta'] + twin['delta'], 2):.1e})."
    ]


def _who(found: Json) -> str:
    return "row" if found["unit"] == "row" else f"unit (column {found['unit']})"


def _units(found: Json) -> str:
    made_up = found.get("made_up_units", 0)
    beside = f" (beside {decimals(made_up, 0)} made-up ones)" if made_up else ""
    return f"{decimals(found['units'] - made_up, 0)} in the training rows{beside}"


def _paragraphs(found: Json, key: str) -> list[str]:
    epsilon, who = f"{rounded_up(found['epsilon']['prv'], 3):.3g}", _who(found)
    delta = f"{rounded_up(found['delta'], 2):.1e}"
    units, steps = _units(found), decimals(found["steps"], 0)
    return [
        f"The trained weights were computed with ({epsilon}, {delta})-differential privacy for every {who} of "
        f"the {units}, under adding or removing one. Whatever anybody does with the model, and "
        f"whatever else they know, the chance of any outcome changes by no more than a factor of e^{epsilon}, up "
        f"to {delta}, by whether one of them was in the training rows or not. It holds because in each of {steps} "
        f"steps every {who} came by its own coin (rate {found['q']:.4g}), could add no more than a fixed amount, and "
        f"Gaussian noise of {found['sigma']:.3g} times that amount was added before the weights moved. Epsilon was "
        f"computed by {found['accountant']}.",
        "The promise covers the model's weights, given the split and the rows taken for training (which rows stand "
        "together, are dropped as overlaps or taken up to a limit depends on all rows). It does not cover: figures on "
        "validation and test rows (exact, of rows that were not trained on); the number of rows and of units, the rows "
        "of a unit on average, the sampling rate, the set of labels, and what is seen of all rows at once: their "
        "format, the recipe for them, whether answers begin as the template opens them (taken as public); what an "
        "audit measured on the rows themselves or by a control without privacy; what was learnt from other runs on "
        "the same rows (each adds its own epsilon; settings chosen by looking at such runs are not accounted for); "
        "people whose data stands in rows of others; that training stopped because a row's loss or gradient was no "
        "number, or because it reached no trained weight, if it did; how long training took and how much memory it "
        f"held (told in two digits). That the base model had seen none of these rows is taken as given{_base(found)}. "
        f"Noise is drawn in 32-bit numbers by a keyed generator; the key came from the operating system {key}",
    ]


def _base(found: Json) -> str:
    name = found.get("base_run")
    return f"; it is the result of the run {name}, whose rows are not covered by this promise" if name else ""


def _table(found: Json) -> Table:
    epsilon = found["epsilon"]
    clip = "every gradient brought to about 1" if found["clip"] == "automatic" else f"norm at most {found['clip']:g}"
    rows: list[list[Cell]] = [
        ["Protected", f"each {_who(found)}; {_units(found)}"],
        ["Epsilon (PRV, claimed)", rounded_up(epsilon["prv"], 5)],
        ["Epsilon (RDP, cross-check)", rounded_up(epsilon["rdp"], 5)],
        ["Epsilon asked for", found["target_epsilon"]],
        ["Delta", f"{rounded_up(found['delta'], 3):.3g}"],
        ["Noise multiplier (sigma)", round(found["sigma"], 4)],
        ["Sampling rate (q)", round(found["q"], 6)],
        ["Steps (T)", found["steps"]],
        ["Sampler", f"Poisson over units, {found['expected_units']:.3g} a step on average"],
        ["Rows of a unit in one step", f"at most {found['rows_per_unit']}"],
        ["Clipping", f"flat over all trained weights; {clip}"],
        ["Share of clipped gradients", "withheld (it is a statistic of private rows)"],
        ["Trained coordinates", found["trained"]],
        ["Accountant", found["accountant"]],
    ]
    return Table(title="The guarantee in figures", section="privacy", columns=["what", "value"], rows=rows)
