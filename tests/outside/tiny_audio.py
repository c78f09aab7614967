"""A tiny audio classifier as another package would bring it: a format, a family and a recipe."""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunewright.core.blocks import Span
from tunewright.core.files import read_json, write_json
from tunewright.core.plugins import Plugin
from tunewright.core.records import Answer, Example, Part, Turn, text_part
from tunewright.core.seeds import key
from tunewright.data.encoder import Encoded, Overlong, Unencodable
from tunewright.data.formats import Flaw, How, Row, shown
from tunewright.models.contracts import Batch, EncodeSettings, LoadedModel, Origin, Segment, Targets


class Waveform(Plugin):
    """Sounds: `waveform`, numbers or the path of a 16-bit .wav file; `label`; `speaker`."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"waveform": (), "label": ()}
    optional: ClassVar[tuple[str, ...]] = ("speaker",)
    answers: ClassVar[tuple[str, ...]] = ("label",)
    uniform: ClassVar[tuple[str, ...]] = ("label",)

    def detect(self, columns: set[str], row: Row) -> float:
        return float(set(self.columns) <= columns)

    def parse(self, row: Row, how: How) -> Example:
        sound = _sound(row.get("waveform"), how.folder)
        label, speaker = row.get("label"), row.get("speaker")
        if not isinstance(label, str) and (how.answers_needed or label is not None):
            raise Flaw("label", shown(label), "a name", "write it as text")
        answers = () if label is None else (Answer((text_part(label),)),)
        asked = Turn("user", (Part("audio", sound),))
        return Example((asked,), answers, unit=None if speaker is None else str(speaker), label=True)


def _sound(found: Any, folder: Path) -> NDArray[np.float32]:
    try:
        if isinstance(found, str):
            with wave.open(str(folder / found)) as file:
                return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 2**15
        sound = np.asarray(found, np.float32)
        if sound.ndim == 1 and sound.size and np.isfinite(sound).all():
            return sound
    except (OSError, EOFError, wave.Error, TypeError, ValueError):
        pass
    raise Flaw("waveform", shown(found), "a list of numbers or a .wav file", "correct it or delete the row")


class Net(nn.Module):
    """Convolution, mean over time, linear."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.listen, self.head = nn.Conv1d(1, channels, 9, padding=4), nn.Linear(channels, labels)

    def forward(self, sound_BT: Tensor, real_BT: Tensor) -> Tensor:
        sound_BT, real_BT = (given.to(self.listen.weight.dtype) for given in (sound_BT, real_BT))
        heard_BCT = self.listen(sound_BT[:, None]).relu() * real_BT[:, None]
        return self.head(heard_BCT.sum(-1) / real_BT.sum(-1, keepdim=True)).float().log_softmax(-1)


@dataclass(frozen=True, slots=True)
class AudioEncoder:
    labels: tuple[str, ...]
    settings: EncodeSettings

    def encode(self, example: Example) -> Sequence[Encoded]:
        sound, answer = example.context[-1].parts[0].value, example.answer
        if answer.text not in self.labels:
            raise Unencodable(f"label '{answer.text}'; the model knows {', '.join(self.labels)}")
        if len(sound) > self.settings.max_length:
            raise Overlong(len(sound), self.settings.max_length)
        last, target = np.array([len(sound) - 1]), np.array([self.labels.index(answer.text)])
        return [Encoded(example, {"sound": sound}, len(sound), last, target, np.float32([answer.weight]))]

    def render(self, encoded: Encoded) -> list[Span]:
        return [
            Span(text=f"{encoded.length} samples -> ", trained=False),
            Span(text=encoded.example.answer.text, trained=True),
        ]


class TinyAudio(Plugin):
    """Sounds into one of a few labels."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"token_log_probs", "choices"})

    def match(self, folder: Path) -> bool:
        return read_json(folder / "config.json").get("architectures") == ["TinyAudio"]

    def open(self, origin: Origin, dtype: torch.dtype) -> LoadedModel:
        config = read_json(origin.folder / "config.json")
        net = Net(config["channels"], len(config["labels"]))
        net.load_state_dict(load_file(origin.folder / "model.safetensors"))
        return LoadedModel(net.to(dtype).requires_grad_(False), tuple(config["labels"]), self, origin)

    def save(self, model: LoadedModel, folder: Path) -> None:
        channels = model.module.listen.out_channels
        write_json(
            folder / "config.json",
            {"architectures": ["TinyAudio"], "channels": channels, "labels": list(model.tokenizer)},
        )
        save_file(model.module.state_dict(), folder / "model.safetensors")

    def from_scratch(self, model: LoadedModel, seed: int) -> LoadedModel:
        torch.manual_seed(key(seed, "scratch"))
        return replace(model, module=Net(model.module.listen.out_channels, len(model.tokenizer)))

    def encoder(self, model: LoadedModel, settings: EncodeSettings) -> AudioEncoder:
        return AudioEncoder(model.tokenizer, settings)

    def collate(self, model: LoadedModel, rows: Sequence[Encoded]) -> Batch:
        width = max(row.length for row in rows)
        segments = [Segment(i, r.example.unit, i, width * i, width * i + r.length) for i, r in enumerate(rows)]
        position, target, weight = (
            torch.from_numpy(np.concatenate([getattr(row, name) for row in rows]))
            for name in ("positions", "targets", "weights")
        )
        owner = torch.arange(len(rows))
        targets = Targets(position + width * owner, target, weight, owner)
        inputs = _padded([row.inputs["sound"] for row in rows])
        return Batch(inputs, tuple(segments), targets, tuple(r.example.id for r in rows), sum(r.length for r in rows))

    def adapter_targets(self, model: LoadedModel) -> list[str]:
        return ["head"]

    def token_log_probs(self, model: LoadedModel, batch: Batch) -> Tensor:
        return model.module(**batch.inputs)[batch.targets.segment_T, batch.targets.target_T]

    def choices(
        self,
        model: LoadedModel,
        contexts: Sequence[Example],
        answers: Sequence[Sequence[str]],
        terminator: bool,
        settings: EncodeSettings | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        for example, options in zip(contexts, answers, strict=True):
            with torch.inference_mode():
                found = model.module(**_padded([example.context[-1].parts[0].value]))[0].double().numpy()
            yield found[[model.tokenizer.index(option) for option in options]]


def _padded(sounds: Sequence[NDArray[np.float32]]) -> dict[str, Tensor]:
    tensors = [torch.from_numpy(sound) for sound in sounds]
    pad = nn.utils.rnn.pad_sequence
    return {"sound_BT": pad(tensors, True), "real_BT": pad([torch.ones_like(t) for t in tensors], True)}


class Sounds(Plugin):
    """Sounds with labels."""

    needs_labels: ClassVar[bool] = True

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        return False

    def defaults(self) -> dict[str, Any]:
        return {
            "data.splits": (0.6, 0.1, 0.3),
            "method.name": "full",
            "evaluate.metrics": ("accuracy", "nll"),
            "evaluate.primary": ("accuracy",),
            "evaluate.baselines": ("majority", "prior"),
        }

    def instruction(self, labels: Sequence[str]) -> str:
        return ""

    def epochs(self, rows: int) -> float:
        return 4

    def learning_rate(self, method: str) -> float:
        return 0.02
