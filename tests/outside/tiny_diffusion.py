"""A tiny picture denoiser as another package would bring it: a format, a family, an objective and a recipe."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tunewright.core.blocks import Span
from tunewright.core.files import read_json, write_json
from tunewright.core.plugins import Plugin
from tunewright.core.records import Answer, Example, Part, Turn, text_part
from tunewright.core.seeds import key, stream
from tunewright.data.encoder import Encoded
from tunewright.data.formats import Flaw, How, Row, shown
from tunewright.models.contracts import Batch, EncodeSettings, LoadedModel, Loss, Objective, Origin, Segment, Targets

SIDE, PIXELS, STEPS, WORDS = 8, 64, 50, 16


class Captioned(Plugin):
    """Pictures: `caption` and `image`, 8 rows of 8 numbers."""

    columns: ClassVar[dict[str, tuple[str, ...]]] = {"caption": (), "image": ()}
    optional: ClassVar[tuple[str, ...]] = ()
    answers: ClassVar[tuple[str, ...]] = ("image",)
    uniform: ClassVar[tuple[str, ...]] = ()

    def detect(self, columns: set[str], row: Row) -> float:
        return float(set(self.columns) <= columns)

    def parse(self, row: Row, how: How) -> Example:
        try:
            image = np.asarray(row.get("image"), np.float32).reshape(SIDE, SIDE)
        except (TypeError, ValueError):
            raise Flaw("image", shown(row.get("image")), "8 rows of 8 numbers", "correct it") from None
        caption = Turn("user", (text_part(str(row.get("caption"))),))
        return Example((caption,), (Answer((Part("image", image),)),))


class Net(nn.Module):
    """Noise from a noisy picture, the words of its caption and the time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(PIXELS + WORDS + 1, width), nn.ReLU(), nn.Linear(width, PIXELS))

    def forward(self, noisy_BP: Tensor, words_BW: Tensor, time_B: Tensor) -> Tensor:
        return self.body(torch.cat([noisy_BP, words_BW, time_B[:, None] / STEPS], 1))


class PictureEncoder:
    def encode(self, example: Example) -> Sequence[Encoded]:
        found = [zlib.crc32(word.encode()) % WORDS for word in example.prompt_text.split()]
        words = np.bincount(found, minlength=WORDS).astype(np.float32)
        image, answer = example.answer.parts[0].value.ravel(), example.answer
        weight, pixels = np.full(PIXELS, answer.weight, np.float32), np.arange(PIXELS)
        inputs = {"image": image, "words": words}
        return [Encoded(example, inputs, PIXELS + len(found), pixels, np.zeros_like(pixels), weight)]

    def render(self, encoded: Encoded) -> list[Span]:
        example = encoded.example
        return [Span(text=example.prompt_text + " -> ", trained=False), Span(text=example.answer.text, trained=True)]


class TinyDiffusion(Plugin):
    """Pictures of 8 by 8 from captions."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"denoise"})

    def match(self, folder: Path) -> bool:
        return read_json(folder / "config.json").get("architectures") == ["TinyDiffusion"]

    def open(self, origin: Origin, dtype: torch.dtype) -> LoadedModel:
        net = Net(read_json(origin.folder / "config.json")["width"])
        net.load_state_dict(load_file(origin.folder / "model.safetensors"))
        return LoadedModel(net.to(dtype).requires_grad_(False), None, self, origin)

    def save(self, model: LoadedModel, folder: Path) -> None:
        width = model.module.body[0].out_features
        write_json(folder / "config.json", {"architectures": ["TinyDiffusion"], "width": width})
        save_file(model.module.state_dict(), folder / "model.safetensors")

    def from_scratch(self, model: LoadedModel, seed: int) -> LoadedModel:
        torch.manual_seed(key(seed, "scratch"))
        return replace(model, module=Net(model.module.body[0].out_features))

    def encoder(self, model: LoadedModel, settings: EncodeSettings) -> PictureEncoder:
        return PictureEncoder()

    def collate(self, model: LoadedModel, rows: Sequence[Encoded]) -> Batch:
        inputs = {n: torch.from_numpy(np.stack([row.inputs[n] for row in rows])) for n in ("image", "words")}
        segments = [Segment(i, r.example.unit, i, i * PIXELS, (i + 1) * PIXELS) for i, r in enumerate(rows)]
        position = torch.arange(len(rows) * PIXELS)
        weight = torch.from_numpy(np.concatenate([row.weights for row in rows]))
        targets = Targets(position, torch.zeros_like(position), weight, position // PIXELS)
        return Batch(inputs, tuple(segments), targets, tuple(r.example.id for r in rows), sum(r.length for r in rows))

    def adapter_targets(self, model: LoadedModel) -> list[str]:
        return ["body.0", "body.2"]

    def denoise(self, model: LoadedModel, batch: Batch, noisy_BP: Tensor, time_B: Tensor) -> Tensor:
        """[rows, pixels] the noise in pictures at a time; differentiable."""
        return model.module(noisy_BP, batch.inputs["words"], time_B)


class Denoise(Objective):
    """Squared error of the predicted noise (Ho et al. 2020, the simple objective)."""

    needs: ClassVar[frozenset[str]] = frozenset({"denoise"})

    def check(self, examples: Sequence[Example]) -> list[str]:
        wrong = [e.source for e in examples if [part.kind for part in e.answer.parts] != ["image"]]
        return [f"{len(wrong)} rows have no picture to learn (first: {wrong[0]}). Leave them out."] if wrong else []

    def loss(self, model: LoadedModel, batch: Batch, seed: int) -> Loss:
        draws = [stream(seed, "denoise", name) for name in batch.ids]
        time_B = torch.tensor([int(draw.integers(STEPS)) for draw in draws])
        noise_BP = torch.from_numpy(np.stack([draw.standard_normal(PIXELS, np.float32) for draw in draws]))
        kept_B1 = torch.cos((time_B + 1) / (STEPS + 1) * torch.pi / 2)[:, None]  # cosine schedule
        noisy_BP = kept_B1 * batch.inputs["image"] + (1 - kept_B1**2).sqrt() * noise_BP
        error_BP = (model.family.denoise(model, batch, noisy_BP, time_B) - noise_BP) ** 2
        weight_BP = batch.targets.weight_T.view_as(error_BP)
        return Loss((error_BP * weight_BP).sum(1), weight_BP.sum(1))


class Pictures(Plugin):
    """Pictures with captions."""

    needs_labels: ClassVar[bool] = False

    def match(self, labels: Sequence[str], has_context: bool) -> bool:
        return False

    def defaults(self) -> dict[str, Any]:
        return {
            "method.name": "full",
            "objective.name": "denoise",
            "evaluate.metrics": ("loss",),
            "evaluate.primary": ("loss",),
            "evaluate.baselines": (),
            "evaluate.probes": (),
        }

    def instruction(self, labels: Sequence[str]) -> str:
        return ""

    def epochs(self, rows: int) -> float:
        return 6

    def learning_rate(self, method: str) -> float:
        return 0.005
