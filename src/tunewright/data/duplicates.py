"""Which rows say the same: exactly, nearly, or after the same prompt."""

from __future__ import annotations

import re
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

from tunewright.core.files import digest
from tunewright.core.records import Example
from tunewright.data.keys import Keys, Numbers, Same, firsts, text_key
from tunewright.data.sequences import OnDemand

SHORT = 20
"""Words; shorter texts are near duplicates only when they are equal but for case, space and punctuation."""
NEAR = 0.9
"""Jaccard similarity of shingles from which longer texts are near duplicates."""
SEARCHED = 200_000
"""Longer texts searched for near duplicates; above that a sample by content hash is."""
_BUCKETS = 2**18
"""Counters of lines, in which lines that nearly all prompts share cannot hide."""
_PERMUTATIONS, _BANDS = 128, 16  # 16 bands of 8: two texts at 0.9 meet in a band with probability 0.9999
# Marks between words and sentences; those of sums and codes (+ - * / % = #) tell texts apart and stay.
_MARKS = str.maketrans(dict.fromkeys(".,;:!?\"'`()[]{}…·„“”‚‘’«»‹›、。，！？¿¡", " "))
# Scripts that put no spaces between words: each letter counts as one. Thai, Lao, Burmese, Khmer, Kana, Han.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
Shingles = NDArray[np.uint32]


def normal(text: str) -> str:
    """Text without case, punctuation and extra space; a text of marks alone keeps them."""
    folded = text.casefold()
    if not folded.isascii():
        folded = _UNSPACED.sub(r" \g<0> ", folded)
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


class Identities(OnDemand[Identity]):
    """The identity of each row, made when it is asked for, and in memory the keys that rows are compared by.

    The instruction put before label rows is left out, so that it does not move splits. Of rows that are draws the
    prompts are no key: nothing but their unit, or being the same row, joins two of them.
    """

    def __init__(self, examples: Sequence[Example], instruction: str = "", draws: bool = False) -> None:
        self.examples, self.instruction, self.draws = examples, instruction, draws
        self._own = str if draws else _own_lines(examples)
        self.rows = np.arange(len(examples), dtype=np.int32)
        self.content, self.pair, self.prompt, self.unit = np.empty((4, len(examples)), np.uint64)
        self.answered = np.empty(len(examples), bool)
        for row, example in enumerate(examples):
            self.content[row], self.unit[row] = int(self._content(example), 16), text_key(example.unit)
            if draws:
                self.pair[row], self.prompt[row], self.answered[row] = self.content[row], 0, bool(example.answers)
                continue
            prompt, answers = self._said(example)
            self.pair[row], self.prompt[row] = text_key(f"{prompt}\0{answers}"), text_key(prompt)
            self.answered[row] = bool(answers)

    def take(self, rows: NDArray[np.integer]) -> Identities:
        """Those of some rows."""
        found = copy(self)
        for name in ("rows", "content", "pair", "prompt", "unit", "answered"):
            setattr(found, name, getattr(self, name)[rows])
        return found

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, place: int) -> Identity:
        """The identity of the row at a place."""
        example = self.examples[self.rows[place]]
        prompt, answers = self._said(example)
        pair, content = f"{prompt}\0{answers}", self._content(example)
        return Identity(content, pair, prompt, answers, self.near(example), example.unit)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identities) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def near(self, example: Example) -> str:
        """The text of a row that is searched for near duplicates."""
        learned = "" if example.label or not example.answers else example.answer.text
        return normal(f"{self._own(_asked(example).removeprefix(self._front(example)))}\n{learned}")

    def _front(self, example: Example) -> str:
        return f"{self.instruction}\n\n" if self.instruction and example.label else ""

    def _said(self, example: Example) -> tuple[str, str]:
        """Normalised prompt and answers."""
        prompt = example.prompt_text.removeprefix(self._front(example))
        return normal(prompt), "\0".join(normal(answer.text) for answer in example.answers)

    def _content(self, example: Example) -> str:
        front = self._front(example)
        return digest(
            [[turn.role, turn.text.removeprefix(front), turn.weight, dict(turn.extra)] for turn in example.context],
            [[answer.text, answer.rank, answer.weight, dict(answer.extra)] for answer in example.answers],
            [example.id, example.unit, list(example.tools), dict(example.slices)],
        )


def identify(examples: Sequence[Example], instruction: str = "", draws: bool = False) -> Identities:
    """What each row is compared by; `instruction` is what the plan puts before label rows."""
    return Identities(examples, instruction, draws)


def _asked(example: Example) -> str:
    """The context without what frames every row of a task: system and developer turns."""
    return "\n".join(turn.text for turn in example.context if turn.role not in ("system", "developer"))


def _own_lines(examples: Sequence[Example]) -> Callable[[str], str]:
    """Drops lines that stand in over half of all prompts: a template is no likeness between rows."""
    bound = max(8, len(examples) // 2)
    # Lines are as many as rows: counted in buckets first, then by themselves where a bucket is full enough.
    buckets = array("I", bytes(4 * _BUCKETS))
    for example in examples:
        for line in set(_asked(example).splitlines()):
            buckets[hash(line) % _BUCKETS] += 1
    counts: Counter[str] = Counter()
    if max(buckets) > bound:
        for example in examples:
            counts.update(x for x in set(_asked(example).splitlines()) if buckets[hash(x) % _BUCKETS] > bound)
    frequent = {line for line, count in counts.items() if count > bound}
    if not frequent:
        return lambda text: text
    return lambda text: "\n".join(line for line in text.splitlines() if line not in frequent) or text


class Groups:
    """Union-find over row numbers; a group's root is its first row."""

    def __init__(self, size: int) -> None:
        self._parent = array("i", range(size))

    def root(self, item: int) -> int:
        """The representative of an item's group."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def roots(self) -> Numbers:
        """[items] the root of each."""
        found = np.array(self._parent)
        while (found[found] != found).any():
            found = found[found]
        return found

    def join(self, one: int, other: int) -> None:
        """Puts two items into one group."""
        one, other = self.root(one), self.root(other)
        self._parent[max(one, other)] = min(one, other)

    def join_equal(self, keys: Keys) -> None:
        """Puts items with equal keys into one group; 0 is no key."""
        first = firsts(keys)
        for item in np.flatnonzero(first != np.arange(len(first))):
            self.join(int(first[item]), int(item))

    def members(self) -> Same:
        """All groups, each in ascending order."""
        return Same(self.roots())


def near_groups(texts: Sequence[str], limit: int = SEARCHED) -> tuple[Groups, float]:
    """Groups of near duplicates among normalised texts, and the share of texts that was searched.

    Equal texts are found by hash. Texts of 20 words or more are candidates when their MinHash signatures
    (Broder 1997; datasketch's) share a band, and join when the exact Jaccard similarity of their shingles,
    words and runs of three words, is at least 0.9.
    """
    groups = Groups(len(texts))
    keys, is_long = np.empty(len(texts), np.uint64), np.empty(len(texts), bool)
    for i, text in enumerate(texts):
        keys[i], is_long[i] = text_key(text), text.count(" ") >= SHORT - 1
    groups.join_equal(keys)
    longer = np.flatnonzero(is_long & (groups.roots() == np.arange(len(texts))))
    searched = longer
    if len(longer) > limit:
        by_content = np.fromiter((int(digest(texts[int(i)]), 16) for i in longer), np.uint64)
        searched = np.sort(longer[np.argsort(by_content, kind="stable")[:limit]])
    _join_similar(groups, texts, searched)
    return groups, 1.0 - (len(longer) - len(searched)) / max(1, len(texts))


def _join_similar(groups: Groups, texts: Sequence[str], searched: NDArray[np.int64]) -> None:
    """Joins texts whose signatures share a band and whose shingles are alike; in memory are 64 bytes a text."""
    bands = np.empty((len(searched), _BANDS), np.uint32)
    blank = MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=lambda value: value)
    for row, i in enumerate(searched):
        signature = blank.copy()
        signature.update_batch(shingles(texts[int(i)]))
        bands[row] = [zlib.crc32(band.tobytes()) for band in signature.hashvalues.reshape(_BANDS, -1)]
    sets = lru_cache(maxsize=4096)(lambda row: shingles(texts[int(searched[row])]))
    for band in range(_BANDS):
        for alike in Same(bands[:, band]).several():
            for row, other in combinations(alike, 2):
                one, two = int(searched[row]), int(searched[other])
                if groups.root(one) == groups.root(two) or (bands[row, :band] == bands[other, :band]).any():
                    continue  # joined, or compared in an earlier band
                if similarity(sets(row), sets(other)) >= NEAR:
                    groups.join(one, two)


def shingles(text: str) -> Shingles:
    """Sorted 32-bit hashes of a normalised text's words and runs of three words."""
    hashed = np.array([zlib.crc32(word.encode()) or 1 for word in text.split()], np.uint32)
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


def contradictions(rows: Identities) -> list[list[int]]:
    """Groups of rows that ask the same and answer differently, in row order."""
    asked = np.flatnonzero((rows.prompt != 0) & rows.answered)
    # Of rows with one prompt, prompt and answers together differ exactly when the answers do.
    differ = [same for same in Same(rows.prompt[asked]).several() if len(set(rows.pair[asked[same]].tolist())) > 1]
    return [asked[same].tolist() for same in differ]
