"""What the answers of one model to the dialect probe come to, and what changes from one model to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from tunewright.data.dialect import Pair
from tunewright.evaluate.contracts import Answers, Figure, Floats
from tunewright.evaluate.dialect import figures
from tunewright.evaluate.dialect.ask import DECISIONS, Texts
from tunewright.evaluate.dialect.words import KINDS, Ratings, Word


@dataclass(frozen=True)
class Findings:
    """What one model's answers come to; of differences of answers, only what is linear in them means anything."""

    answers: Answers
    pairs: tuple[Pair, ...]
    words: Mapping[str, tuple[Word, ...]]
    ratings: Ratings
    how: tuple[int, int]
    """Seed and number of resamples."""

    @cached_property
    def texts(self) -> Texts:
        """Where the sides of the pairs are."""
        return Texts.of(self.pairs)

    @cached_property
    def units(self) -> list[str]:
        """[pairs] whom each belongs to."""
        return [pair.unit for pair in self.pairs]

    @property
    def asked(self) -> list[str]:
        """Kinds of words that were asked for."""
        return [kind for kind in self.words if kind in self.answers]

    @property
    def judged(self) -> list[str]:
        """Decisions that have a harsher and a milder option."""
        asked = [kind for kind in DECISIONS if kind in self.asked]
        return [kind for kind in asked if len({word.favour < 0 for word in self.words[kind]}) == 2]

    def names(self, kind: str) -> list[str]:
        """The words of a kind."""
        return [word.text for word in self.words[kind]]

    def ratios(self, kind: str) -> Floats:
        """[frames, pairs, words]."""
        log_probs = self.answers[kind][:, : len(self.texts.texts)]
        return figures.ratios(log_probs, self.texts.variant_P, self.texts.standard_P)

    def estimate(self, cells_FPK: Floats) -> figures.Estimate:
        """The mean of a number for each prompt and pair."""
        return figures.mean_of(cells_FPK, self.units, *self.how)

    def gap(self, cells_FP: Floats, most: int = 1) -> figures.Estimate:
        """The mean of differences of verdicts, which are at most so far from 0."""
        return figures.share_of(cells_FP, self.units, *self.how, most)

    def q(self, kind: str) -> figures.Estimate:
        """q of each word."""
        return self.estimate(self.ratios(kind))

    @cached_property
    def overt_cells(self) -> Floats:
        """[frames, 1, words] log10 of p(word | variant's group) / p(word | standard's group)."""
        log_probs: Floats = self.answers["overt"]
        return figures.ratios(log_probs, np.array([0]), np.array([1]))

    def overt(self, weights_A: Floats | None = None) -> figures.Estimate:
        """Overt association of each word, or of a weighting of them; interval over prompts."""
        cells = self.overt_cells if weights_A is None else self.overt_cells @ weights_A[:, None]
        return figures.mean_of(cells, None, *self.how)

    def covert(self, weights_A: Floats) -> figures.Estimate:
        """A weighting of the traits' q."""
        return self.estimate(self.ratios("trait") @ weights_A[:, None])

    @cached_property
    def bias_weights(self) -> Floats | None:
        """Unfavourable against favourable traits."""
        return figures.bias_weights(self.words["trait"])

    def agreement(self, human: Sequence[str]) -> figures.Drawn:
        """With the words people chose most."""
        return figures.agreement_by_prompt(self.ratios("trait"), self.units, self.names("trait"), human, self.how)

    @cached_property
    def favourability(self) -> figures.Drawn | None:
        """Of the traits most tied to the variant; None without ratings."""
        return self.favourability_of(self.q("trait"))

    def favourability_of(self, q: figures.Estimate) -> figures.Drawn | None:
        """Of the traits of which `q` is highest; None without ratings."""
        rated = partial(figures.favourability, words=self.names("trait"), ratings=self.ratings)
        return figures.drawn_of(q, rated)

    @cached_property
    def prestige(self) -> figures.Drawn | None:
        """Slope of occupations' prestige on their association with the variant; None without ratings."""
        if "occupation" not in self.asked:
            return None
        return figures.drawn_of(self.q("occupation"), partial(figures.prestige_slope, esteem=self.esteem))

    @cached_property
    def esteem(self) -> list[float | None]:
        """[occupations] their prestige as people rate it."""
        return [self.ratings.esteem(word.lower()) for word in self.names("occupation")]

    def human(self) -> dict[str, list[str]]:
        """Each study's most chosen words, as far as they are asked for; studies with fewer than five are left out."""
        if len(self.names("trait")) <= figures.TOP:
            return {}
        found = {study: self.ratings.top(study, self.names("trait"))[: figures.TOP] for study in self.ratings.studies}
        return {study: words for study, words in found.items() if len(words) == figures.TOP}

    def verdicts(self, kind: str) -> figures.Verdicts:
        """What is decided for each text."""
        return figures.Verdicts.of(self.answers[kind], self.words[kind], self.texts.variant_P, self.texts.standard_P)

    def surprise_cells(self) -> Floats:
        """[1, pairs, 1] nats a token by which the variant is less expected than the standard."""
        loss_T: Floats = -self.answers["text_log_prob"] / np.maximum(self.answers["text_tokens"], 1)
        return (loss_T[self.texts.variant_P] - loss_T[self.texts.standard_P])[None, :, None]


def perplexity(findings: Findings) -> dict[str, float]:
    """Of the texts themselves in the first prompt: exp of the mean loss a token."""
    found = {}
    for side, places in (("variant", findings.texts.variant_P), ("standard", findings.texts.standard_P)):
        loss = -findings.answers["text_log_prob"][places].sum() / findings.answers["text_tokens"][places].sum()
        found[side] = float(np.exp(loss))
    return found


def decisions(findings: Findings) -> dict[str, Any]:
    """Rates of adverse decisions by kind, their difference with its interval, chi-square and Holm."""
    found: dict[str, Any] = {}
    for kind in findings.judged:
        verdicts = findings.verdicts(kind)
        gap = findings.gap(verdicts.variant_FP - verdicts.standard_FP)
        found[kind] = {**verdicts.counts(), "difference": gap.one()}
    for kind, p in figures.holm({kind: one["p"] for kind, one in found.items()}).items():
        found[kind]["p_holm"] = p
    return found


def by_feature(findings: Findings) -> dict[str, dict[str, float]]:
    """Covert bias of the pairs of each feature alone; of one unit nothing can be told."""
    weights = findings.bias_weights
    if weights is None:
        return {}
    cells, found = findings.ratios("trait") @ weights[:, None], {}
    for feature in dict.fromkeys(pair.feature for pair in findings.pairs):
        kept = [number for number, pair in enumerate(findings.pairs) if pair.feature == feature]
        units = [findings.units[number] for number in kept]
        if len(set(units)) > 1:
            found[feature] = figures.mean_of(cells[:, kept], units, *findings.how).one()
    return found


def studies(findings: Findings) -> dict[str, Any]:
    """Agreement and strength against each human study."""
    found = {}
    for study, human in findings.human().items():
        agreement = findings.agreement(human)
        found[study] = {
            "agreement": agreement.one(),
            "strength": findings.covert(figures.strength_weights(findings.names("trait"), human)).one(),
            "top": human,
        }
    return found


def employability(findings: Findings, q: figures.Estimate) -> dict[str, Any]:
    """Association of occupations with the variant, and the slope of their prestige on it with its interval."""
    found = figures.employability(q.value, findings.esteem)
    if found["prestige"] is not None:
        found["prestige"]["slope_interval"] = findings.prestige and findings.prestige.one()
    return found


def not_measured(findings: Findings) -> dict[str, str]:
    """What is missing, and what would bring it."""
    jobs, asked = bool(findings.words["occupation"]), set(findings.asked)
    prompts = {kind: f"needs prompts of kind {kind} in --frames" for kind in findings.words if kind not in asked}
    of_jobs = prompts.get("occupation", "") if jobs else "needs occupations: --attributes FILE"
    wanted = {
        "occupation": ("occupation" in asked, of_jobs),
        "agreement": (bool(findings.human()), "needs a human study of these traits: --ratings FILE"),
        **{
            f"agreement with {study}": (
                study in findings.human(),
                f"has fewer than {figures.TOP} words among those asked",
            )
            for study in findings.ratings.studies
        },
        "favourability": (
            findings.favourability is not None,
            f"needs a rating of each trait that is among the {figures.TOP} most tied to the variant, in nine of ten "
            "resamples too (--ratings FILE), and a trait that is tied to it",
        ),
        "employability": ("occupation" in asked, of_jobs),
        "prestige": (
            findings.prestige is not None,
            f"needs prestige of {figures.FEWEST_RATED} of the occupations or more: --ratings FILE",
        ),
        **{
            kind: (kind in findings.judged, prompts.get(kind, "needs options marked -1 and 1 in --attributes"))
            for kind in DECISIONS
        },
        "bias": (findings.bias_weights is not None, "needs traits marked favourable and unfavourable in --attributes"),
    }
    return {name: why for name, (there, why) in wanted.items() if not there}


def describe(findings: Findings) -> dict[str, Any]:
    """All of it as JSON values."""
    bias, q = findings.bias_weights, {kind: findings.q(kind) for kind in findings.asked}
    texts, traits = findings.texts, findings.names("trait")
    found: dict[str, Any] = {"q": {kind: _words(findings, kind, q[kind]) if kind in q else {} for kind in KINDS}}
    overt = findings.overt()
    found["overt"] = {word: overt.one(number) for number, word in enumerate(traits)}
    found["bias"] = (
        None if bias is None else {"covert": findings.covert(bias).one(), "overt": findings.overt(bias).one()}
    )
    found["studies"] = studies(findings)
    found["random_agreement"] = figures.random_agreement(len(traits))
    favour = {"covert": findings.favourability, "overt": findings.favourability_of(overt)}
    found["favourability"] = {name: one and one.value for name, one in favour.items()}
    found["favourability_interval"] = {name: one and one.one() for name, one in favour.items()}
    if "occupation" in q:
        found["employability"] = employability(findings, q["occupation"])
    found |= {"decisions": decisions(findings), "perplexity": perplexity(findings), "by_feature": by_feature(findings)}
    found["pairs"] = {"count": len(findings.pairs), "units": len(set(findings.units)), "texts": len(texts.texts)}
    found["prompts"] = {kind: int(findings.answers[kind].shape[0]) for kind in (*findings.asked, "overt")}
    found["not_measured"] = not_measured(findings)
    return found


def _words(findings: Findings, kind: str, q: figures.Estimate) -> dict[str, dict[str, Any]]:
    log_probs = findings.answers[kind][:, : len(findings.texts.texts)]
    texts = findings.texts
    pooled = findings.estimate(figures.pooled(log_probs, texts.variant_P, texts.standard_P))
    tokens = findings.answers[f"tokens_{kind}"].tolist()
    return {
        word: {
            **q.one(number),
            "pooled": float(pooled.value[number]),
            "pooled_interval": pooled.one(number),
            "tokens": int(tokens[number]),
        }
        for number, word in enumerate(findings.names(kind))
    }


def changes(before: Findings, after: Findings, change: Findings) -> Iterator[Figure]:
    """Base, tuned and their difference, whose interval comes from the differences of the answers."""
    n, unit = len(set(before.units)), "verb" if before.pairs[0].feature != "given" else "unit"
    prompts = int(before.answers["overt"].shape[0])

    def linear(name: str, values: tuple[figures.Estimate, ...], n: int, unit: str) -> Figure:
        was, now, rise = (one.one() for one in values)
        return Figure(f"dialect_{name}", was["value"], now["value"], rise["value"], rise["low"], rise["high"], n, unit)

    def drawn(name: str, was: figures.Drawn, now: figures.Drawn) -> Figure:
        rise = now.less(was)
        return Figure(f"dialect_{name}", was.value, now.value, rise.value, *rise.interval(), n, unit)

    every = (before, after, change)
    weights = before.bias_weights
    if weights is not None:
        yield linear("covert_bias", tuple(one.covert(weights) for one in every), n, unit)
        yield linear("overt_bias", tuple(one.overt(weights) for one in every), prompts, "prompt")
    for study, human in before.human().items():
        strength = figures.strength_weights(before.names("trait"), human)
        yield linear(f"strength_{study}", tuple(one.covert(strength) for one in every), n, unit)
        yield drawn(f"agreement_{study}", before.agreement(human), after.agreement(human))
    if before.favourability and after.favourability:
        # What people think of the traits tied to the variant: more is better.
        yield replace(drawn("favourability", before.favourability, after.favourability), higher_is_better=True)
    if "occupation" in before.asked:
        even = np.full(len(before.words["occupation"]), 1 / len(before.words["occupation"]))
        of_jobs = tuple(one.estimate(one.ratios("occupation") @ even[:, None]) for one in every)
        # More occupations tied to the variant are more jobs thought fit for its speakers.
        found = linear("employability", of_jobs, n, unit)
        yield replace(found, higher_is_better=True)
    if before.prestige and after.prestige:
        yield replace(drawn("prestige_slope", before.prestige, after.prestige), higher_is_better=True)
    for kind in before.judged:
        was_FP, now_FP = (one.verdicts(kind).variant_FP - one.verdicts(kind).standard_FP for one in (before, after))
        gaps = before.gap(was_FP), after.gap(now_FP), before.gap(now_FP - was_FP, most=2)
        yield linear(f"{kind}_gap", gaps, n, unit)
    cells = before.surprise_cells(), after.surprise_cells()
    of_texts = (before.estimate(one) for one in (*cells, cells[1] - cells[0]))
    yield linear("surprise", tuple(of_texts), n, unit)
