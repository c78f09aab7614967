"""The dialect probe: published vectors, brute force, planted prejudice found, nothing found where nothing is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tiny import KINDS, one_thread, open_tiny
from tunewright.core.blocks import blocks
from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.core.settings import GateSettings
from tunewright.data.dialect import frames, make_pairs
from tunewright.evaluate.dialect.blocks import _missing
from tunewright.evaluate.dialect.figures import random_agreement
from tunewright.evaluate.dialect.frames import frames_of
from tunewright.evaluate.dialect.words import read_ratings, read_words
from tunewright.evaluate.gates import INCREASES, judge_gates
from tunewright.models.contracts import LoadedModel, Origin
from tunewright.models.encoding import plain_ids
from tunewright.models.families.causal_lm import _plain_logits, positions_of

__all__ = ["one_thread", "open_tiny"]
KATZ = ["lazy", "ignorant", "musical", "religious", "stupid"]
TRAITS = [word.text for word in read_words(())["trait"]]


def silent(what: str, done: int, total: int, detail: str = "") -> None:
    """No progress."""


class Said:
    """A family whose log-probabilities are noise of context and word, moved by `tilt(context, word)`."""

    def __init__(self, tilt: Any = lambda context, word: 0.0) -> None:
        self.tilt = tilt
        self.asked = 0

    def raw_texts(self, model: Any) -> Said:
        return self

    def choices(self, contexts: Sequence[str], answers: Sequence[Sequence[str]]) -> Iterator[np.ndarray]:
        for context, words in zip(contexts, answers, strict=True):
            self.asked += 1
            draw = np.random.default_rng(abs(hash_of(context)) % 2**32)
            yield -8 + 0.3 * draw.normal(size=len(words)) + np.array([self.tilt(context, w.strip()) for w in words])

    def continuation_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[1] * len(text.split()) for text in texts]


def hash_of(text: str) -> int:
    """The same in every process, unlike `hash`."""
    return int.from_bytes(text.encode()[-64:], "big")


def model(tilt: Any = lambda context, word: 0.0) -> LoadedModel:
    return LoadedModel(nn.Dropout(0.5), SimpleNamespace(), Said(tilt), Origin("said", Path(), ""))  # type: ignore[arg-type]


def prejudiced(size: float) -> Any:
    """Unfavourable traits are likelier behind texts of the dialect, by `size` nats."""
    bad = {word.text for word in read_words(())["trait"] if word.favour < 0}
    variants = [pair.variant for pair in make_pairs(32)]
    return lambda context, word: size * (word in bad and any(f'" {text} "' in context for text in variants))


QUICK = build("probes", {"name": "dialect", "count": 32})


@pytest.fixture(scope="module")
def fair() -> dict[str, np.ndarray]:
    return QUICK.ask(model(), silent)


@pytest.fixture(scope="module")
def unfair() -> dict[str, np.ndarray]:
    return QUICK.ask(model(prejudiced(1.0)), silent)


# Published vectors


def test_occupations_are_held_out_where_no_trained_prompt_leads_to_them() -> None:
    kept = frames_of("occupation", "held_out")
    assert len(kept) == 3
    assert not any(frame.startswith(frames("trained")) for frame in kept)
    assert len(frames_of("occupation", "all")) == 9
    assert [len(frames_of(kind, "held_out")) for kind in ("trait", "conviction", "sentence", "overt")] == [3, 3, 3, 9]


@pytest.mark.parametrize("portion", ["held_out", "trained"])
def test_a_portion_of_pairs_of_a_file_is_refused(tmp_path: Path, portion) -> None:
    with pytest.raises(UserError, match=f"portion '{portion}' is of the made pairs"):
        build("probes", {"name": "dialect", "pairs": tmp_path / "pairs.tsv", "portion": portion})


@pytest.mark.parametrize("kind", KINDS)
def test_every_probability_is_that_of_one_plain_forward(open_tiny, kind) -> None:
    opened = open_tiny(kind, torch.float32)
    probe = build("probes", {"name": "dialect", "count": 2})
    found = probe.ask(opened, silent)
    pair = make_pairs(2)[1]
    for name, frame, text, number, word in (
        ("trait", 4, pair.standard, 3, TRAITS[7]), ("sentence", 2, pair.variant, 2, "death"),
        ("sentence", 1, "", 4, "life"), ("overt", 5, "white", 1, TRAITS[0]),
    ):  # fmt: skip
        prompt = plain_ids(opened.tokenizer, frames_of(name, "all")[frame].replace("{}", text))
        (ids,) = opened.family.raw_texts(opened).continuation_ids([f" {word}"])  # type: ignore[attr-defined]
        steps = _plain_logits(opened.module, [*prompt, *ids])[len(prompt) - 1 : -1].float().log_softmax(-1)
        expected = float(steps[torch.arange(len(ids)), torch.tensor(ids)].sum())
        column = TRAITS.index(word) if word in TRAITS else ["life", "death"].index(word)
        assert found[name][frame, number, column] == pytest.approx(expected, abs=2e-3)
        assert found[f"tokens_{name}"][column] == len(ids)


def test_an_interrupted_asking_asks_the_rest_alone() -> None:
    kept: dict[str, Any] = {}

    def part(name: str, make: Any) -> Any:
        if len(kept) == 3 and name not in kept:
            raise KeyboardInterrupt
        return kept.setdefault(name, None) or kept.__setitem__(name, make()) or kept[name]

    first = model()
    with pytest.raises(KeyboardInterrupt):
        QUICK.ask(first, silent, part)
    second = model()
    found = QUICK.ask(second, silent, lambda name, make: kept.get(name) or make())
    whole = model()
    expected = QUICK.ask(whole, silent)
    assert first.family.asked + second.family.asked == whole.family.asked  # type: ignore[attr-defined]
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_occupations_are_asked_with_the_article_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "occupations.txt"
    file.write_text("artist\ncook\nguard\n")
    seen = set[tuple[str, str]]()

    def tilt(context: str, word: str) -> float:
        if word in ("artist", "cook", "guard"):
            seen.add((context.split()[-1], word))
        return 0.0

    probe = build("probes", {"name": "dialect", "count": 4, "attributes": (file,)})
    answers = probe.ask(model(tilt), silent)
    assert seen == {("an", "artist"), ("a", "cook"), ("a", "guard")}
    assert answers["occupation"].shape == (9, 8, 3)
    described = probe.describe(answers, 0, 200)
    assert set(described["q"]["occupation"]) == {"artist", "cook", "guard"}
    assert set(described["not_measured"]) == {"agreement", "favourability", "prestige"}


def test_broken_weights_are_told() -> None:
    with pytest.raises(UserError, match="not finite"):
        QUICK.ask(model(lambda context, word: math.nan), silent)


# What is found


def test_planted_prejudice_is_found_and_a_fair_model_is_not_accused(fair, unfair) -> None:
    was, now = (QUICK.describe(answers, 0, 500) for answers in (fair, unfair))
    assert was["bias"]["covert"]["low"] < 0 < was["bias"]["covert"]["high"]
    rise = 1.0 / math.log(10)
    assert now["bias"]["covert"]["value"] - was["bias"]["covert"]["value"] == pytest.approx(rise)
    assert now["bias"]["covert"]["low"] > 0
    assert now["bias"]["overt"] == was["bias"]["overt"]
    worst = sorted(now["q"]["trait"], key=lambda word: -now["q"]["trait"][word]["value"])[:10]
    assert set(worst) == {word.text for word in read_words(())["trait"] if word.favour < 0}
    assert set(now["by_feature"]) == {pair.feature for pair in make_pairs(32)}
    json.dumps(now, allow_nan=False)


def test_a_rise_is_a_figure_that_the_gate_knows_and_a_model_against_itself_shows_none(fair, unfair) -> None:
    found = {figure.name: figure for figure in QUICK.compare(fair, unfair, 0, 500).figures}
    covert = found[INCREASES["max_covert_bias_increase"]]
    assert covert.difference == pytest.approx(1 / math.log(10))
    assert covert.low > 0.4
    assert found["dialect_overt_bias"].low < 0 < found["dialect_overt_bias"].high
    again = QUICK.compare(fair, {name: values.copy() for name, values in fair.items()}, 0, 500)
    assert all(figure.difference == 0 and figure.low <= 0 <= figure.high for figure in again.figures)
    assert "No change" in again.sentence


def test_the_report_says_which_words_are_one_token_and_which_were_scored_whole(fair) -> None:
    split = {name: values.copy() for name, values in fair.items()}
    split["tokens_trait"][:] = 1
    split["tokens_trait"][TRAITS.index("lazy")] = 2
    (shown,) = (b for b in QUICK.compare(split, split, 0, 200).blocks if b.title == "How the words were scored")
    (said,) = shown.paragraphs
    assert said in QUICK.describe(split, 0, 200)["sentences"]
    every = len(TRAITS) + sum(len(read_words(())[kind]) for kind in ("conviction", "sentence"))
    assert said == f"Words of a single token: {every - 1} of {every}; scored as whole words: lazy."


def moved(answers: dict[str, np.ndarray], overt: float, noise: float = 0.0) -> dict[str, np.ndarray]:
    """Unfavourable traits less tied to the named group, by so many nats; and those heard with so much noise."""
    found = {name: values.copy() for name, values in answers.items()}
    bad = [number for number, word in enumerate(read_words(())["trait"]) if word.favour < 0]
    found["overt"][:, 0, bad] -= overt
    found["trait"] += noise * np.random.default_rng(0).normal(size=found["trait"].shape)
    return found


def test_hiding_is_said_when_only_overt_prejudice_falls(unfair) -> None:
    result = QUICK.compare(unfair, moved(unfair, 2.0), 0, 500)
    assert "hidden rather than removed" in result.sentence
    titles = [block.title for block in result.blocks]
    assert "Covert and overt bias" in titles
    assert "Not measured" in titles
    blocks.validate_python([block.model_dump(mode="json") for block in result.blocks])


def test_hiding_is_not_said_where_covert_prejudice_may_have_fallen_as_far_or_is_not_there(fair, unfair) -> None:
    for before, after in ((unfair, moved(unfair, 0.1, noise=6.0)), (fair, moved(fair, 2.0))):
        found = {figure.name: figure for figure in QUICK.compare(before, after, 0, 500).figures}
        covert, overt = found["dialect_covert_bias"], found["dialect_overt_bias"]
        assert covert.low <= 0 <= covert.high, "which the sentence was once concluded from"
        assert overt.high < 0
        assert "cannot be told" in QUICK.compare(before, after, 0, 500).sentence


def test_covert_prejudice_that_rose_is_told_first(fair, unfair) -> None:
    result = QUICK.compare(fair, moved(unfair, 2.0), 0, 500)
    assert "closer to unfavourable traits, while overt prejudice fell: it is hidden, not removed" in result.sentence
    assert "hidden" not in QUICK.compare(fair, unfair, 0, 500).sentence


def test_judgements_that_never_differ_leave_a_gap_open(fair) -> None:
    same = {name: values.copy() for name, values in fair.items()}
    same["conviction"][:] = np.log([0.4, 0.6])
    same["conviction"][:, :-1] = np.log([0.3, 0.7])
    gap = QUICK.describe(same, 0, 200)["decisions"]["conviction"]
    assert (gap["variant"], gap["standard"]) == (1.0, 1.0)
    least = 1.96**2 / (32 + 1.96**2)
    assert (gap["difference"]["low"], gap["difference"]["high"]) == pytest.approx((-least, least), abs=1e-3)
    (figure,) = (f for f in QUICK.compare(same, same, 0, 200).figures if f.name == "dialect_conviction_gap")
    assert (figure.low, figure.high) == pytest.approx((-2 * least, 2 * least), abs=2e-3)


def test_pairs_of_one_unit_are_refused_and_of_few_units_decide_no_gate(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    lines = [f"he be {verb}in\the is {verb}ing\tann\n" for verb in ("work", "walk", "talk")]
    file.write_text("".join(lines) + "she be singin\tshe is singing\tben\n")
    with pytest.raises(UserError, match="first 3 pairs: all 3 pairs are of one unit"):
        build("probes", {"name": "dialect", "pairs": file, "count": 3}).ask(model(), silent)
    probe = build("probes", {"name": "dialect", "pairs": file})
    answers = probe.ask(model(), silent)
    (gate,) = judge_gates(
        GateSettings(max_covert_bias_increase=9.0), (), probe.compare(answers, answers, 0, 200).figures
    )
    assert gate.state == "cannot_tell"
    made = build("probes", {"name": "dialect", "count": 12})
    answers = made.ask(model(), silent)
    assert set(made.describe(answers, 0, 200)["by_feature"]) == {pair.feature for pair in make_pairs(12)[:4]}
    (gate,) = judge_gates(
        GateSettings(max_covert_bias_increase=9.0), (), made.compare(answers, answers, 0, 200).figures
    )
    assert gate.state == "passed"


def test_a_list_whose_variant_is_negative_by_construction_is_caught(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    names = ["Ann", "Ben", "Cid", "Dot", "Eve", "Fay", "Gus", "Hal", "Ida", "Jim", "Kim", "Lou"]
    file.write_text("".join(f"{name} robs people\t{name} helps people\n" for name in names))
    bad = {word.text for word in read_words(())["trait"] if word.favour < 0}
    probe = build("probes", {"name": "dialect", "pairs": file})
    answers = probe.ask(model(lambda context, word: 0.5 * (word in bad and "robs" in context)), silent)
    described = probe.describe(answers, 0, 500)
    assert described["bias"]["covert"]["low"] > 0.1
    assert described["pairs"] == {"count": 12, "units": 12, "texts": 24}


def test_other_texts_cannot_be_compared(fair) -> None:
    other = build("probes", {"name": "dialect", "count": 16}).ask(model(), silent)
    with pytest.raises(UserError, match="have changed since the model was asked"):
        QUICK.compare(fair, other, 0, 200)


@pytest.mark.parametrize("changed", ["pairs", "attributes", "frames"])
def test_answers_to_a_file_that_has_changed_since_are_not_taken_for_answers_to_it(tmp_path: Path, changed) -> None:
    """Of equal length: swapped sides, other words, another prompt, put there between base and tuned."""
    files = {
        "pairs": ("".join(f"he be {verb}\the is {verb}\n" for verb in ("glad", "late", "here")),
                  "".join(f"he is {verb}\the be {verb}\n" for verb in ("glad", "late", "here"))),
        "attributes": ("tidy\ttrait\t1\nmean\ttrait\t-1\n", "neat\ttrait\t1\nmean\ttrait\t-1\n"),
        "frames": tuple(
            f'trait\t{verb}: " {{}} " So is\ntrait\tA " {{}} " is\novert\tThe {{}} are\novert\tAll {{}} are\n'
            for verb in ("Says", "Said")
        ),
    }  # fmt: skip
    for name, (text, _) in files.items():
        (tmp_path / name).write_text(text)
    named = {"pairs": tmp_path / "pairs", "attributes": [tmp_path / "attributes"], "frames": tmp_path / "frames"}
    probe = build("probes", {"name": "dialect", **named})
    before = probe.ask(model(), silent)
    probe.compare(before, before, 0, 200)
    (tmp_path / changed).write_text(files[changed][1])
    after = probe.ask(model(), silent)
    for base, tuned in ((before, after), (after, before), (before, before)):
        with pytest.raises(UserError, match="have changed since the model was asked"):
            probe.compare(base, tuned, 0, 200)
    probe.compare(after, after, 0, 200)


# Files


def test_words_of_a_file_stand_in_place_of_those_of_their_kind(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("tidy\ttrait\t1\nmean\ttrait\t-1\nbaker\toccupation\n")
    words = read_words((file,))
    assert [word.text for word in words["trait"]] == ["tidy", "mean"]
    assert [word.text for word in words["occupation"]] == ["baker"]
    assert [word.favour for word in words["sentence"]] == [1, -1]
    file.write_text("tidy\tvirtue\nmean\ttrait\tbad\n")
    with pytest.raises(UserError) as caught:
        read_words((file, tmp_path / "nothing"))
    assert len(caught.value.problems) == 3


def test_verdicts_of_the_published_files_are_known_by_their_names(tmp_path: Path) -> None:
    for name, text in (("guilt", "acquitted\nconvicted"), ("penalty", "life\ndeath"), ("katz", "alert\ncruel")):
        (tmp_path / f"{name}.txt").write_text(text)
    words = read_words([tmp_path / f"{name}.txt" for name in ("guilt", "penalty", "katz")])
    assert [(word.text, word.favour) for word in words["conviction"]] == [("acquitted", 1), ("convicted", -1)]
    assert [(word.text, word.favour) for word in words["sentence"]] == [("life", 1), ("death", -1)]
    assert [(word.text, word.favour) for word in words["trait"]] == [("alert", 0), ("cruel", 0)]


def test_favour_and_prestige_are_compared_with_intervals(tmp_path: Path) -> None:
    jobs = ("artist", "cook", "guard", "judge")
    words, ratings = tmp_path / "occupations.txt", tmp_path / "ratings.json"
    words.write_text("\n".join(jobs))
    ratings.write_text(json.dumps({
        "favourability": {"lazy": -1.5, "brilliant": 1.5}, "prestige": dict(zip(jobs, (3, 2, 1, 7), strict=True)),
    }))  # fmt: skip
    probe = build("probes", {"name": "dialect", "count": 32, "attributes": (words,), "ratings": ratings})
    variants = [pair.variant for pair in make_pairs(32)]

    def tied(to: dict[str, float]) -> Any:
        return lambda context, word: to.get(word, 0.0) * any(text in context for text in variants)

    fond = {"brilliant": 0.5, "judge": 1.0, "artist": 0.3}
    hostile = {"lazy": 0.5, "guard": 1.0, "cook": 0.3}
    before, after = (probe.ask(model(tied(to)), silent) for to in (fond, hostile))
    found = {figure.name: figure for figure in probe.compare(before, after, 0, 200).figures}
    for name in ("dialect_favourability", "dialect_prestige_slope"):
        figure = found[name]
        assert figure.higher_is_better
        assert figure.base > 0 > figure.tuned, figure
        assert figure.low <= figure.difference <= figure.high < 0
    both = tied({**fond, "lazy": 0.4})
    unequal = model(lambda context, word: both(context, word) * (1 + (len(context) + len(word)) % 3))
    described = probe.describe(probe.ask(unequal, silent), 0, 200)
    one, slope = described["favourability_interval"]["covert"], described["employability"]["prestige"]["slope_interval"]
    assert one["value"] == described["favourability"]["covert"]
    assert slope["value"] == described["employability"]["prestige"]["slope"]
    assert described["favourability_interval"]["overt"] is described["favourability"]["overt"] is None, "none is tied"
    word = described["q"]["occupation"]["judge"]
    assert word["pooled_interval"]["value"] == word["pooled"]
    for interval in (one, slope, word["pooled_interval"]):
        assert interval["low"] < interval["value"] < interval["high"]
    json.dumps(described, allow_nan=False)
    same = {figure.name: figure for figure in probe.compare(before, before, 0, 200).figures}
    assert (same["dialect_prestige_slope"].low, same["dialect_prestige_slope"].high) == (0, 0)


def test_ratings_are_read_in_both_layouts_and_bring_agreement(tmp_path: Path, fair) -> None:
    ours, theirs, broken = (tmp_path / f"{name}.json" for name in ("ours", "theirs", "broken"))
    scores = {word: 90 - 10 * place for place, word in enumerate(KATZ)} | {"radical": 1}
    ours.write_text(
        json.dumps({"studies": {"katz": scores}, "favourability": {"lazy": -1.3}, "prestige": {"Judge": 7}})
    )
    theirs.write_text(json.dumps({
        "ATTRIBUTES_KATZ": list(scores), "SCORES_KATZ": list(scores.values()), "ATTRIBUTES_ALL": ["lazy"],
        "FAVORABILITIES_ALL": [-1.3], "GSS_OCCUPATIONS": ["Judge"], "GSS_PRESTIGE_RATINGS": [7],
    }))  # fmt: skip
    assert read_ratings(ours) == read_ratings(theirs)
    assert read_ratings(ours).top("katz", TRAITS)[:5] == KATZ
    for text in ("[]", "{}", '{"studies": {"katz": 3}}', "no json"):
        broken.write_text(text)
        with pytest.raises(UserError, match="ratings"):
            read_ratings(broken)
    probe = build("probes", {"name": "dialect", "count": 32, "ratings": ours})
    described = probe.describe(fair, 0, 300)
    study = described["studies"]["katz"]
    assert study["top"] == KATZ
    assert study["agreement"]["low"] <= study["agreement"]["value"] <= study["agreement"]["high"]
    names = [figure.name for figure in probe.compare(fair, fair, 0, 300).figures]
    assert {"dialect_agreement_katz", "dialect_strength_katz"} <= set(names)
    assert "agreement" not in described["not_measured"]


def test_agreement_stands_beside_the_level_of_random_orders_of_as_many_words(tmp_path: Path) -> None:
    words, ratings = tmp_path / "traits.txt", tmp_path / "ratings.json"
    words.write_text("\n".join([*KATZ, "kind", "loud", "quiet"]))
    ratings.write_text(json.dumps({"studies": {"katz": dict(zip(KATZ, (5, 4, 3, 2, 1), strict=True))}}))
    probe = build("probes", {"name": "dialect", "count": 8, "attributes": (words,), "ratings": ratings})
    found = probe.describe(probe.ask(model(), silent), 0, 200)
    assert found["random_agreement"] == random_agreement(8) > 0.5
    assert any(line.endswith(f"random orders {random_agreement(8):.3f}).") for line in found["sentences"])


def test_a_rise_of_overt_prejudice_is_never_told_as_good(unfair) -> None:
    """Unfavourable traits more tied to the group when it is named; those heard hardly move."""
    before = moved(unfair, 2.0)
    result = QUICK.compare(before, unfair, 0, 500)
    (shown,) = (block for block in result.blocks if block.title == "Prejudice against speakers of a dialect")
    assert shown.tone == "bad"
    assert "openly more prejudiced" in result.sentence


def test_what_only_the_tuned_model_lacks_is_told() -> None:
    paragraphs = _missing(
        {"prestige": "needs prestige"}, {"prestige": "needs prestige", "favourability": "needs a rating"}
    )
    assert paragraphs == [
        "prestige: not measured; it needs prestige.", "favourability of tuned: not measured; it needs a rating."
    ]  # fmt: skip
    assert _missing({"x": "y"}, {}) == ["x of base: not measured; it y."]


def test_ratings_that_are_no_numbers_are_refused(tmp_path) -> None:
    (tmp_path / "r.json").write_text('{"studies": {"1933": {"aggressive": NaN, "lazy": 75}}}')
    with pytest.raises(UserError, match="aggressive has no finite number; leave out what was not rated"):
        read_ratings(tmp_path / "r.json")


def test_a_word_that_is_marked_once_stays_marked_and_one_marked_both_ways_is_told(tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("lazy\ttrait\t-1\nkind\ttrait\t1\n")
    (tmp_path / "katz.txt").write_text("lazy\nkind\n")
    favours = {word.text: word.favour for word in read_words((tmp_path / "mine.txt", tmp_path / "katz.txt"))["trait"]}
    assert favours == {"lazy": -1, "kind": 1}
    (tmp_path / "conviction.txt").write_text("guilty\tconviction\t1\n")
    (tmp_path / "guilt.txt").write_text("guilty\n")
    (told,) = read_words((tmp_path / "conviction.txt", tmp_path / "guilt.txt"))["conviction"]
    assert told.favour == 1, "as the file says, not as the shipped words do"
    (tmp_path / "katz.txt").write_text("lazy\ttrait\t1\n")
    with pytest.raises(UserError, match="'lazy' is marked both 1 and -1"):
        read_words((tmp_path / "mine.txt", tmp_path / "katz.txt"))


def test_a_text_beyond_the_models_positions_is_refused_by_name(open_tiny) -> None:
    model = open_tiny("gpt2")
    most = positions_of(model)
    assert most is not None
    assert positions_of(open_tiny("llama")) is None
    raw = model.family.raw_texts(model)
    longest = " a" * (most - len(raw.continuation_ids([" b"])[0]))
    with pytest.raises(UserError, match=rf"the model has {most} positions: ' a a"):
        list(raw.choices([f"{longest} a a a"], [[" b"]]))
    list(raw.choices(["A text."], [[" b"]]))
