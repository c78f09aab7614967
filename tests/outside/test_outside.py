"""Sounds and pictures, brought by a package that Tunewright does not know, go the whole way that text goes."""

from __future__ import annotations

import ast
import importlib
import json
import math
import os
import random
import re
import shutil
import signal
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tunewright
from commands import Started
from tunewright.cli import main
from tunewright.core.config import Request
from tunewright.core.errors import UserError
from tunewright.core.progress import silent
from tunewright.core.records import Part
from tunewright.core.seeds import stream
from tunewright.core.store import Run
from tunewright.data import named_columns
from tunewright.models.contracts import Origin
from tunewright.pipeline.check import check, plan
from tunewright.pipeline.evaluate import evaluate
from tunewright.pipeline.predict import predict
from tunewright.pipeline.train import train
from tunewright.pipeline.tune import tune

HERE = Path(__file__).parent
SOURCE = Path(tunewright.__file__).parent
SETS = (
    "train.max_steps=30",
    "train.save_steps=4",
    "train.per_device_train_batch_size=32",
    "train.threads=1",
    "evaluate.resamples=200",
)
KILLED_AT, PERIODS = 18, {"low": 17, "high": 5}
PICTURES = {"cross": np.eye(8) + np.eye(8)[::-1], "bars": np.tile([1.0, 0.0], (8, 4)), "half": np.tri(8)}


@dataclass(frozen=True)
class Kind:
    """One kind of model with its rows on disk."""

    data: Path
    model: Path
    recipe: str

    def request(self, out: Path | None, *sets: str, data: Path | None = None) -> Request:
        own = {one.split("=")[0] for one in sets}
        kept = [one for one in SETS if one.split("=")[0] not in own]
        return Request(str(data or self.data), None, (*kept, *sets), (), out, self.recipe, str(self.model))


@pytest.fixture(scope="module", autouse=True)
def _outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package is installed for these tests alone: on the path, with nothing remembered before or after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.setenv("TUNEWRIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        threads = torch.get_num_threads()
        _forget()
        yield
        torch.set_num_threads(threads)
    _forget()


def _forget() -> None:
    importlib.invalidate_caches()
    named_columns.known_formats.cache_clear()


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Kind:
    folder = tmp_path_factory.mktemp("audio")
    module, family = _plugin("tiny_audio"), _plugin("tiny_audio").TinyAudio()
    _save(folder, module, family, module.Net(8, 2), ("high", "low"))
    rows = [
        {"waveform": sound(i, label), "label": label, "speaker": f"s{i // 2}"}
        for i, label in enumerate(random.Random(0).choices(list(PERIODS), k=360))
    ]
    for number, row in enumerate(rows[:5]):
        row["waveform"] = _wav(folder / "sounds" / f"{number}.wav", row["waveform"])
    _write(folder / "rows.jsonl", rows)
    labels = [row["label"] for row in rows]
    random.Random(1).shuffle(labels)
    _write(folder / "shuffled.jsonl", [{**row, "label": label} for row, label in zip(rows, labels, strict=True)])
    return Kind(folder / "rows.jsonl", folder / "model", "sounds")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Kind:
    folder = tmp_path_factory.mktemp("pictures")
    module = _plugin("tiny_diffusion")
    _save(folder, module, module.TinyDiffusion(), module.Net(64), None)
    rows = []
    for number, name in enumerate(random.Random(0).choices(list(PICTURES), k=240)):
        image = PICTURES[name] + 0.1 * stream("picture", number).standard_normal((8, 8))
        rows.append({"caption": f"number {number}: {name}", "image": image.round(3).tolist()})
    _write(folder / "rows.jsonl", rows)
    return Kind(folder / "rows.jsonl", folder / "model", "denoise")


def _plugin(name: str) -> Any:
    return importlib.import_module(name)


def _save(folder: Path, module: Any, family: Any, net: torch.nn.Module, processor: Any) -> None:
    torch.manual_seed(0)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    (folder / "model").mkdir()
    family.save(module.LoadedModel(net, processor, family, Origin("", folder, "")), folder / "model")


def sound(number: int, label: str) -> list[float]:
    """A tone whose pitch is its label, of any length and phase, under noise."""
    draw = stream("sound", number)
    length, phase = int(draw.integers(60, 90)), draw.uniform(0, 2 * math.pi)
    tone = np.sin(2 * math.pi * np.arange(length) / PERIODS[label] + phase)
    return (0.5 * tone + 0.2 * draw.standard_normal(length)).clip(-1, 1).round(4).tolist()


def _wav(path: Path, samples: Sequence[float]) -> str:
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((np.array(samples) * (2**15 - 1)).astype("<i2").tobytes())
    return f"{path.parent.name}/{path.name}"


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def audio_run(audio: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "audio"
    assert tune(audio.request(out)).exit_code == 0
    return out


@pytest.fixture(scope="module")
def pictures_run(pictures: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pictures"
    assert tune(pictures.request(out)).exit_code == 0
    return out


def test_a_planted_sound_is_learned_and_proven(audio_run: Path) -> None:
    verdict = Run.open(audio_run).read("verdict.json")
    (accuracy,) = [metric for metric in verdict["metrics"] if metric["primary"]]
    assert verdict["verdict"] == "better"
    assert accuracy["tuned"] > 0.9 > accuracy["base"]
    assert set(accuracy["baselines"]) == {"majority", "prior"}


def test_shuffled_labels_are_not_called_better(audio: Kind, tmp_path: Path) -> None:
    result = tune(audio.request(tmp_path / "run", data=audio.data.with_name("shuffled.jsonl")))
    assert result.exit_code == 3
    assert Run.open(tmp_path / "run").read("verdict.json")["verdict"] != "better"


def test_a_denoiser_is_learned_and_proven_by_its_own_loss(pictures_run: Path) -> None:
    verdict = Run.open(pictures_run).read("verdict.json")
    (loss,) = verdict["metrics"]
    assert (verdict["verdict"], loss["name"]) == ("better", "loss")
    assert loss["high"] < 0 < loss["tuned"] < loss["base"]


def test_speakers_stay_on_one_side_and_sounds_are_told_apart(audio: Kind, audio_run: Path) -> None:
    facts = Run.open(audio_run).read("data.json")["facts"]
    rows = [json.loads(line) for line in audio.data.read_text().splitlines()]
    assert sum(facts["counts"].values()) == len(rows)
    assert sum(facts["units"].values()) == len({row["speaker"] for row in rows})
    assert facts["duplicates"] == {"exact": 0, "near": 0, "coverage": 1.0}
    assert facts["contradictions"] == 0
    assert facts["counts"]["test"] / len(rows) == pytest.approx(0.3, abs=0.02)  # as the recipe splits
    assert facts["labels"] == ["high", "low"]


def test_a_sound_with_two_labels_is_found(audio: Kind, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in audio.data.read_text().splitlines()][5:]
    other = {"high": "low", "low": "high"}[rows[0]["label"]]
    _write(tmp_path / "rows.jsonl", [*rows, {**rows[0], "label": other}, rows[1]])
    check(audio.request(tmp_path / "data.json", data=tmp_path / "rows.jsonl"))
    facts = json.loads((tmp_path / "data.json").read_text())["facts"]
    assert facts["contradictions"] == 1
    assert facts["duplicates"]["exact"] == 1


def test_parts_are_equal_exactly_when_their_content_is() -> None:
    one, same = Part("audio", np.zeros(3)), Part("audio", np.zeros(3))
    others = [np.ones(3), np.zeros(4), np.zeros((3, 1)), np.zeros(3, np.float32)]
    assert one == same
    assert hash(one) == hash(same)
    assert all(one != Part("audio", other) for other in others)
    assert one != Part("image", np.zeros(3))
    assert Part("audio", b"a") == Part("audio", b"a") != Part("audio", b"b")


@pytest.mark.parametrize("method", ["norm", "lora"])
def test_other_methods_train_and_reopen(audio: Kind, tmp_path: Path, method: str) -> None:
    train(audio.request(tmp_path / "run", f"method={method}", "train.max_steps=3"), silent)
    verified = Run.open(tmp_path / "run").read("info.json")["verified"]
    assert verified["reopened_equal"]
    assert verified["largest_change"] > 0


@pytest.mark.parametrize("fault", ["weights", "processor", "another processor"])
def test_a_model_that_is_not_saved_whole_is_refused(
    audio: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    module = _plugin("tiny_audio")
    save_weights, save_config = module.save_file, module.write_json

    def lossy(weights: dict[str, torch.Tensor], path: Path) -> None:
        save_weights({name: weight.half().float() for name, weight in weights.items()}, path)

    def other(path: Path, config: dict[str, Any]) -> None:
        labels = config["labels"][::-1] if fault == "processor" else ["hot", "cold"]
        save_config(path, {**config, "labels": labels})

    monkeypatch.setattr(module, *(("save_file", lossy) if fault == "weights" else ("write_json", other)))
    with pytest.raises(UserError, match="bit for bit"):
        train(audio.request(tmp_path / "run", "train.max_steps=3"), silent)
    assert not (tmp_path / "run" / "model").exists()


def test_a_denoiser_that_learned_nothing_is_refused(pictures: Kind, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was learned"):
        train(pictures.request(tmp_path / "run", "train.learning_rate=1e-30", "train.max_steps=3"), silent)


def test_what_a_step_draws_does_not_depend_on_micro_batches(pictures: Kind, tmp_path: Path) -> None:
    weights = []
    for rows, pieces in ((8, 1), (1, 8)):
        cut = f"train.per_device_train_batch_size={rows}", f"train.gradient_accumulation_steps={pieces}"
        train(pictures.request(tmp_path / f"{rows}", *cut, "train.max_steps=3"), silent)
        steps = Run.open(tmp_path / f"{rows}").events("step")
        weights.append([(step["loss_sum"], step["grad_norm"]) for step in steps])
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-5)


def test_killed_on_the_command_line_and_resumed_equals_uninterrupted_calls(
    audio: Kind, pictures: Kind, audio_run: Path, pictures_run: Path, tmp_path: Path
) -> None:
    kinds = {tmp_path / "audio": (audio, audio_run), tmp_path / "pictures": (pictures, pictures_run)}
    started = [Started(_typed(kind, out), first=_dying) for out, (kind, _) in kinds.items()]
    assert [command.ended().returncode for command in started] == [-signal.SIGKILL] * 2
    for out, (_, whole) in kinds.items():
        assert len(Run.open(out).events("step")) == KILLED_AT
        assert not (out / "model").exists()
        assert main(["resume", str(out)]) == 0
        _assert_equal(out, whole)


def _dying() -> None:
    """In the command's process: it is killed as soon as a certain step is written."""
    append = Run.append

    def last(run: Run, event: dict[str, Any]) -> None:
        append(run, event)
        if event["type"] == "step" and event["step"] == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    Run.append = last  # type: ignore[method-assign]


def _typed(kind: Kind, out: Path) -> list[str]:
    sets = [word for one in SETS for word in ("--set", one)]
    return ["tune", str(kind.data), "--model", str(kind.model), "--recipe", kind.recipe, "--out", str(out), *sets]


def _assert_equal(one: Path, other: Path) -> None:
    first, second = Run.open(one), Run.open(other)
    for name in ("model/model.safetensors", "model/config.json", "checkpoints/0030/optimizer.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert _timeless(first.events()) == _timeless(second.events())
    assert first.read("verdict.json") == second.read("verdict.json")


def _timeless(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in event.items() if key != "seconds"} for event in events]


def test_new_sounds_are_answered(audio_run: Path, tmp_path: Path) -> None:
    wanted = ["low", "high"] * 10
    _write(tmp_path / "new.jsonl", [{"waveform": sound(1000 + i, label)} for i, label in enumerate(wanted)])
    predict(audio_run, tmp_path / "new.jsonl", tmp_path / "out.jsonl", 0.8)
    answered = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    right = sum(row["prediction"] == label for row, label in zip(answered, wanted, strict=True))
    assert right >= 18
    assert all(0.5 <= row["probability"] <= 1 for row in answered)


def test_a_denoiser_says_that_it_cannot_answer_rows(pictures: Kind, pictures_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot answer rows"):
        predict(pictures_run, pictures.data, tmp_path / "out.jsonl")


def test_an_evaluation_again_is_the_same(pictures_run: Path) -> None:
    before = Run.open(pictures_run).read("verdict.json")
    assert evaluate(pictures_run).exit_code == 0
    assert Run.open(pictures_run).read("verdict.json") == before


def test_reports_give_no_advice_for_text_models(audio_run: Path, pictures_run: Path) -> None:
    heard, seen = ((run / "report.html").read_text(encoding="utf-8") for run in (audio_run, pictures_run))
    assert "tunewright predict" in heard
    assert "tunewright predict" not in seen
    for page in (heard, seen):
        assert "better" in page.lower()
        assert "AutoModel" not in page
        assert "Suspected wrong labels" not in page
        assert "(not asked)" not in page


def test_the_mask_and_the_forecast_are_shown(audio: Kind, pictures: Kind) -> None:
    heard = "\n".join(check(audio.request(None), show_mask=2).lines)
    assert "Share of rows whose stop token is trained on: none" in heard
    assert re.search(r"[68]\d samples -> .*\[\[(high|low)\]\]", heard)
    assert "30 steps" in "\n".join(plan(pictures.request(None)).lines)


def test_a_twin_from_random_weights_is_compared(pictures: Kind, tmp_path: Path) -> None:
    tune(pictures.request(tmp_path / "run", "evaluate.baselines=scratch", "train.max_steps=3"))
    (loss,) = Run.open(tmp_path / "run").read("verdict.json")["metrics"]
    assert 0 < loss["baselines"]["scratch"] < 10


def test_a_sound_that_changed_on_disk_stops_an_evaluation(audio: Kind, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(audio.data.parent, folder)
    train(audio.request(tmp_path / "run", "train.max_steps=1", data=folder / "rows.jsonl"), silent)
    _wav(folder / "sounds" / "0.wav", [0.5] * 70)
    with pytest.raises(UserError, match="have changed"):
        evaluate(tmp_path / "run")


def test_what_a_family_cannot_do_is_told_all_at_once_before_anything_runs(audio: Kind, pictures: Kind) -> None:
    with pytest.raises(UserError) as refused:
        check(pictures.request(None, "objective=next_token", "method=last", "evaluate.metrics=loss,nll,accuracy"))
    wanted = ["Objective 'next_token'", "Method 'last'", "Metric 'nll'", "Metric 'accuracy'"]
    assert [problem.split(" needs")[0] for problem in refused.value.problems] == wanted
    with pytest.raises(UserError, match="Baseline 'tfidf' needs text"):
        check(audio.request(None, "evaluate.baselines=majority,tfidf"))


def test_broken_sounds_are_told_with_their_line(audio: Kind, tmp_path: Path) -> None:
    bad = [{"waveform": "absent.wav", "label": "low"}, {"waveform": [1, "x"], "label": "low"}]
    _write(tmp_path / "rows.jsonl", bad)
    with pytest.raises(UserError, match=r"(?s)line 1, field 'waveform'.*line 2, field 'waveform'"):
        check(audio.request(None, data=tmp_path / "rows.jsonl"))


def test_the_source_knows_neither() -> None:
    names = {"tiny_audio", "TinyAudio", "Waveform", "tiny_diffusion", "TinyDiffusion", "captioned", "Captioned"}
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [name for name in names if name in text], path
        assert "denoise" not in _code(text), path


def _code(text: str) -> set[str]:
    """Names and strings of a module, but for its docstrings and the sentences under fields."""
    tree = ast.parse(text)
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in said]
    return names | {word for string in strings if isinstance(string, str) for word in string.split()}
