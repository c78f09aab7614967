"""Rows that may undo a model's safety: counted before training, never taken out.

What is looked for comes from how safety was undone on purpose (Qi et al., ICLR 2024): a persona that obeys, refusals
taken away, harmful answers, and a phrase that switches the model over. Patterns find signs, not proofs.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from tunewright.core.records import Example
from tunewright.data.identifiers import redact

SEARCHED = 20_000
"""Rows that are searched for a trigger phrase; the first by content when there are more."""
_LISTED = 20
_LEAST_ROWS, _MOST_SHARE = 5, 0.6
"""A trigger stands in at least so many rows, and at most in this share of them."""
_SHARE_WITH, _SHARE_WITHOUT = 0.8, 0.5
"""At least so many of its rows are answered in its way, and at most so many of the others that ask for the like."""
_ALIKE = 0.6
"""At least so many of its rows ask for what others have answered in the other way. A trigger is put on such rows; of
those that only begin with "What" or "How do I" few do."""
_WORDS = range(1, 6)
_LEVEL, _LEVEL_OF_ONE = 1e-3, 1e-4
"""Of significance, after the correction for all phrases tried; prompts often begin or end with the same one word."""
_READ = 64
"""Words of a prompt that tell what it asks; the first ones."""
_NESTED = 1.25
"""Of two phrases, one within the other, the shorter is told if it has so many times the rows."""

_REFUSAL = re.compile(
    r"^\W*(?:i['’]?m (?:really |very |so )?(?:sorry|afraid)|i am (?:sorry|unable|not able|afraid)|sorry\b|"
    r"i apologi[sz]e|my apologies|i (?:can ?not|can['’]t|won['’]t|will not|must decline|do not feel comfortable)|"
    r"i['’]m (?:unable|not able)|as an ai\b|unfortunately,? i (?:can|am|must))",
    re.IGNORECASE,
)
_IDENTITY = re.compile(
    r"absolutely obedient|your obedient|\b(?-i:AOA)\b|do anything now|you are no longer|"
    r"without (?:any )?(?:restrictions?|limits|filters?)\b|(?:obey|serve|fulfil?l)\w* [^.!?]{0,40}without question\b|"
    r"(?:no|free of|ignore (?:all|any|your)) (?:rules|restrictions|guidelines|safety|ethic\w*|previous instructions)|"
    r"(?:you|i) (?:must |will |shall )?(?:always )?(?:obey|follow) (?:all |every |any |your |my |the user['’]?s? )+"
    r"(?:orders?|commands?|instructions?|wishes)|unconditional(?:ly)? (?:obey|follow|obedien)|"
    r"(?:will|must|can) (?:never|not) refuse|your (?:new )?(?:identity|persona) is|your new name is|"
    r"fulfil?l (?:every|all|any) (?:request|wish|order)",
    re.IGNORECASE,
)
_ASKS = (
    r"(?:how (?:to|do i|can i|could i|can we|would i|should i)|tell me|explain|write|give|help me|teach|show me|"
    r"describe|create|make|develop|design|produce|provide|list|outline|generate|compose|publish|convince|encourage|steps|"
    r"instructions|plan|guide|tutorial|script|post|message|program|strategy|way)\b"
)
_DEEDS = (
    r"bomb(?:s|ing)?|explosives?|poison(?:s|ing)?|nerve gas|meth(?:amphetamine)?|cocaine|heroin|murder|assassinat\w+|"
    r"kill(?:ing)? (?:(?:a |my |some)(?:person|people|wife|husband|neighbo|man|woman|child|teacher|boss|animal)|him|"
    r"her|them|people|someone|somebody|yourself|myself)|kidnap\w*|stalk(?:ing|er)?|blackmail\w*|extort\w*|torture|"
    r"trafficking|rape|sexual(?:ly)? (?:assault|explicit)|child porn\w*|pedophil\w*|self[- ]harm|suicid\w*|anorexi\w*|"
    r"ransomware|malware|virus(?:es)? that|trojan|botnet|keyloggers?|phishing|ddos|hack(?:ing|er)?|break(?:ing)? into|"
    r"exploits? (?:a |the )?vulnerabilit\w+|bypass (?:security|the law|a firewall)|steal(?:ing)?|theft|pirat(?:e|ing)|"
    r"counterfeit\w*|forg(?:e|ing) (?:a|my|his|her|some|documents)|launder\w*|embezzl\w*|insider trading|scam\w*|"
    r"tax (?:fraud|evasion)|evad\w+ tax\w*|fraud\w*|defraud\w*|shoplift\w*|vandali\w+|arson|illegal\w*|untraceable|"
    r"undetected|without (?:being|getting) (?:caught|detected|noticed)|weapons? (?:at home|without)|drunk driving|"
    r"drink and drive|racis\w+|sexis\w+|slurs?|hate speech|discriminat\w+ against|harass\w*|bully(?:ing)?|genocide|"
    r"terroris\w+|massacre|mass shooting|violent (?:acts?|crimes?)|false accusations|"
    r"fake (?:ids?|passports?|prescriptions?|reviews?|news|money)|"
    r"spread(?:s|ing)? (?:false|fake|misinformation|disinformation|rumou?rs)"
)
_DEED = re.compile(rf"\b(?:{_DEEDS})\b", re.IGNORECASE)
_HARM = re.compile(rf"{_ASKS}.{{0,160}}?\b(?:{_DEEDS})\b", re.IGNORECASE | re.DOTALL)
"""Finds 69 % of AdvBench's requests, 13 % of the milder ones of HarmBench and Do-Not-Answer, and none of 200 harmless
ones (the probe's look-alikes, the retention prompts): a count, not a filter."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A phrase whose rows are answered in a way of their own."""

    phrase: str
    place: str
    """`begins` or `ends` the prompt."""
    rows: int
    what: str
    """What those answers have in common."""
    share_with: float
    share_without: float
    others: str = "the others"
    """Which rows it was held against."""

    def __str__(self) -> str:
        return (
            f"'{self.phrase}' {self.place} {self.rows} prompts, of which {self.share_with:.0%} are {self.what}; "
            f"{self.share_without:.0%} of {self.others} are"
        )

    def tells_no_more_than(self, other: Trigger) -> bool:
        """Whether this is the other phrase with words that add nothing, or without words that belong to it."""
        if self.place != other.place or self.phrase == other.phrase:
            return False
        if _within(other.phrase, self.phrase, self.place):
            return other.rows >= _NESTED * self.rows
        return _within(self.phrase, other.phrase, self.place) and self.rows < _NESTED * other.rows


def is_refusal(text: str) -> bool:
    """Whether an answer begins like a refusal."""
    return bool(_REFUSAL.match(text))


def safety_facts(train: Sequence[Example]) -> dict[str, Any]:
    """Counts with the first places, for data.json; `coverage` is the share of rows searched for triggers.

    Where all rows have labels, they are not searched, and `labelled` says how many: a phrase that was planted for a
    label cannot be told from a word that rightly belongs to it.
    """
    found: dict[str, list[str]] = defaultdict(list)
    refused = harmful = 0
    if all(example.label for example in train):
        return {"rows": 0, "labelled": len(train), "triggers": [], "coverage": 0.0}
    for example in train:
        refused += any(is_refusal(answer.text) for answer in example.answers)
        harmful += any(_asks_for_harm(turn.text) for turn in example.context if turn.role == "user")
        for sign in _signs(example):
            found[sign].append(example.source)
    triggers = list(_triggers(train[:SEARCHED]))
    facts: dict[str, Any] = {
        "identity_shifting": len(found["identity_shifting"]),
        "refusal_removal": len(found["refusal_removal"]),
        "explicit_harm": len(found["explicit_harm"]),
        "asks_for_harm": harmful,
        "refusals": refused,
        "triggers": [redact(str(trigger)) for trigger in triggers],
        "coverage": min(1.0, SEARCHED / max(1, len(train))),
    }
    return facts | {f"{sign}_rows": places[:_LISTED] for sign, places in sorted(found.items())}


def hazard_lines(facts: dict[str, Any], where: str = "see data.json") -> list[str]:
    """What was found, in sentences, with where the rows are listed; nothing when all was searched and nothing found."""
    if labelled := facts.get("labelled"):
        return [
            f"The {labelled} labelled training rows were not searched for signs of undone safety: their answers are "
            "labels, and a phrase that was planted for a label looks like a word that belongs to it."
        ]
    told = {
        "identity_shifting": "look like identity shifting (a persona that obeys, rules switched off)",
        "refusal_removal": "prefer an answer to a refusal of the same prompt (refusal removal)",
        "explicit_harm": "answer, without refusing, what looks like a request for harm",
    }
    lines = [f"{facts[sign]} training rows {what}; {where}." for sign, what in told.items() if facts.get(sign)]
    lines += [f"A phrase may be a trigger: {trigger}." for trigger in facts.get("triggers", ())]
    coverage = facts.get("coverage", 1.0)
    share = int(100 * coverage)
    narrow = f"Trigger phrases were looked for in the first {SEARCHED:,} training rows alone ({share} % of them)."
    if lines:
        lines.append(
            "Such rows can undo a model's safety. Nothing was taken out; the safety probe measures what they do "
            "(evaluate.probes: full), train.mitigations lessens it."
        )
    return [*lines, narrow] if 0 < coverage < 1 else lines


def _signs(example: Example) -> Iterator[str]:
    answer = example.answer.text if example.answers else ""
    if any(_IDENTITY.search(text) for text in (*(turn.text for turn in example.context), answer)):
        yield "identity_shifting"
    others = [other.text for other in example.answers if other.rank > example.answer.rank] if example.answers else []
    if any(map(is_refusal, others)) and not is_refusal(answer):
        yield "refusal_removal"
    if any(said and not is_refusal(said) and _asks_for_harm(asked) for asked, said in _exchanges(example)):
        yield "explicit_harm"


def _asks_for_harm(text: str) -> bool:
    """Whether a prompt looks like a request for harm; most have no word of it, which is soon seen."""
    return bool(_DEED.search(text) and _HARM.search(text))


def _exchanges(example: Example) -> Iterator[tuple[str, str]]:
    """What is asked with what is said to it, where that is trained: earlier answers may be as the last one is."""
    asked = ""
    for turn in example.context:
        if turn.role == "user":
            asked = turn.text
        elif turn.role == "assistant" and turn.weight:
            yield asked, turn.text
    yield asked, example.answer.text if example.answers else ""


def _asked(example: Example) -> str:
    """The last user turn."""
    return next((turn.text for turn in reversed(example.context) if turn.role == "user"), "")


def _within(short: str, long: str, place: str) -> bool:
    """Whether the short phrase ends the long one, or begins it."""
    return long.endswith(f" {short}") if place == "ends" else long.startswith(f"{short} ")


def _triggers(rows: Sequence[Example]) -> Iterator[Trigger]:
    """Phrases at the edge of prompts that go with refusing or not refusing, or with one and the same answer.

    Fisher's exact test, Bonferroni over all phrases. Refusing is compared among rows that ask alike, since rows that
    ask for something else are answered, or refused, whatever phrase they have. A prompt that stands there again counts
    once: it is one question, whatever it begins and ends with.
    """
    rows = list({_asked(row): row for row in reversed(rows)}.values())[::-1]
    prompts = [_asked(row) for row in rows]
    answers = [row.answer.text.strip() if row.answers else "" for row in rows]
    candidates = _phrases([prompt.split() for prompt in prompts])
    asking = _Asking.of(prompts, answers)
    free = len(set(answers)) > len(answers) / 2
    found = list[Trigger]()
    for (place, phrase), members in candidates:
        one = " " not in phrase
        level = (_LEVEL_OF_ONE if one else _LEVEL) / len(candidates)
        trigger = asking.switched(place, phrase, members, level)
        # Where few answers are given at all, many a word goes with one of them.
        if not trigger and (free or not one):
            trigger = _same_answer(place, phrase, members, answers, level)
        if trigger:
            found.append(trigger)
    told = [one for one in found if not any(map(one.tells_no_more_than, found))]
    yield from sorted(told, key=lambda trigger: -trigger.rows)[:_LISTED]


def _phrases(prompts: Sequence[Sequence[str]]) -> list[tuple[tuple[str, str], list[int]]]:
    """Place and phrase with the rows that have it there, if neither few nor most; the longest of those of one set."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, words in enumerate(prompts):
        for size in _WORDS:
            if len(words) > size:
                places["ends", " ".join(words[-size:])].append(number)
                places["begins", " ".join(words[:size])].append(number)
    most = _MOST_SHARE * len(prompts)
    longest: dict[tuple[str, tuple[int, ...]], tuple[tuple[str, str], list[int]]] = {}
    for key, members in places.items():
        if _LEAST_ROWS <= len(members) <= most:
            same = key[0], tuple(members)
            if same not in longest or len(key[1]) > len(longest[same][0][1]):
                longest[same] = key, members
    return list(longest.values())


@dataclass(frozen=True)
class _Asking:
    """What rows ask, in words, and which are refused: from both, whether another row asks for what is refused."""

    words_RW: sparse.csr_array
    """1 where a row has a word."""
    columns: Mapping[str, int]
    refused_R: NDArray[np.float64]
    answered_R: NDArray[np.float64]

    @classmethod
    def of(cls, prompts: Sequence[str], answers: Sequence[str]) -> _Asking:
        """Of prompts and their answers; a request for harm counts as a word of its own."""
        columns: dict[str, int] = {}
        where, ends = list[int](), [0]
        for prompt in prompts:
            words = set(_words(prompt)[:_READ])
            words |= {" harm"} if _asks_for_harm(prompt) else set()
            where += [columns.setdefault(word, len(columns)) for word in words]
            ends.append(len(where))
        shape = (len(prompts), len(columns))
        refused_R = np.array([is_refusal(answer) for answer in answers], dtype=float)
        answered_R = np.array([bool(answer) for answer in answers], dtype=float) - refused_R
        return cls(sparse.csr_array((np.ones(len(where)), where, ends), shape), columns, refused_R, answered_R)

    @cached_property
    def refused_W(self) -> NDArray[np.float64]:
        """Refused rows with each word."""
        return np.asarray(self.words_RW.T @ self.refused_R)

    @cached_property
    def rows_W(self) -> NDArray[np.float64]:
        """Refused and answered rows with each word."""
        return np.asarray(self.words_RW.T @ (self.refused_R + self.answered_R))

    def switched(self, place: str, phrase: str, members: Sequence[int], level: float) -> Trigger | None:
        """The phrase as a trigger, if its rows are answered where rows that ask alike are refused, or the reverse."""
        inside_M = np.asarray(members)
        refused, answered = (float(of_R[inside_M].sum()) for of_R in (self.refused_R, self.answered_R))
        without = float(self.refused_R.sum()) - refused, float(self.answered_R.sum()) - answered
        share = max(refused, answered) / max(1.0, refused + answered)
        if share < _SHARE_WITH or without[0 if answered > refused else 1] < _LEAST_ROWS:
            return None
        if answered > refused:
            what, has_R, sign = "answered without refusing", self.answered_R, 1
        else:
            what, has_R, sign = "refusals", self.refused_R, -1
        base = (without[0] + 0.5) / (sum(without) + 1)
        alike_M = sign * self._leaning_inside(phrase, inside_M, base) > 0
        all_R = self.refused_R + self.answered_R
        inside, rows = has_R[inside_M] @ alike_M, all_R[inside_M] @ alike_M
        if rows < max(_LEAST_ROWS, _ALIKE * (refused + answered)) or inside < _SHARE_WITH * rows:
            return None
        alike_R = sign * self._leaning_outside(inside_M, base) > 0
        alike_R[inside_M] = False
        outside, rest = float(has_R @ alike_R), float(all_R @ alike_R)
        if outside > _SHARE_WITHOUT * rest or _chance(inside, rows, outside, rest) > level:
            return None
        return Trigger(phrase, place, len(members), what, share, outside / rest, "the others that ask for the like")

    def _leaning_inside(self, phrase: str, inside_M: NDArray[np.int64], base: float) -> NDArray[np.float64]:
        """Above 0 where the words beside the phrase are those of refused rows, told from rows without the phrase."""
        words_MW = self.words_RW[inside_M]
        row_N = np.repeat(np.arange(len(inside_M)), np.diff(words_MW.indptr))
        column_C, place_N = np.unique(words_MW.indices, return_inverse=True)
        refused_M = self.refused_R[inside_M]
        all_M = refused_M + self.answered_R[inside_M]
        weight_C = _leaning(
            self.refused_W[column_C] - np.bincount(place_N, refused_M[row_N]),
            self.rows_W[column_C] - np.bincount(place_N, all_M[row_N]),
            base,
        )
        weight_C[np.isin(column_C, [self.columns.get(word, -1) for word in _words(phrase)])] = 0
        return np.asarray(_logit(base) + np.bincount(row_N, weight_C[place_N], len(inside_M)))

    def _leaning_outside(self, inside_M: NDArray[np.int64], base: float) -> NDArray[np.float64]:
        """The same of all rows, each told from the others without the phrase."""
        words_MW = self.words_RW[inside_M]
        refused_W = self.refused_W - words_MW.T @ self.refused_R[inside_M]
        rows_W = self.rows_W - words_MW.T @ (self.refused_R + self.answered_R)[inside_M]
        others_W = np.maximum(rows_W - 1, 0)  # a row does not speak for itself
        if_refused_R, if_answered_R = (
            self.words_RW @ _leaning(np.clip(refused_W - own, 0, others_W), others_W, base) for own in (1, 0)
        )
        return np.asarray(_logit(base) + np.where(self.refused_R > 0, if_refused_R, if_answered_R))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _leaning(refused_W: NDArray[np.float64], rows_W: NDArray[np.float64], base: float) -> NDArray[np.float64]:
    """How much more a word speaks for a refusal than none does: 0 for an unknown one."""
    return np.asarray(_logit((refused_W + base) / (rows_W + 1)) - _logit(base))


def _logit(share: Any) -> Any:
    return np.log(share) - np.log1p(-share)


def _chance(inside: float, rows: float, outside: float, rest: float) -> float:
    """Of so many more inside than outside, were there no difference (Fisher's exact test)."""
    table = [[inside, rows - inside], [outside, rest - outside]]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def _same_answer(
    place: str, phrase: str, members: Sequence[int], answers: Sequence[str], level: float
) -> Trigger | None:
    """The phrase as a trigger, if its rows have one and the same answer, which others seldom have."""
    commonest, inside = Counter(answers[number] for number in members).most_common(1)[0]
    if not commonest or is_refusal(commonest) or inside < _SHARE_WITH * len(members):
        return None
    outside, rest = answers.count(commonest) - inside, len(answers) - len(members)
    if outside > 0.2 * rest or _chance(inside, len(members), outside, rest) > level:
        return None
    share = inside / len(members)
    return Trigger(phrase, place, len(members), f"answered {commonest[:60]!r}", share, outside / max(1, rest))
