"""The words whose probability is asked for, and what people said of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.files import cells_of

SHIPPED = Path(__file__).with_name("words.txt")
KINDS = ("trait", "occupation", "conviction", "sentence")
_DECIDED = KINDS[2:]
_PUBLISHED = {"guilt": "conviction", "penalty": "sentence"}
"""Names of files that Hofmann et al. published, where they are not those of kinds."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that a prompt may go on with."""

    text: str
    kind: str
    favour: int = 0
    """1 = favourable to whoever it is said of, -1 = unfavourable, 0 = neither."""


def read_words(paths: Sequence[Path]) -> dict[str, tuple[Word, ...]]:
    """Words by kind: the shipped ones, and in place of a kind's those that the files give of it.

    A line holds a word, and if need be after a tab its kind and after another whether it is favourable (1, 0, -1). A
    line without a kind is of the kind that the file's name begins with (`occupations.txt`), else a trait.

    Raises:
        UserError: A file or a line is not as expected; all faults at once.
    """
    found = _by_kind(_read(SHIPPED, []))
    faults: list[str] = []
    named = [word for path in paths for word in _read(path, faults)]
    given = {kind: tuple(_marked(word, found) for word in some) for kind, some in _by_kind(named).items()}
    if faults := [*faults, *_torn(named)]:
        raise UserError(faults)
    return {kind: given.get(kind) or found.get(kind, ()) for kind in KINDS}


def _marked(word: Word, shipped: Mapping[str, Sequence[Word]]) -> Word:
    """A decision that a file does not mark, as it is marked among the shipped words; traits are the user's own."""
    if word.favour or word.kind not in _DECIDED:
        return word
    return next((own for own in shipped[word.kind] if own.text == word.text), word)


def _read(path: Path, faults: list[str]) -> list[Word]:
    if not path.is_file():
        faults.append(f"--attributes {path} does not exist. Give a file with a word a line.")
        return []
    stem = _PUBLISHED.get(path.stem.lower(), path.stem.lower())
    usual = next((kind for kind in KINDS if stem.startswith(kind)), "trait")
    words, before = [], len(faults)
    for number, line, cells in cells_of(path):
        kind, favour = cells[1] if len(cells) > 1 else usual, cells[2] if len(cells) > 2 else "0"
        if len(cells) > 3 or kind not in KINDS or favour not in ("-1", "0", "1") or not cells[0]:
            faults.append(
                f"{path}:{number}: found {line[:60]!r}; a line holds a word, and if need be a tab and its kind "
                f"({', '.join(KINDS)}), a tab and 1, 0 or -1 for favourable, neither, unfavourable."
            )
            continue
        words.append(Word(cells[0], kind, int(favour)))
    if not words and len(faults) == before:
        faults.append(f"{path} has no words. Give a word a line.")
    return words


def _by_kind(words: Sequence[Word]) -> dict[str, tuple[Word, ...]]:
    kinds = {word.kind for word in words}
    return {kind: tuple(_once([word for word in words if word.kind == kind])) for kind in kinds}


def _once(words: Sequence[Word]) -> list[Word]:
    """Each word once, as it is marked where it is marked anywhere."""
    found: dict[str, Word] = {}
    for word in words:
        if word.favour or word.text not in found:
            found[word.text] = word
    return [*found.values()]


def _torn(words: Sequence[Word]) -> list[str]:
    """A fault for each word that is marked favourable in one place and unfavourable in another."""
    marked = {(word.kind, word.text, word.favour) for word in words if word.favour}
    return [
        f"--attributes: {kind} {text!r} is marked both 1 and -1. Mark it once."
        for kind, text, favour in sorted(marked)
        if favour == 1 and (kind, text, -1) in marked
    ]


@dataclass(frozen=True, slots=True)
class Ratings:
    """What people said: how often subjects of a study chose a trait, how favourable it is, how esteemed a job is."""

    studies: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    favour: Mapping[str, float] = field(default_factory=dict)
    prestige: Mapping[str, float] = field(default_factory=dict)

    def top(self, study: str, words: Sequence[str]) -> list[str]:
        """The study's words among those given, the one chosen most often first."""
        scores = self.studies[study]
        return sorted((word for word in words if word.lower() in scores), key=lambda word: -scores[word.lower()])

    def esteem(self, occupation: str) -> float | None:
        """Its own prestige, or the mean of the titles that begin or end with it; None when there is none."""
        own = self.prestige.get(occupation)
        alike = [x for title, x in self.prestige.items() if title.startswith(occupation) or title.endswith(occupation)]
        return own if own is not None else sum(alike) / len(alike) if alike else None


def read_ratings(path: Path | None) -> Ratings:
    """Ratings of a JSON file; nothing without one.

    `{"studies": {name: {trait: score}}, "favourability": {trait: x}, "prestige": {occupation: x}}`, each optional;
    or the parallel lists that Hofmann et al. published (`ATTRIBUTES_KATZ` and `SCORES_KATZ` ...).

    Raises:
        UserError: The file is not as expected.
    """
    if path is None:
        return Ratings()
    try:
        tree = json.loads(path.read_text(encoding="utf-8-sig"))
        if "GSS_OCCUPATIONS" in tree or any(key.startswith("SCORES_") for key in tree):
            return _published(tree)
        studies = {str(name): _numbers(scores) for name, scores in tree.get("studies", {}).items()}
        found = Ratings(studies, _numbers(tree.get("favourability", {})), _numbers(tree.get("prestige", {})))
    except OSError:
        raise UserError(f"--ratings {path} does not exist. Give a JSON file.") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"--ratings {path} is not as expected ({error}). {_EXPECTED}") from None
    if not (found.studies or found.favour or found.prestige):
        raise UserError(f"--ratings {path} holds no ratings. {_EXPECTED}")
    return found


_EXPECTED = 'It holds {"studies": {name: {trait: score}}, "favourability": {trait: number}, "prestige": {job: number}}.'


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    found = {str(name).lower(): float(value) for name, value in values.items()}
    if unknown := [name for name, value in found.items() if not math.isfinite(value)]:
        raise ValueError(f"{unknown[0]} has no finite number; leave out what was not rated")
    return found


def _published(tree: Mapping[str, Any]) -> Ratings:
    def joined(names: str, values: str) -> dict[str, float]:
        return _numbers(dict(zip(tree.get(names, ()), tree.get(values, ()), strict=True)))

    names = [key.removeprefix("SCORES_") for key in tree if key.startswith("SCORES_")]
    studies = {name.lower(): joined(f"ATTRIBUTES_{name}", f"SCORES_{name}") for name in names}
    favour = joined("ATTRIBUTES_ALL", "FAVORABILITIES_ALL")
    return Ratings(studies, favour, joined("GSS_OCCUPATIONS", "GSS_PRESTIGE_RATINGS"))
