"""What is found in the rows themselves: closed answer sets, repeated ids, duplicates, contradictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from tunewright.core.errors import UserError
from tunewright.core.records import Example, text_part
from tunewright.data.duplicates import Groups, Identities, contradictions, normal
from tunewright.data.formats import HIDDEN, counted, shown
from tunewright.data.identifiers import redact
from tunewright.data.kept import KeptRows
from tunewright.data.keys import Keys, Numbers, firsts, repeats, text_keys
from tunewright.data.readers import Bad
from tunewright.data.spelling import whole

MOST_LABELS, LONGEST_LABEL, LEAST_SEEN = 200, 12, 3
"""Answers of prompt and completion rows are a closed set when at most 200 differ, none is longer than 12 words,
and each is seen three times on average."""
_LISTED = 50


def closed_set(
    examples: Sequence[Example], format_name: str, beside: Iterable[str | None] = ()
) -> tuple[str, ...] | None:
    """The sorted labels when every answer is one of a closed set, else None.

    Answers `beside`, of rows that nothing is asked of, are labels too: a title may stand in first records alone. Of
    private rows only what the format calls labels: a set that is merely noticed could hold one person's own answer.

    Raises:
        UserError: All rows are labelled, with one label.
    """
    if not examples:
        return None
    if all(example.label for example in examples):
        labels = sorted({example.answer.text for example in examples} | {answer for answer in beside if answer})
        if len(labels) == 1:
            raise _one_label(labels[0], len(examples))
        return tuple(labels)
    if format_name not in ("completion", "question") or HIDDEN.get():
        return None
    answers: set[str] = set()
    most = min(MOST_LABELS, len(examples) // LEAST_SEEN)
    for example in examples:
        answers.add(example.answer.text)
        if len(answers) > most or example.answer.extra or example.tools:
            return None
    # One answer for all rows is no choice, so there is nothing to classify.
    short = all(len(answer.split()) <= LONGEST_LABEL for answer in answers)
    return tuple(sorted(answers)) if len(answers) >= 2 and short else None


def repeated_ids(examples: Sequence[Example], files: Sequence[str], lines: Sequence[int]) -> list[Bad]:
    """Rows whose id already stands above in the same file."""
    keys = text_keys(f"{file}\0{e.id}" if e.id else None for e, file in zip(examples, files, strict=True))
    first = firsts(keys)
    bad = []
    for row in np.flatnonzero(first != np.arange(len(first))).tolist():
        found = f"{shown(examples[row].id)}, which is also the id of line {lines[first[row]]}"
        mend = "give the row its own id, or delete the column"
        bad.append(Bad(files[row], lines[row], "id", found, "each id once", mend))
    return bad


def named(examples: KeptRows[Example], rows: Identities) -> KeptRows[Example]:
    """Gives every row an id that is unique: the user's, with the file in front when two files share ids, else from
    the content, so that it does not depend on the order of rows."""
    given = text_keys(example.id for example in examples)
    shared = bool((firsts(given) != np.arange(len(given))).any())
    content = np.zeros(len(examples.file), np.uint64)
    content[examples.numbers] = rows.content
    above = np.zeros(len(examples.file), np.int32)

    def rename(number: int, example: Example) -> Example:
        name = example.id or f"{content[number]:016x}"
        if example.id and shared:
            name = f"{example.source.rsplit(':', 1)[0].rsplit('.', 1)[0]}/{name}"
        return replace(example, id=f"{name}-{above[number] + 1}" if above[number] else name)

    found = examples.change(rename)
    above[examples.numbers] = repeats(text_keys(example.id for example in found))
    return found


def duplicate_facts(examples: Sequence[Example], rows: Identities, near: Groups, coverage: float) -> dict[str, Any]:
    """Counts of repeated rows, and the first groups by source; `coverage` is the share of rows that was searched."""
    groups = near.members()
    nearly = sum(len(np.unique(rows.pair[group])) - 1 for group in groups.several())
    return {
        "duplicates": {"exact": len(rows) - len(np.unique(rows.pair)), "near": nearly, "coverage": coverage},
        "duplicate_rows": [
            ", ".join(examples[i].source for i in group[:10]) for group in islice(groups.several(), _LISTED)
        ],
    }


def contradiction_facts(examples: Sequence[Example], rows: Identities) -> dict[str, Any]:
    """Prompts that are answered in several ways; no fault where many answers are right, noise where one is."""
    found = contradictions(rows)
    listed = [
        {
            "prompt": redact(examples[group[0]].prompt_text)[:200],
            "rows": ", ".join(examples[i].source for i in group[:10]),
            "answers": " | ".join(sorted({redact(examples[i].answer.text)[:100] for i in group})[:10]),
        }
        for group in found[:_LISTED]
    ]
    return {
        "contradictions": len(found),
        "contradicting_rows": sum(map(len, found)),
        "contradiction_rows": listed,
    }


def labelled(examples: KeptRows[Example], labels: Sequence[str]) -> tuple[KeptRows[Example], tuple[str, ...] | None]:
    """The examples as those of a closed set, and the set, in which `1.0` is 1 where both are written.

    A set that was merely noticed, and is one label then, is none.

    Raises:
        UserError: One label is left.
    """
    same = {label: whole(label) for label in labels if whole(label) != label and whole(label) in labels}

    def changed(_: int, example: Example) -> Example:
        answer = example.answer
        if answer.text not in same:
            return replace(example, label=True)
        renamed = replace(answer, parts=(text_part(same[answer.text]),))
        answers = tuple(renamed if one is answer else one for one in example.answers)
        return replace(example, answers=answers, label=True)

    left = tuple(label for label in labels if label not in same)
    if len(left) == 1:
        if not all(example.label for example in examples):
            return examples, None
        raise _one_label(left[0], len(examples))
    return examples.change(changed), left


def _one_label(label: str, rows: int) -> UserError:
    return UserError(
        f"Found one label, {shown(label)}, in {counted(rows, 'row')}; expected at least two. "
        "Give rows of another label, or map another column: --map label=YOUR_COLUMN."
    )


def labels_alike(labels: Sequence[str]) -> list[str]:
    """Labels that differ in case, punctuation or space alone: `Yes | yes `, often one label written twice."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(normal(label), []).append(label)
    return [" | ".join(group) for group in alike.values() if len(group) > 1]


def label_facts(labels: Sequence[str] | None, splits: Mapping[str, Iterable[Example]]) -> dict[str, Any]:
    """How often each label occurs, and which are tested without having been trained on."""
    if not labels:
        return {
            "label_counts": None, "labels_unseen_in_train": [], "test_rows_of_unseen_labels": 0,
            "valid_rows_of_unseen_labels": 0,
        }  # fmt: skip
    found = {name: Counter(row.answer.text for row in rows) for name, rows in splits.items()}
    unseen = sorted(found["test"].keys() - found["train"].keys())
    return {
        "label_counts": dict(sorted(sum(found.values(), Counter[str]()).items())),
        "labels_unseen_in_train": unseen,
        "test_rows_of_unseen_labels": sum(found["test"][label] for label in unseen),
        "valid_rows_of_unseen_labels": sum(
            found["valid"][label] for label in found["valid"].keys() - found["train"].keys()
        ),
    }


def counts(members: Mapping[str, Numbers], rows: Identities) -> dict[str, dict[str, int]]:
    """Rows and units of each split; a row without a unit counts for itself."""
    return {
        "counts": {name: len(group) for name, group in members.items()},
        "units": {name: _units(rows.unit[group]) for name, group in members.items()},
    }


def _units(keys: Keys) -> int:
    return len(np.unique(keys[keys != 0])) + int((keys == 0).sum())
