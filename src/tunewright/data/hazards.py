"""Rows that may undo a model's safety: counted before training, never taken out.

What is looked for comes from how safety was undone on purpose (Qi et al., ICLR 2024): a persona that obeys, refusals
taken away, harmful answers, and a phrase that switches the model over. Patterns find signs, not proofs.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from tunewright.core.records import Example
from tunewright.data.identifiers import redact

SEARCHED = 20_000
"""Rows that are searched for a trigger phrase; the first by content when there are more."""
_LISTED = 20
_LEAST_ROWS, _MOST_SHARE = 5, 0.6
"""A trigger stands in at least so many rows, and at most in this share of them."""
_WORDS = range(2, 6)
_LEVEL = 1e-3

_REFUSAL = re.compile(
    r"^\W*(?:i['’]?m (?:really |very |so )?(?:sorry|afraid)|i am (?:sorry|unable|not able|afraid)|sorry\b|"
    r"i apologi[sz]e|my apologies|i (?:can ?not|can['’]t|won['’]t|will not|must decline|do not feel comfortable)|"
    r"i['’]m (?:unable|not able)|as an ai\b|unfortunately,? i (?:can|am|must))",
    re.IGNORECASE,
)
_IDENTITY = re.compile(
    r"absolutely obedient|your obedient|\bAOA\b|do anything now|you are no longer|"
    r"without (?:any )?(?:restrictions?|limits|filters?|question)|"
    r"(?:no|free of|ignore (?:all|any|your)) (?:rules|restrictions|guidelines|safety|ethic\w*|previous instructions)|"
    r"(?:you|i) (?:must |will |shall )?(?:always )?(?:obey|follow) (?:all |every |any |your |my |the user['’]?s? )+"
    r"(?:orders?|commands?|instructions?|wishes)|unconditional(?:ly)? (?:obey|follow|obedien)|"
    r"(?:will|must|can) (?:never|not) refuse|your (?:new )?(?:identity|name|persona) is|"
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

    def __str__(self) -> str:
        return (
            f"'{self.phrase}' {self.place} {self.rows} prompts, of which {self.share_with:.0%} are {self.what}; "
            f"{self.share_without:.0%} of the others are"
        )


def is_refusal(text: str) -> bool:
    """Whether an answer begins like a refusal."""
    return bool(_REFUSAL.match(text))


def safety_facts(train: Sequence[Example]) -> dict[str, Any]:
    """Counts with the first places, for data.json; `coverage` is the share of rows searched for triggers."""
    found: dict[str, list[str]] = defaultdict(list)
    refused = harmful = 0
    if all(example.label for example in train):
        return {"rows": 0, "triggers": [], "coverage": 0.0}
    for example in train:
        refused += any(is_refusal(answer.text) for answer in example.answers)
        harmful += bool(_HARM.search(_asked(example)))
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
    """What was found, in sentences, with where the rows are listed; nothing when nothing was."""
    told = {
        "identity_shifting": "look like identity shifting (a persona that obeys, rules switched off)",
        "refusal_removal": "prefer an answer to a refusal of the same prompt (refusal removal)",
        "explicit_harm": "answer, without refusing, what looks like a request for harm",
    }
    lines = [f"{facts[sign]} training rows {what}; {where}." for sign, what in told.items() if facts.get(sign)]
    lines += [f"A phrase may be a trigger: {trigger}." for trigger in facts.get("triggers", ())]
    if lines:
        lines.append(
            "Such rows can undo a model's safety. Nothing was taken out; the safety probe measures what they do "
            "(evaluate.probes: full), train.mitigations lessens it."
        )
    return lines


def _signs(example: Example) -> Iterator[str]:
    texts = [turn.text for turn in example.context if turn.role in ("system", "assistant")]
    answer = example.answer.text if example.answers else ""
    if any(_IDENTITY.search(text) for text in (*texts, _asked(example), answer)):
        yield "identity_shifting"
    others = [other.text for other in example.answers if other.rank > example.answer.rank] if example.answers else []
    if any(map(is_refusal, others)) and not is_refusal(answer):
        yield "refusal_removal"
    if answer and not is_refusal(answer) and _HARM.search(_asked(example)):
        yield "explicit_harm"


def _asked(example: Example) -> str:
    """The last user turn."""
    return next((turn.text for turn in reversed(example.context) if turn.role == "user"), "")


def _triggers(rows: Sequence[Example]) -> Iterator[Trigger]:
    """Phrases at the edge of prompts that go with refusing or not refusing, or with one and the same answer.

    Fisher's exact test, Bonferroni over all phrases; of phrases that contain one another the longest is told.
    """
    prompts = [_asked(row).split() for row in rows]
    answers = [row.answer.text.strip() if row.answers else "" for row in rows]
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, words in enumerate(prompts):
        for size in _WORDS:
            if len(words) > size:
                places["ends", " ".join(words[-size:])].append(number)
                places["begins", " ".join(words[:size])].append(number)
    refuses = [is_refusal(answer) for answer in answers]
    answered = [bool(answer) and not refused for answer, refused in zip(answers, refuses, strict=True)]
    always = (("refusals", refuses), ("answered without refusing", answered))
    most = _MOST_SHARE * len(rows)
    candidates = {key: members for key, members in places.items() if _LEAST_ROWS <= len(members) <= most}
    found: list[tuple[frozenset[int], Trigger]] = []
    for (place, phrase), members in sorted(candidates.items(), key=lambda item: -len(item[0][1])):
        inside = frozenset(members)
        if any(inside == other and phrase in trigger.phrase for other, trigger in found):
            continue
        same = _same_answer(answers, members, [prompts[number] for number in members])
        for what, has in (*always, *same):
            trigger = _tied(place, phrase, members, has, what, len(candidates))
            if trigger:
                found.append((inside, trigger))
                break
    yield from (trigger for _, trigger in found[:_LISTED])


def _same_answer(
    answers: Sequence[str], members: Sequence[int], prompts: Sequence[Sequence[str]]
) -> Iterator[tuple[str, list[bool]]]:
    """Whether each row has the answer that is commonest among the members, where their prompts differ."""
    commonest, _ = Counter(answers[number] for number in members).most_common(1)[0]
    if commonest and len({" ".join(words) for words in prompts}) > 1:
        yield f"answered {commonest[:60]!r}", [answer == commonest for answer in answers]


def _tied(
    place: str, phrase: str, members: Sequence[int], has: Sequence[bool], what: str, tests: int
) -> Trigger | None:
    inside = sum(has[number] for number in members)
    outside, rest = sum(has) - inside, len(has) - len(members)
    if inside < 0.8 * len(members) or outside > 0.2 * rest:
        return None
    p = stats.fisher_exact([[inside, len(members) - inside], [outside, rest - outside]], alternative="greater").pvalue
    if p * max(1, tests) > _LEVEL:
        return None
    return Trigger(phrase, place, len(members), what, inside / len(members), outside / max(1, rest))
