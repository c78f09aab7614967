"""What is found in the rows themselves: closed answer sets, repeated ids, duplicates, contradictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.records import Example
from tunewright.data.duplicates import Groups, Identity, contradictions, normal
from tunewright.data.formats import counted
from tunewright.data.readers import Bad

MOST_LABELS, LONGEST_LABEL, LEAST_SEEN = 200, 12, 3
"""Answers of prompt and completion rows are a closed set when at most 200 differ, none is longer than 12 words,
and each is seen three times on average."""
_LISTED = 50


def closed_set(examples: Sequence[Example], format_name: str) -> tuple[str, ...] | None:
    """The sorted labels when every answer is one of a closed set, else None.

    Raises:
        UserError: All rows are labelled, with one label.
    """
    if not examples:
        return None
    if all(example.label for example in examples):
        labels = sorted({example.answer.text for example in examples})
        if len(labels) == 1:
            raise UserError(
                f"Found one label, {labels[0]!r}, in {counted(len(examples), 'row')}; expected at least two. "
                "Give rows of another label, or map another column: --map label=YOUR_COLUMN."
            )
        return tuple(labels)
    if format_name not in ("completion", "question"):
        return None
    answers = Counter(example.answer.text for example in examples)
    # One answer for all rows is no choice, so there is nothing to classify.
    few = 2 <= len(answers) <= min(MOST_LABELS, len(examples) // LEAST_SEEN)
    short = all(len(answer.split()) <= LONGEST_LABEL for answer in answers)
    plain = all(not example.answer.extra and not example.tools for example in examples)
    return tuple(sorted(answers)) if few and short and plain else None


def repeated_ids(examples: Sequence[Example], files: Sequence[str], lines: Sequence[int]) -> list[Bad]:
    """Rows whose id already stands above in the same file."""
    first: dict[tuple[str, str], int] = {}
    bad = []
    for example, file, line in zip(examples, files, lines, strict=True):
        if example.id and (seen := first.setdefault((file, example.id), line)) != line:
            found = f"'{example.id}', which is also the id of line {seen}"
            bad.append(Bad(file, line, "id", found, "each id once", "give the row its own id, or delete the column"))
    return bad


def named(examples: Sequence[Example], files: Sequence[str], identities: Sequence[Identity]) -> list[Example]:
    """Gives every row an id that is unique: the user's, with the file in front when two files share ids, else from
    the content, so that it does not depend on the order of rows."""
    given = Counter(example.id for example in examples if example.id)
    shared = any(count > 1 for count in given.values())
    taken: Counter[str] = Counter()
    result = []
    for example, file, identity in zip(examples, files, identities, strict=True):
        name = example.id or identity.content
        if example.id and shared:
            name = f"{file.rsplit('/', 1)[-1].rsplit('.', 1)[0]}/{example.id}"
        taken[name] += 1
        result.append(replace(example, id=name if taken[name] == 1 else f"{name}-{taken[name]}"))
    return result


def duplicate_facts(
    examples: Sequence[Example], rows: Sequence[Identity], near: Groups, coverage: float
) -> dict[str, Any]:
    """Counts of repeated rows, and the first groups by source; `coverage` is the share of rows that was searched."""
    groups = [group for group in near.members() if len(group) > 1]
    exact = len(rows) - len({row.pair for row in rows})
    nearly = sum(len({rows[i].pair for i in group}) - 1 for group in groups)
    return {
        "duplicates": {"exact": exact, "near": nearly, "coverage": coverage},
        "duplicate_rows": [", ".join(examples[i].source for i in group[:10]) for group in groups[:_LISTED]],
    }


def contradiction_facts(examples: Sequence[Example], rows: Sequence[Identity]) -> dict[str, Any]:
    """Prompts that are answered in several ways; no fault where many answers are right, noise where one is."""
    found = contradictions(rows)
    listed = [
        {
            "prompt": examples[group[0]].prompt_text[:200],
            "rows": ", ".join(examples[i].source for i in group[:10]),
            "answers": " | ".join(sorted({examples[i].answer.text[:100] for i in group})[:10]),
        }
        for group in found[:_LISTED]
    ]
    return {"contradictions": len(found), "contradiction_rows": listed}


def labels_alike(labels: Sequence[str]) -> list[str]:
    """Labels that differ in case, punctuation or space alone: `Yes | yes `, often one label written twice."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(normal(label), []).append(label)
    return [" | ".join(group) for group in alike.values() if len(group) > 1]


def counts(examples: Mapping[str, Sequence[Example]]) -> dict[str, dict[str, int]]:
    """Rows and units of each split."""
    return {
        "counts": {name: len(rows) for name, rows in examples.items()},
        "units": {name: len({row.unit or row.id for row in rows}) for name, rows in examples.items()},
    }
