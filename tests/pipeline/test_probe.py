"""Probes in a run and under their own verb: forms, resuming, what cannot be measured, options."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tunewright.core import plugins
from tunewright.core.config import ProbeRequest
from tunewright.core.errors import NotMeasured, UserError
from tunewright.core.settings import PlanSettings
from tunewright.core.store import Run
from tunewright.evaluate.contracts import Figure, ProbeResult
from tunewright.evaluate.kept import arrays_by_content
from tunewright.evaluate.probes._base import afresh
from tunewright.models.contracts import Origin
from tunewright.pipeline import probe as verb
from tunewright.pipeline.probe import Apart, ask_probe, compare_probe, planned_probes, probe_key, unseen_note, unseen_of
from tunewright.pipeline.reopen import require_same_model

TEXT = frozenset({"token_log_probs", "next_log_probs", "text", "raw_texts", "choices", "generate"})


class Counting:
    """A probe in three pieces that breaks off at one of them."""

    version, section = "1", "more"

    def __init__(self) -> None:
        self.made: list[str] = []
        self.breaks_at = ""

    @classmethod
    def plugin_name(cls) -> str:
        return "counting"

    def __repr__(self) -> str:
        return "Counting()"

    def ask(self, model: Any, progress: Any, part: Any = afresh) -> dict[str, Any]:
        return {name: part(name, lambda name=name: self._piece(name))["x"] for name in "abc"}

    def _piece(self, name: str) -> dict[str, Any]:
        if name == self.breaks_at:
            raise KeyboardInterrupt
        self.made.append(name)
        return {"x": np.array([ord(name)])}

    def compare(self, base: Any, tuned: Any, seed: int, resamples: int) -> ProbeResult:
        return ProbeResult((Figure("f", 0, 1, 1, 1, 1, 3),), (), "Found.")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_an_interrupted_asking_goes_on_where_it_was_and_leaves_only_the_whole(cache: Path) -> None:
    probe: Any = Counting()
    probe.breaks_at = "c"
    with pytest.raises(KeyboardInterrupt):
        ask_probe(probe, SimpleNamespace(), ("m",), print)
    probe.breaks_at = ""
    found: Any = ask_probe(probe, SimpleNamespace(), ("m",), print)
    assert probe.made == ["a", "b", "c"]
    assert {name: value.tolist() for name, value in found.items()} == {"a": [97], "b": [98], "c": [99]}
    assert [path.suffix for path in (cache / "evaluations").iterdir()] == [".npz"]
    ask_probe(probe, SimpleNamespace(), ("m",), print)
    assert len(probe.made) == 3
    ask_probe(probe, SimpleNamespace(), ("another model",), print)
    assert len(probe.made) == 6


def test_a_torn_file_is_asked_again(tmp_path: Path) -> None:
    first, path = arrays_by_content("k", lambda part: {"x": np.arange(3)}, tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    again, _ = arrays_by_content("k", lambda part: {"x": np.arange(4)}, tmp_path)
    assert (len(first["x"]), len(again["x"])) == (3, 4)


def test_what_cannot_be_measured_has_no_figure_and_says_why() -> None:
    probe: Any = Counting()
    figures, file = compare_probe(probe, {}, {}, 0, 200)
    assert ([figure.name for figure in figures], file["sentence"]) == (["f"], "Found.")
    for base, tuned in ((NotMeasured("No judge."), {}), ({}, NotMeasured("No judge."))):
        figures, file = compare_probe(probe, base, tuned, 0, 200)
        assert figures == ()
        assert (file["figures"], file["not_measured"]) == ([], "No judge.")
        assert file["blocks"][0]["paragraphs"] == ["No judge."]
        assert "not measured" in file["sentence"]


def test_forms_stand_for_every_probe_that_has_them_and_later_words_count() -> None:
    for form in ("quick", "full"):
        found = planned_probes([form], TEXT)
        having = [kind for kind in plugins.everything("probes") if form in kind.forms and kind.needs <= TEXT]
        assert having
        assert {name: found[name] for name in sorted(found)} == {
            kind.plugin_name(): kind(**kind.forms[form]) for kind in having
        }
    assert planned_probes([], TEXT) == {}
    assert list(planned_probes(["retention"], TEXT)) == ["retention"]
    assert planned_probes(["quick"], frozenset()) == {}


def test_what_was_forgotten_is_asked_whatever_else_is() -> None:
    assert list(planned_probes(["dialect"], TEXT)) == ["retention", "dialect"]


def test_what_an_objective_trained_on_is_left_out_unless_the_plan_says_otherwise() -> None:
    settings = PlanSettings.model_validate({"objective": "guise_consistency"})
    unseen = unseen_of(settings)
    assert unseen == {"dialect": Apart({"portion": "held_out"})}
    for words in (["quick"], ["full"], ["dialect"], [{"name": "dialect", "count": 200}], ["dialect(count=24)"]):
        assert planned_probes(words, TEXT, unseen)["dialect"].portion == "held_out"
    given = {"name": "dialect", "pairs": "mine.tsv"}
    assert planned_probes([given], TEXT, unseen)["dialect"].portion == "all", "nothing of a file is known to be seen"
    assert planned_probes([{**given, "pairs": None}], TEXT, unseen)["dialect"].portion == "held_out"
    both = planned_probes([{**given, "frames": "prompts.tsv"}], TEXT, unseen)["dialect"]
    assert "whether training saw it is not known" in unseen_note(both, unseen["dialect"])
    own = {"name": "dialect", "portion": "all"}
    asked = [planned_probes(["quick", *more], TEXT, unseen)["dialect"] for more in ([], [own])]
    assert [one.portion for one in asked] == ["held_out", "all"]
    assert [unseen_note(one, unseen["dialect"]) for one in asked] == [
        "The probe dialect leaves out what training saw (portion: held_out).",
        "The probe dialect also asks what training saw (not portion: held_out).",
    ]
    spoken = [unseen_of(PlanSettings.model_validate({"train": {"mitigations": [{"name": "counterfactual", **how}]}}))
              for how in ({}, {"portion": "trained"})]  # fmt: skip
    assert spoken == [{"dialect": Apart({}, all_of_it=False)}, unseen]
    both = PlanSettings.model_validate({"objective": "guise_consistency", "train": {"mitigations": ["counterfactual"]}})
    one = planned_probes(["dialect"], TEXT, unseen_of(both))["dialect"]
    assert one.portion == "held_out", "what the objective trained is asked by nobody"
    assert "may ask what training saw" in unseen_note(one, unseen_of(both)["dialect"])
    assert unseen_of(PlanSettings()) == {}


def test_the_verb_asks_of_a_run_what_training_did_not_see_unless_it_is_told_so(tmp_path: Path) -> None:
    def built(**fields: list[str]) -> Any:
        question = ProbeRequest("dialect", None, tmp_path, tmp_path / "o.json", "full", "float32", fields)
        return verb._built(question, Apart({"portion": "held_out"}))

    assert (built().portion, built(count=["12"]).portion, built(portion=["all"]).portion) == (
        "held_out", "held_out", "all"
    )  # fmt: skip
    assert built(pairs=[str(tmp_path)]).portion == "all"


def test_the_base_of_a_run_must_be_the_one_it_was_trained_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write("info.json", {"model": {"digest": "a", "reading": "r"}})
    require_same_model(run, Origin("m", tmp_path, "a", reading="r"), "m")
    for other, word in ((Origin("m", tmp_path, "b", reading="r"), "The model"),
                        (Origin("m", tmp_path, "a", reading="s"), "The tokenizer")):  # fmt: skip
        with pytest.raises(UserError, match=f"{word}.*another one"):
            require_same_model(run, other, "m")


def test_the_verb_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    def asked(name: str = "retention", form: str = "full", **fields: list[str]) -> list[str]:
        with pytest.raises(UserError) as caught:
            verb.probe(ProbeRequest(name, "m", None, tmp_path / "o.json", form, "float32", fields))
        return caught.value.problems

    assert "retention" in asked("retentoin")[0]
    assert "quick" in asked(form="short")[0]
    assert "unknown key" in asked(pairs=["x"])[0]


def test_ratings_are_no_part_of_the_question_so_answers_are_not_asked_again_for_them(tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.json"
    ratings.write_text('{"favourability": {"lazy": -1.3}}')
    plain, rated, fewer = (
        plugins.build("probes", {"name": "dialect", **fields}) for fields in ({}, {"ratings": ratings}, {"count": 12})
    )
    assert probe_key(plain, ()) == probe_key(rated, ())
    assert probe_key(plain, ()) != probe_key(fewer, ())
