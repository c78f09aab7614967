"""Which rows say the same: exactly, nearly, or after the same prompt."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from tunewright.core.files import digest
from tunewright.core.records import Example

SHORT = 20
"""Words; shorter texts are near duplicates only when they are equal but for case, space and punctuation."""
NEAR = 0.9
"""Jaccard similarity of shingles from which longer texts are near duplicates."""
SEARCHED = 200_000
"""Longer texts searched for near duplicates; above that a sample by content hash is."""
_PERMUTATIONS, _BANDS = 128, 16  # 16 bands of 8: two texts at 0.9 meet in a band with probability 0.9999
# Marks between words and sentences; those of sums and codes (+ - * / % = #) tell texts apart and stay.
_MARKS = str.maketrans(dict.fromkeys(".,;:!?\"'`()[]{}…·„“”‚‘’«»‹›、。，！？¿¡", " "))
Shingles = NDArray[np.uint32]


def normal(text: str) -> str:
    """Text without case, punctuation and extra space; a text of marks alone keeps them."""
    folded = text.casefold()
    return " ".join(folded.translate(_MARKS).split()) or " ".join(folded.split())


@dataclass(frozen=True, slots=True)
class Identity:
    """What rows are compared by; keys are equal exactly when the texts are."""

    content: str
    """Hash of all that is learned from the row, its unit and slices: of equal rows one is as good as the other."""
    pair: str
    """Normalised prompt and answers."""
    prompt: str
    """Normalised prompt; empty for plain text."""
    answers: str
    near: str
    """Normalised text searched for near duplicates: the prompt without its template, and the answer unless a label."""
    unit: str | None


def identify(examples: Sequence[Example], instruction: str = "") -> list[Identity]:
    """The identity of each row; the instruction put before label rows is left out, so it does not move splits."""
    own = _own_lines(examples)
    found = []
    for example in examples:
        front = f"{instruction}\n\n" if instruction and example.label else ""
        prompt = example.prompt_text.removeprefix(front)
        answers = "\0".join(normal(answer.text) for answer in example.answers)
        learned = "" if example.label or not example.answers else example.answer.text
        near = normal(f"{own(_asked(example).removeprefix(front))}\n{learned}")
        content = digest(
            [[turn.role, turn.text.removeprefix(front), turn.weight, dict(turn.extra)] for turn in example.context],
            [[answer.text, answer.rank, answer.weight, dict(answer.extra)] for answer in example.answers],
            [example.id, example.unit, list(example.tools), dict(example.slices)],
        )
        asked = normal(prompt)
        found.append(Identity(content, f"{asked}\0{answers}", asked, answers, near, example.unit))
    return found


def _asked(example: Example) -> str:
    """The context without what frames every row of a task: system and developer turns."""
    return "\n".join(turn.text for turn in example.context if turn.role not in ("system", "developer"))


def _own_lines(examples: Sequence[Example]) -> Callable[[str], str]:
    """Drops lines that stand in over half of all prompts: a template is no likeness between rows."""
    counts: Counter[str] = Counter()
    for example in examples:
        counts.update(set(_asked(example).splitlines()))
    bound = max(8, len(examples) // 2)
    frequent = {line for line, count in counts.items() if count > bound}
    if not frequent:
        return lambda text: text
    return lambda text: "\n".join(line for line in text.splitlines() if line not in frequent) or text


class Groups:
    """Union-find over row numbers."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, item: int) -> int:
        """The representative of an item's group."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, one: int, other: int) -> None:
        """Puts two items into one group."""
        one, other = self.root(one), self.root(other)
        self._parent[max(one, other)] = min(one, other)

    def join_equal(self, keys: Iterable[Hashable | None]) -> None:
        """Puts items with equal keys into one group; None and '' are no key."""
        first: dict[Hashable, int] = {}
        for item, key in enumerate(keys):
            if key is not None and key != "":
                self.join(first.setdefault(key, item), item)

    def members(self) -> list[list[int]]:
        """All groups, each in ascending order."""
        found: dict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            found[self.root(item)].append(item)
        return list(found.values())


def near_groups(texts: Sequence[str], limit: int = SEARCHED) -> tuple[Groups, float]:
    """Groups of near duplicates among normalised texts, and the share of texts that was searched.

    Equal texts are found by hash. Texts of 20 words or more are candidates when their MinHash signatures
    (Broder 1997; datasketch's LSH) share a band, and join when the exact Jaccard similarity of their shingles,
    words and runs of three words, is at least 0.9.
    """
    groups = Groups(len(texts))
    groups.join_equal(texts)
    longer = [i for i, text in enumerate(texts) if groups.root(i) == i and text.count(" ") >= SHORT - 1]
    searched = sorted(longer, key=lambda i: digest(texts[i]))[:limit] if len(longer) > limit else longer
    index = MinHashLSH(num_perm=_PERMUTATIONS, params=(_BANDS, _PERMUTATIONS // _BANDS))
    blank = MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=lambda value: value)
    words: dict[str, int] = {}
    sets: dict[int, Shingles] = {}
    for i in searched:
        sets[i] = shingles(texts[i], words)
        signature = blank.copy()
        signature.update_batch(sets[i])
        for j in sorted(index.query(signature)):
            if groups.root(i) != groups.root(j) and similarity(sets[i], sets[j]) >= NEAR:
                groups.join(i, j)
        index.insert(i, signature, check_duplication=False)
    unsearched = len(longer) - len(searched)
    return groups, 1.0 - unsearched / max(1, len(texts))


def shingles(text: str, words: dict[str, int] | None = None) -> Shingles:
    """Sorted 32-bit hashes of a normalised text's words and runs of three words; `words` caches word hashes."""
    cache = {} if words is None else words
    hashed = np.array(
        [cache.get(w) or cache.setdefault(w, zlib.crc32(w.encode()) or 1) for w in text.split()], np.uint32
    )
    runs = (
        hashed[:-2] * np.uint32(2654435761) + hashed[1:-1] * np.uint32(2246822519) + hashed[2:] * np.uint32(3266489917)
    )
    # Hashes of runs are linear in those of words; a last multiplication and shift mixes them.
    mixed = (runs ^ (runs >> np.uint32(15))) * np.uint32(2246822519)
    return np.unique(np.concatenate([hashed, mixed]))


def similarity(one: Shingles, other: Shingles) -> float:
    """Jaccard similarity of two sets of shingles."""
    if min(len(one), len(other)) < NEAR * max(len(one), len(other)):
        return 0.0  # sets so unequal in size cannot reach the threshold
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def contradictions(rows: Sequence[Identity]) -> list[list[int]]:
    """Groups of rows that ask the same and answer differently, in row order."""
    asked: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        if row.prompt and row.answers:
            asked[row.prompt].append(i)
    return [same for same in asked.values() if len({rows[i].answers for i in same}) > 1]
