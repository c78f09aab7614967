"""Look at these rows: largest loss, contradictions, suspected wrong labels."""

from __future__ import annotations

from heapq import nlargest

from tunewright.core.blocks import Block, Table
from tunewright.core.store import Run, each_event
from tunewright.evaluate.suspects import find_suspects
from tunewright.pipeline.prepare import Prepared

_MOST = 12
_TEXT = 160


def row_blocks(prepared: Prepared, run: Run) -> list[Block]:
    """Tables of training rows worth a look."""
    if prepared.encode.around:
        return []  # what a person does next is no label that could be wrong, and a loss there is of a whole career
    blocks: list[Block] = [*_largest_loss(prepared, run)]
    if "text" not in prepared.model.family.capabilities:
        return blocks  # suspects are found by the words of the rows
    suspects = find_suspects(prepared.dataset.train, prepared.dataset.labels or (), prepared.settings.seed)
    found, note = suspects.rows, suspects.note
    if found:
        blocks.append(
            Table(
                title="Suspected wrong labels",
                section="rows",
                note="A simple classifier that was not shown the row is sure of another label. Look before you change.",
                columns=["row", "text", "given", "suspected", "how sure"],
                rows=[
                    [s.source, _excerpt(prepared, s.text), s.given, s.suspected, round(s.probability, 3)]
                    for s in found[:_MOST]
                ],
            )
        )
    elif note and prepared.dataset.labels:
        blocks.append(Table(title="Suspected wrong labels", section="rows", note=note, columns=["row"], rows=[]))
    return blocks


def _largest_loss(prepared: Prepared, run: Run) -> list[Block]:
    """Rows that still cost most when they were last seen in training."""
    last: dict[str, float] = {}
    for event in each_event(run, "step"):
        for name, total, count in event["rows"]:
            if count:
                last[name] = total / count
    hardest = nlargest(_MOST, last, key=last.__getitem__)
    examples = {row.id: row for row in prepared.dataset.train if row.id in hardest}
    hardest = [name for name in hardest if name in examples]
    if not hardest:
        return []
    return [
        Table(
            title="Rows with the largest loss",
            section="rows",
            note="Nats a trained token when last seen: often a wrong label, a rare class or an unclear text.",
            columns=["row", "text", "answer", "loss"],
            rows=[
                [
                    examples[n].source,
                    _excerpt(prepared, examples[n].prompt_text),
                    examples[n].answer.text[:_TEXT],
                    round(last[n], 3),
                ]
                for n in hardest
            ],
        )
    ]


def _excerpt(prepared: Prepared, text: str) -> str:
    """How a row's own text begins: behind the instruction that all rows share."""
    own = text.removeprefix(prepared.settings.data.instruction).strip()
    return own if len(own) <= _TEXT else f"{own[:_TEXT]} …"
