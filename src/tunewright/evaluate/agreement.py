"""Judges against one another, and against people."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.files import file_digest, read_text
from tunewright.evaluate.bootstrap import wilson
from tunewright.evaluate.contracts import Floats
from tunewright.evaluate.judging import Exchange

REQUEST, ANSWER, SCORE = "objective", "assistant_response", "human_score"
"""Columns of a file with people's rulings: a score of 1 (or true) is a refusal, 0 (or false) is none."""
PYRIT = ("scorer_evals/refusal_scorer/refusal.csv", "scorer_evals/refusal_scorer/refusal_extra.csv")
_TRUTH = {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0}


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two raters on the same cases; cases that either could not judge are left out."""

    n: int
    share: float
    low: float
    high: float
    """Wilson interval of the share, 95 %."""
    kappa: float | None
    """Cohen's kappa; None when both always say the same one thing, where chance agreement is complete."""


def agreement(first_N: Floats, second_N: Floats) -> Agreement | None:
    """Agreement of two raters that say 0 or 1; NaN = could not judge. None when no case is judged by both.

    Cohen 1960: kappa = (observed - expected) / (1 - expected).
    """
    both = np.isfinite(first_N) & np.isfinite(second_N)
    a, b = first_N[both], second_N[both]
    n = len(a)
    if not n:
        return None
    same = float((a == b).sum())
    expected = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    kappa = None if expected >= 1 else (same / n - expected) / (1 - expected)
    return Agreement(n, same / n, *wilson(same, n), kappa)


def against_people(refused_N: Floats, people_N: Floats) -> dict[str, Any]:
    """How a judge's refusals compare with people's: share right, found and not invented, each with its interval."""
    judged = np.isfinite(refused_N)
    judge, people = refused_N[judged], people_N[judged]
    found = agreement(judge, people)

    def share(cases: Any, right: Any) -> dict[str, float | int | None]:
        n = int(cases.sum())
        low, high = wilson(float((cases & right).sum()), n)
        value = float((cases & right).sum() / n) if n else None
        return {"value": value, "low": low, "high": high, "n": n}

    every = np.ones(len(judge), dtype=bool)
    return {
        "agreement": share(every, judge == people),
        "refusals_found": share(people == 1, judge == 1),
        "answers_recognised": share(people == 0, judge == 0),
        "kappa": found.kappa if found else None,
        "unjudged": int((~judged).sum()),
    }


Rulings = tuple[list[Exchange], Floats]


def human_rulings(source: str) -> Rulings:
    """Exchanges with people's rulings (1 = refusal), from a CSV file or, under `pyrit`, from its install.

    Raises:
        NotMeasured: pyrit is asked for and not installed.
        UserError: The file is missing, lacks a column, or has a score that is neither 0 nor 1; all faults at once.
    """
    exchanges: list[Exchange] = []
    rulings: list[float] = []
    faults: list[str] = []
    for path in _files(source):
        lines = read_text(path).splitlines(keepends=True)
        skipped = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
        rows = csv.DictReader(lines[skipped:])
        missing = [name for name in (REQUEST, ANSWER, SCORE) if name not in (rows.fieldnames or ())]
        if missing:
            faults.append(f"{path}: lacks {', '.join(missing)}; found the columns {', '.join(rows.fieldnames or ())}.")
            continue
        for row in rows:
            score = _TRUTH.get((row[SCORE] or "").strip().lower())
            if score is None:
                faults.append(
                    f"{path}, line {skipped + rows.line_num}: {SCORE} is {row[SCORE]!r}; allowed are 1 (the answer "
                    "refuses) and 0 (it does not)."
                )
                continue
            exchanges.append(Exchange(row[REQUEST] or "", row[ANSWER] or ""))
            rulings.append(score)
    if not faults and not exchanges:
        faults.append(f"{source}: found no rows. Give a CSV file with {REQUEST}, {ANSWER} and {SCORE}.")
    if faults:
        raise UserError(faults)
    return exchanges, np.array(rulings)


def rulings_content(source: str) -> str:
    """What identifies people's rulings: figures made of others are not used."""
    try:
        return file_digest(_files(source)) if source else ""
    except (NotMeasured, UserError) as reason:
        return str(reason)


def _files(source: str) -> Sequence[Path]:
    if source != "pyrit":
        path = Path(source).expanduser()
        if not path.is_file():
            raise UserError(f"human_scores: {path} does not exist. Give a CSV file, or 'pyrit' to read its install.")
        return [path]
    folder = installed("pyrit")
    found = [folder / "datasets" / name for name in PYRIT] if folder else []
    found = [path for path in found if path.is_file()]
    if not found:
        raise NotMeasured("human-scored refusals: pyrit is not installed here (pip install pyrit), or has none")
    return found


def installed(package: str) -> Path | None:
    """The folder of an installed package, which is not imported; None when it is not there."""
    spec = find_spec(package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None
