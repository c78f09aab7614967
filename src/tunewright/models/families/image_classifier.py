"""Small convolutional networks that put a picture into one of a few classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunewright.core.blocks import Span
from tunewright.core.errors import UserError
from tunewright.core.files import read_json, write_json
from tunewright.core.plugins import Plugin
from tunewright.core.records import Example
from tunewright.core.seeds import key
from tunewright.data.encoder import Encoded, Unencodable
from tunewright.data.formats import shown
from tunewright.models.contracts import Batch, EncodeSettings, Generation, LoadedModel, Origin, Segment, Targets

_ARCHITECTURE = "GroupNormCNN"
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Shape:
    """What config.json says of a network."""

    labels: tuple[str, ...]
    side: int = 32
    """Pictures are brought to this width and height."""
    colours: int = 3
    """1 = grey, 3 = red, green and blue."""
    width: int = 32
    """Channels of the first stage; each further one has twice as many and half the width and height."""
    stages: int = 3
    groups: int = 4

    def to_json(self) -> dict[str, Any]:
        """The content of config.json."""
        names = ("side", "colours", "width", "stages", "groups")
        return {
            "architectures": [_ARCHITECTURE],
            "labels": list(self.labels),
            **{name: getattr(self, name) for name in names},
        }

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """From a model folder.

        Raises:
            UserError: config.json does not describe such a network.
        """
        try:
            found = read_json(folder / "config.json")
            if found.pop("architectures") != [_ARCHITECTURE]:
                raise ValueError(f"its architecture is not {_ARCHITECTURE}")
            return cls(tuple(map(str, found.pop("labels"))), **{name: int(value) for name, value in found.items()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder / 'config.json'} describes no image classifier ({error}).") from None


class Network(nn.Module):
    """Stages of convolution, group norm and ReLU, then the mean over all places and a linear head.

    Group norm, not batch norm: each picture is computed by itself, so each has a gradient of its own.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        channels = [shape.colours, *(shape.width * 2**stage for stage in range(shape.stages))]
        self.body = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels[stage], channels[stage + 1], 3, padding=1, stride=2 if stage else 1),
                nn.GroupNorm(shape.groups, channels[stage + 1]),
                nn.ReLU(),
            )
            for stage in range(shape.stages)
        )
        self.head = nn.Linear(channels[-1] * _KEPT * _KEPT, len(shape.labels))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[pictures, labels] log-probabilities; pixels go from 0 to 1."""
        seen = (image_BCHW - 0.5) * 4
        for stage in self.body:
            seen = stage(seen)
        logits: Tensor = self.head(nn.functional.adaptive_avg_pool2d(seen, _KEPT).flatten(1))
        return logits.log_softmax(-1)


_KEPT = 2
"""The head sees means over the four quarters, so that it knows roughly where something was."""
_POSITIONS = _KEPT * _KEPT + 1
"""A picture counts as so many: what the head sees, and its label."""


@dataclass(frozen=True, slots=True)
class PictureEncoder:
    """A picture brought to the network's size and colours, and the place of its label."""

    shape: Shape

    def encode(self, example: Example) -> Sequence[Encoded]:
        """One piece.

        Raises:
            Unencodable: There is no picture, or the network does not know the label.
        """
        answer = example.answer
        if answer.text not in self.shape.labels:
            raise Unencodable(f"as label {shown(answer.text)}; the model knows {', '.join(self.shape.labels)}")
        image, last = self.picture(example), np.array([_POSITIONS - 1])
        target, weight = np.array([self.shape.labels.index(answer.text)]), np.array([answer.weight], np.float32)
        return [Encoded(example, {"image": image}, _POSITIONS, last, target, weight)]

    def picture(self, example: Example) -> NDArray[np.float32]:
        """[colours, side, side] from 0 to 1.

        Raises:
            Unencodable: The example has not exactly one picture.
        """
        found = [part.value for turn in example.context for part in turn.parts if part.kind == "image"]
        if len(found) != 1:
            raise Unencodable(f"{len(found)} pictures; one is expected")
        image_CHW = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(found[0]))).permute(2, 0, 1).float() / 255
        if image_CHW.shape[0] != self.shape.colours:
            grey = image_CHW[:3].mean(0, keepdim=True)
            image_CHW = grey.expand(self.shape.colours, -1, -1)
        size = (self.shape.side, self.shape.side)
        if image_CHW.shape[1:] != size:
            image_CHW = nn.functional.interpolate(image_CHW[None], size, mode="bilinear", antialias=True)[0]
        return np.asarray(image_CHW.contiguous().numpy(), np.float32)

    def render(self, encoded: Encoded) -> list[Span]:
        """The size of the picture, and its label."""
        colours, height, width = encoded.inputs["image"].shape
        size = f"picture of {width} x {height}, {'grey' if colours == 1 else 'colour'} -> "
        return [Span(text=size, trained=False), Span(text=encoded.example.answer.text, trained=True)]


class ImageClassifier(Plugin):
    """Pictures into one of a few classes: a small convolutional network with group norms."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"token_log_probs", "choices", "blocks"})

    def match(self, folder: Path) -> bool:
        """Folders whose configuration names this network."""
        config = folder / "config.json"
        return config.is_file() and read_json(config).get("architectures") == [_ARCHITECTURE]

    def open(self, origin: Origin, dtype: torch.dtype) -> LoadedModel:
        """Opens config.json and model.safetensors.

        Raises:
            UserError: The files do not fit together.
        """
        network = Network(Shape.read(origin.folder))
        try:
            network.load_state_dict(load_file(origin.folder / "model.safetensors"))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{origin.folder} does not open as an image classifier: {error}") from None
        return self._ready(network.to(dtype), origin)

    def save(self, model: LoadedModel, folder: Path) -> None:
        """config.json and model.safetensors."""
        _save(model.module, folder)

    def fresh(self, folder: Path, shape: Shape, seed: int, body: Path | None = None) -> Path:
        """Makes a model folder: random weights, with all but the head taken from another such model if one is given.

        Args:
            folder: Where to write it.
            shape: Labels and size of the network.
            seed: What the random weights are drawn from.
            body: A model folder of the same size, for other labels perhaps.

        Raises:
            UserError: The body is no such model, or of another size.
        """
        network = _drawn(shape, seed)
        if body is not None:
            theirs = load_file(body / "model.safetensors")
            own = {name: theirs[name] for name in network.state_dict() if name in theirs and "head." not in name}
            if Shape.read(body) != replace(shape, labels=Shape.read(body).labels):
                raise UserError(f"{body} is a network of another size. Give the same side, colours, width and stages.")
            network.load_state_dict({**network.state_dict(), **own})
        _save(network, folder)
        return folder

    def from_scratch(self, model: LoadedModel, seed: int) -> LoadedModel:
        """The network of the model with weights drawn anew."""
        return replace(model, module=_drawn(model.module.shape, seed).requires_grad_(False))

    def encoder(self, model: LoadedModel, settings: EncodeSettings) -> PictureEncoder:
        """Pictures at the network's size."""
        return PictureEncoder(model.tokenizer)

    def collate(self, model: LoadedModel, rows: Sequence[Encoded]) -> Batch:
        """[pictures, colours, side, side]."""
        image = torch.from_numpy(np.stack([row.inputs["image"] for row in rows]))
        number = torch.arange(len(rows))
        target, weight = (
            torch.from_numpy(np.concatenate([getattr(row, name) for row in rows])) for name in ("targets", "weights")
        )
        starts = [_POSITIONS * i for i in range(len(rows))]
        segments = tuple(
            Segment(i, row.example.unit, i, start, start + _POSITIONS)
            for i, (row, start) in enumerate(zip(rows, starts, strict=True))
        )
        targets = Targets(number * _POSITIONS + _POSITIONS - 1, target, weight, number)
        ids = tuple(row.example.id for row in rows)
        return Batch({"image_BCHW": image}, segments, targets, ids, tokens=_POSITIONS * len(rows))

    def adapter_targets(self, model: LoadedModel) -> list[str]:
        """The head: the one linear module."""
        return ["head"]

    def blocks(self, model: LoadedModel) -> list[str]:
        """The stages, then the head."""
        return [*(f"body.{stage}" for stage in range(model.module.shape.stages)), "head"]

    def token_log_probs(self, model: LoadedModel, batch: Batch) -> Tensor:
        """[pictures] log-probability of each one's label; differentiable."""
        found = _logged(model, batch.inputs["image_BCHW"])
        return found[batch.targets.segment_T, batch.targets.target_T]

    def choices(
        self,
        model: LoadedModel,
        contexts: Sequence[Example],
        answers: Sequence[Sequence[str]],
        terminator: bool,
        settings: EncodeSettings | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        """For each picture the log-probability of each of its answers.

        Raises:
            Unencodable: An answer is no label of the network.
        """
        encoder, place = PictureEncoder(model.tokenizer), {label: i for i, label in enumerate(model.tokenizer.labels)}
        for start in range(0, len(contexts), _BATCH):
            part = contexts[start : start + _BATCH]
            image = torch.from_numpy(np.stack([encoder.picture(example) for example in part]))
            with torch.inference_mode():
                found = _logged(model, image).double().numpy()
            for row, options in zip(found, answers[start : start + _BATCH], strict=True):
                unknown = [option for option in options if option not in place]
                if unknown:
                    raise Unencodable(f"label '{unknown[0]}'; the model knows {', '.join(place)}")
                yield row[[place[option] for option in options]]

    def generate(
        self,
        model: LoadedModel,
        contexts: Sequence[Example],
        max_new_tokens: int,
        settings: EncodeSettings | None = None,
    ) -> Iterator[Generation]:
        """Refuses: such a network writes nothing.

        Raises:
            UserError: Always.
        """
        raise UserError("An image classifier names one of its labels; it cannot answer freely.")

    def _ready(self, network: Network, origin: Origin) -> LoadedModel:
        network.eval()
        network.requires_grad_(False)
        return LoadedModel(network, network.shape, self, origin)


def _logged(model: LoadedModel, image: Tensor) -> Tensor:
    weight = next(model.module.parameters())
    found: Tensor = model.module(image.to(weight.dtype))
    return found if found.dtype == torch.float64 else found.float()


def _drawn(shape: Shape, seed: int) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "scratch"))
        return Network(shape).eval()


def _save(network: nn.Module, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain: Any = network
    write_json(folder / "config.json", plain.shape.to_json())
    save_file(
        {name: weight.contiguous() for name, weight in network.state_dict().items()}, folder / "model.safetensors"
    )
