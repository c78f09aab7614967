"""Rows of one running text, each of which foresees one more answer, as one row with several answers to learn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tunewright.core.records import Example, Turn
from tunewright.data.sequences import OnDemand


def folded(examples: Sequence[Example]) -> Sequence[Example]:
    """The same learning in fewer tokens: what several rows begin with stands, and is computed, once.

    A row whose context and answer are the beginning of a longer row's context lends its weight to the answer that
    stands there, so the losses of all rows are those of the longer row, token by token. Rows of conversations, and
    rows that no other continues, stay as they are.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        if not example.running or not example.answers:
            return examples
        groups[example.unit or f"\0{number}"].append(number)
    return _Folded(examples, [rows for group in groups.values() for rows in _chains(examples, group)])


def members(rows: Sequence[Example], place: int) -> Sequence[int]:
    """The numbers of the rows that the one at a place was folded from; its own where nothing was folded."""
    return rows.chains[place] if isinstance(rows, _Folded) else (place,)


class _Folded(OnDemand[Example]):
    """Chains of rows, each made one row when it is read."""

    def __init__(self, examples: Sequence[Example], chains: Sequence[Sequence[int]]) -> None:
        self._examples, self.chains = examples, chains

    def __len__(self) -> int:
        return len(self.chains)

    def at(self, place: int) -> Example:
        """The longest row of a chain with the weights of the others."""
        *others, longest = (self._examples[number] for number in self.chains[place])
        context: list[Turn] = list(longest.context)
        for other in others:
            context[len(other.context)] = replace(context[len(other.context)], weight=other.answer.weight)
        return replace(longest, context=tuple(context))


def _chains(examples: Sequence[Example], group: Sequence[int]) -> list[list[int]]:
    """The rows of one unit as chains in which each continues the one before."""
    chains: list[list[int]] = []
    for number in sorted(group, key=lambda row: len(examples[row].context)):
        example = examples[number]
        for chain in chains:
            if _continues(example, examples[chain[-1]]):
                chain.append(number)
                break
        else:
            chains.append([number])
    return chains


def _continues(longer: Example, shorter: Example) -> bool:
    """Whether the shorter row, with its answer, is the beginning of the longer one's context, and as much is known."""
    length = len(shorter.context)
    if len(longer.context) <= length or longer.context[length].role != "assistant":
        return False
    if longer.context[0].extra.get("facts") != shorter.context[0].extra.get("facts"):
        return False  # facts that the text does not state (`demographics: false`) still reach the baselines
    said = longer.context[length].extra.get("title")
    return said == shorter.answer.text and longer.prompt_text.startswith(shorter.prompt_text)
