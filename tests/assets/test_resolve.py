"""From a name to a model's folder: what is refused, what the digest sees, what comes from the hub."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tunewright.core.errors import UserError
from tunewright.core.files import read_json
from tunewright.models import _hub, embedded
from tunewright.models.embedded import resolve_model
from tunewright.pipeline.fetch import fetch


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(folder))
    return folder


def quiet(_: str) -> None: ...


def model_folder(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    save_file({"w": torch.arange(4.0)}, folder / "model.safetensors")
    return folder


# --- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_is_resolved_with_its_licence(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    assert resolve_model(str(folder)).licence == "not stated"
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# M\n")
    assert resolve_model(str(folder)).licence == "mit"
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: gemma\n---\n")
    assert resolve_model(str(folder)).licence == "gemma"
    (folder / "README.md").write_text("---\n: {\n---\n")
    assert resolve_model(str(folder)).licence == "not stated"
    (folder / "tunewright.json").write_text('{"licence": "Apache-2.0"}')
    origin = resolve_model(str(folder))
    assert origin.licence == "Apache-2.0"
    assert origin.folder == folder.resolve()


@pytest.mark.parametrize(
    "name", ["", "~nobody-of-that-name/model", "x" * 5000, "a\0b", "org/model/more", "a b/c", "../.."]
)
def test_no_name_brings_a_traceback(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        resolve_model(name)


def spoil(folder: Path, how: str) -> None:
    if how == "pickles":
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(b"\x80")
    elif how == "empty":
        (folder / "model.safetensors").unlink()
    elif how == "adapter":
        (folder / "config.json").rename(folder / "adapter_config.json")
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "torn config":
        (folder / "config.json").write_text('{"model_type": ')
    else:
        config = read_json(folder / "config.json") | {"auto_map": {"AutoModel": "modeling.M"}}
        if how == "own code":
            (folder / "modeling.py").write_text("")
        else:
            config["model_type"] = "homemade"
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("pickles", "pickled weights only .pytorch_model.bin"),
        ("empty", "no .*safetensors weights"),
        ("adapter", "an adapter, not a whole model"),
        ("no config", "no config.json"),
        ("torn config", "is not JSON"),
        ("own code", "code of its own .modeling.py"),
        ("code elsewhere", "code of its own in"),
    ],
)
def test_folders_that_only_pickles_or_code_would_open_are_refused(tmp_path: Path, how: str, sentence: str) -> None:
    folder = model_folder(tmp_path / "m")
    spoil(folder, how)
    with pytest.raises(UserError, match=sentence):
        resolve_model(str(folder))


def test_all_faults_of_a_folder_are_told_at_once(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    spoil(folder, "own code")
    spoil(folder, "pickles")
    with pytest.raises(UserError) as caught:
        resolve_model(str(folder))
    assert len(caught.value.problems) == 2


def test_pickles_beside_safetensors_and_maps_that_transformers_does_not_need_do_no_harm(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", auto_map={"AutoModel": "someone/code--modeling.M"})
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    assert resolve_model(str(folder)).digest


def set_back(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Changes a file's content, but neither its size nor its modification time."""
    before = path.stat()
    content = change(path.read_bytes())
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_digest_sees_a_change_that_hides_behind_size_and_time(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m")
    first = resolve_model(str(folder)).digest
    set_back(folder / "model.safetensors", lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    second = resolve_model(str(folder)).digest
    set_back(folder / "config.json", lambda content: content.replace(b"llama", b"opt22"))
    assert len({first, second, resolve_model(str(folder)).digest}) == 3


def test_the_digest_is_read_from_the_cache_and_is_the_same_in_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path / "m")
    first = resolve_model(str(folder)).digest
    shutil.copytree(folder, tmp_path / "copy")
    assert resolve_model(str(tmp_path / "copy")).digest == first
    monkeypatch.setattr(embedded, "file_digest", lambda paths: pytest.fail("hashed again"))
    assert resolve_model(str(folder)).digest == first


def test_a_spoilt_digest_file_is_written_anew(tmp_path: Path, cache: Path) -> None:
    folder = model_folder(tmp_path / "m")
    first = resolve_model(str(folder))
    kept = list((cache / "digests").iterdir())
    for path in kept:
        path.write_text("{")
    assert resolve_model(str(folder)) == first
    assert {read_json(path)["digest"] for path in kept} == {first.digest, first.reading}


# --- hub ------------------------------------------------------------------------------------------------------------


class FakeHub:
    """Stands for huggingface_hub: one repository whose files are copied by pattern."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source, self.target = source, target
        self.patterns: list[list[str]] = []

    def list_repo_files(self, hub_id: str) -> list[str]:
        return [path.name for path in self.source.iterdir()]

    def snapshot_download(self, hub_id: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        if not local_files_only:
            self.patterns.append(allow_patterns)
            self.target.mkdir(exist_ok=True)
            for path in self.source.iterdir():
                if any(path.match(pattern) for pattern in allow_patterns):
                    shutil.copy(path, self.target)
        return str(self.target)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(model_folder(tmp_path / "source"), tmp_path / "snapshot")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: fake)
    monkeypatch.setattr("tunewright.pipeline.fetch.get_session", lambda: SimpleNamespace(head=lambda *a, **k: None))
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    return fake


def test_from_the_hub_come_safetensors_and_texts_but_no_pickles_and_no_code(hub: FakeHub) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "evil.py", "model.ckpt", "tokenizer.model", "merges.txt"):
        (hub.source / name).write_bytes(b"x")
    folder = fetch("someone/model", progress=quiet)
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.model", "merges.txt",
    }  # fmt: skip
    assert resolve_model("someone/model").folder == folder.resolve()


@pytest.mark.parametrize("how", ["pickles", "code elsewhere"])
def test_a_hub_model_that_would_be_refused_is_refused_before_its_weights_come(hub: FakeHub, how: str) -> None:
    spoil(hub.source, how)
    with pytest.raises(UserError, match="pickle" if how == "pickles" else "code of its own"):
        fetch("someone/model", progress=quiet)
    assert not any("*.safetensors" in patterns for patterns in hub.patterns)


def test_no_network_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        def list_repo_files(self, hub_id: str) -> list[str]:
            raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi", Offline)
    with pytest.raises(UserError, match="Name or service not known"):
        _hub.download("someone/model", lambda folder: [])
