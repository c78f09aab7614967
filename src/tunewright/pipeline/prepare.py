"""From a plan to what the stages work on: rows read, checked and split, the base model opened, rows encoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from tunewright.core import plugins
from tunewright.core.blocks import dumped
from tunewright.core.config import DataShape, Plan, Request, plan_of
from tunewright.core.errors import UserError
from tunewright.core.progress import Progress
from tunewright.core.records import Example, text_part
from tunewright.core.settings import PlanSettings
from tunewright.data.canaries import Canaries, Mould
from tunewright.data.checks import EncodingFacts, measure_encoding
from tunewright.data.dataset import Dataset, open_dataset
from tunewright.data.encoded_rows import EncodedRows
from tunewright.data.encoder import Encoded, Encoder, Unencodable, encode_all
from tunewright.data.folding import folded, members
from tunewright.data.formats import HIDDEN
from tunewright.data.identifiers import redact_spans
from tunewright.data.kept import KeptRows
from tunewright.data.reading import format_of
from tunewright.data.sequences import Joined
from tunewright.models.contracts import EncodeSettings, LoadedModel, Method, Objective
from tunewright.models.embedded import resolve_model
from tunewright.models.opening import open_model
from tunewright.models.precision import resolve as resolve_dtype
from tunewright.models.reference import Refers
from tunewright.pipeline import mitigate
from tunewright.pipeline.discretion import hide, public
from tunewright.pipeline.example_data import EXAMPLES, example, shipped
from tunewright.pipeline.obstacles import beyond, counting, learned_twice, shared_out, unlabelled, unreadable
from tunewright.pipeline.overlooked import require_all_splits_read, require_no_labels_lost
from tunewright.recipes import Recipe, choose_recipe
from tunewright.runs.opening import serve


@dataclass(frozen=True, slots=True)
class Rows:
    """The data set under its final instruction, and the plan that its rows complete."""

    plan: Plan
    recipe: Recipe
    dataset: Dataset


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that training and evaluation need."""

    plan: Plan
    recipe: Recipe
    dataset: Dataset
    model: LoadedModel
    dtype: torch.dtype
    products: torch.dtype
    """In which training multiplies: that of the model, unless all of it trains."""
    method: Method
    objective: Objective
    encoder: Encoder
    train: Sequence[Encoded]
    valid: Sequence[Encoded]
    test: Sequence[Example]
    """Test examples that can be encoded: the same for base and tuned."""
    data: dict[str, Any]
    """What data.json holds."""
    canaries: Canaries
    """Which canaries are among the training rows; none unless planned."""
    first: Example
    """The first training row as given, though it may be dropped for its length: canaries are made to look like it."""
    encode: EncodeSettings
    """How this plan encodes."""

    @property
    def settings(self) -> PlanSettings:
        """The resolved plan."""
        return self.plan.settings

    @property
    def mixed(self) -> torch.dtype | None:
        """In which training multiplies weights that are kept in another precision; None = in their own."""
        return None if self.products == self.dtype else self.products

    @property
    def rows_given(self) -> int:
        """Training rows before those were dropped that are too long: what `data.max_train_rows` counts."""
        dropped = self.data["encoding"].get("overlong_dropped") or {}
        return len(self.dataset.train) + int(dropped.get("train", 0))


_LOOKED_AT = 64
"""Training rows on which it is seen whether a template opens every answer alike."""


def read_rows(request: Request, progress: Progress) -> Rows:
    """Reads the rows and completes the plan from them.

    Raises:
        UserError: All faults of the plan, or all faults of the rows.
    """
    first = plan_of(request)
    if first.settings.recipe:  # a named recipe may say how rows are read
        first = plan_of(request, plugins.build("recipes", first.settings.recipe))
    require_all_splits_read(data_path(first.settings.data.path))
    dataset = _open(first.settings, progress)
    require_no_labels_lost(dataset, first.settings.data)
    recipe = _recipe(dataset, first.settings.recipe)
    shape = DataShape(len(dataset.train), dataset.labels or ())
    plan = plan_of(request, recipe, shape)
    return Rows(plan, recipe, _instructed(dataset, plan.settings.data.instruction))


def reread_rows(plan: Plan, progress: Progress) -> Rows:
    """The rows of an existing run, under its own plan."""
    dataset = _open(plan.settings, progress)
    recipe = _recipe(dataset, plan.settings.recipe)
    return Rows(plan, recipe, _instructed(dataset, plan.settings.data.instruction))


def _recipe(dataset: Dataset, name: str | None) -> Recipe:
    has_context = any(example.context for example in dataset.train)
    return choose_recipe(dataset.labels or (), has_context, name, dataset.facts["format"])


def prepare(rows: Rows, progress: Progress, canaries: Canaries | None = None, opens: bool | None = None) -> Prepared:
    """Opens the base model and encodes the rows, and behind them the canaries that are in.

    Args:
        rows: The data set with its plan.
        progress: Told what is going on.
        canaries: Those of an existing run; without them as many are drawn as the plan says.
        opens: Whether contexts end with what the template opens answers with; None = as the rows show.

    Raises:
        UserError: The model is missing, rows cannot be encoded, or what would be trained is not what should be.
    """
    settings = rows.plan.settings
    method = plugins.build("methods", settings.method)
    objective = plugins.build("objectives", settings.objective)
    dtype = _dtype(settings, method)
    model = _opened(settings, dtype, progress)
    learned = folded(rows.dataset.train)
    faults = [*beyond(model, settings, method, objective), *unlabelled(settings, rows.dataset.labels)]
    faults += [*counting(model), *shared_out(settings.train)]
    if canaries is None:  # what is made is made
        faults += [*learned_twice(rows.dataset, objective), *unreadable(settings, model)]
    faults = faults or objective.check(learned)
    if faults := faults or mitigate.faults(settings, learned, model, method, objective):
        raise UserError(faults)
    encode = _as_trained(model, encode_settings(settings, objective, rows.dataset.labels), learned, opens)
    encoder = model.family.encoder(model, encode)
    encoding = _Encoding(encoder, progress)
    if canaries is None:
        canaries = Canaries.draw(settings.audit.canaries)
        if canaries.coins:
            canaries.require_encodable(encoder, mould_of(rows))
    planted = canaries.included(mould_of(rows)) if canaries.coins else ()
    train = encoding.pieces(learned, "train", planted)
    valid = _able_to_choose(encoding.pieces(folded(rows.dataset.valid), "valid"))
    served = model.family.encoder(serve(model, settings), encode)  # test rows must fit as the finished model is asked
    test = replace(encoding, encoder=served).whole(rows.dataset.test, "test")
    given, rows = rows.dataset, replace(rows, dataset=rows.dataset.without(encoding.dropped))
    measured = measure_encoding(
        train,
        max_length=settings.train.max_length,
        on_overlong=settings.data.on_overlong,
        loss_on=objective.loss_on,
        refused=encoding.refused,
        dropped=encoding.places(given),
        render=lambda row: redact_spans(encoder.render(row)),
    )
    if measured.problems:
        raise Unusable(measured.problems, _shown(rows, measured))
    encoding.plant(train, planted)
    products = resolve_dtype(settings.train.precision) if _mixes(settings, method, objective) else dtype
    if products != dtype and not _answers_mixed(model, train[0], products):
        products = dtype
    return Prepared(
        rows.plan, rows.recipe, rows.dataset, replace(model, opens=encode.opens), dtype, products, method, objective,
        encoder, train, valid, test, _shown(rows, measured), canaries, given.train[0], encode,
    )  # fmt: skip


class Unusable(UserError):
    """Rows that can be read and not trained on as the plan is; knows what was found."""

    def __init__(self, problems: list[str], data: dict[str, Any]) -> None:
        """Takes the faults and what data.json would say."""
        super().__init__(problems)
        self.data = data


def _as_trained(
    model: LoadedModel, encode: EncodeSettings, learned: Sequence[Example], opens: bool | None
) -> EncodeSettings:
    """The settings, with contexts that end where the training answers begin, unless it is known."""
    encoder: Any = model.family.encoder(model, encode)
    if opens is None and hasattr(encoder, "opens"):
        opens = encoder.opens([learned[n] for n in range(min(_LOOKED_AT, len(learned)))])
    return encode if opens is None else replace(encode, opens=opens)


def _able_to_choose(valid: EncodedRows) -> EncodedRows:
    """Validation rows of which one at least has a loss."""
    if len(valid) and not any(row.weights.any() for row in valid):
        raise UserError(
            f"All {len(valid)} validation rows have weight 0, so they have no loss and cannot choose the best step. "
            "Give them a weight above 0, or do without them."
        )
    return valid


def _shown(rows: Rows, measured: EncodingFacts) -> dict[str, Any]:
    """What data.json says; under privacy, only what the guarantee covers."""
    data = {
        "facts": rows.dataset.facts,
        "encoding": measured.facts,
        "blocks": dumped(measured.blocks),
    }
    if not HIDDEN.get():
        return data
    shown = public(data)
    # How many: the files' rows less the counts, both public; which ones stays untold.
    shown["encoding"]["overlong_dropped"] = measured.facts["overlong_dropped"]
    return shown


def _opened(settings: PlanSettings, dtype: torch.dtype, progress: Progress) -> LoadedModel:
    progress("opening the model", 0, 1)
    model = open_model(resolve_model(settings.model), dtype)
    return model if settings.train.packing else replace(model, packs=False)


def mould_of(rows: Rows | Prepared) -> Mould:
    """What canaries must look like to pass as rows of a data set."""
    settings = rows.plan.settings.data
    instruction = settings.instruction if rows.dataset.facts["format"] == "label" else ""
    first = rows.first if isinstance(rows, Prepared) else rows.dataset.train[0]
    return Mould.of(first, rows.dataset.labels or (), instruction)


def encode_settings(settings: PlanSettings, objective: Objective, labels: Sequence[str] | None) -> EncodeSettings:
    """How a plan's rows are encoded."""
    around: tuple[str, str] | None = around_of(settings)
    return EncodeSettings(
        max_length=settings.train.max_length,
        on_overlong=settings.data.on_overlong,
        # Rows of a running text train as one, in which the last answers of all stand: no other answer has weight.
        loss_on="answers" if around and objective.loss_on == "last" else objective.loss_on,
        labels=tuple(labels or ()),
        free_tokens=settings.evaluate.max_new_tokens,
        trains_opening=objective.trains_opening,
        around=around,
    )


def around_of(settings: PlanSettings) -> tuple[str, str] | None:
    """What stands around answers where the rows are running text."""
    data = settings.data
    found = None if data.format == "auto" else getattr(format_of(data.format, data.options), "around", None)
    return found if found is None else (str(found[0]), str(found[1]))


def data_path(name: str) -> Path:
    """A path, or shipped example data by its name: `icd10`, or a file beside it, `labour-market/pool.csv`."""
    if not shipped(name):
        return Path(name)
    head, _, file = name.partition("/")
    return EXAMPLES[head].folder / file if file and example(head) else example(head)


def _instructed(dataset: Dataset, instruction: str) -> Dataset:
    """The same rows with an instruction before the text of label rows."""
    if not instruction or dataset.facts["format"] != "label":
        return dataset

    def led(number: int, row: Example) -> Example:
        return replace(row, context=(replace(row.context[0], parts=(lead, *row.context[0].parts)), *row.context[1:]))

    lead = text_part(f"{instruction}\n\n")
    return replace(
        dataset, train=dataset.train.change(led), valid=dataset.valid.change(led), test=dataset.test.change(led)
    )


def _open(settings: PlanSettings, progress: Progress) -> Dataset:
    """The rows without an instruction, so that what is derived from them does not depend on one."""
    path = data_path(settings.data.path)
    pool = str(data_path(settings.data.pool)) if settings.data.pool else None
    plain = settings.data.model_copy(update={"path": str(path), "pool": pool, "instruction": ""})
    hide(settings.privacy.on)
    held_out_by = settings.data.split_seed
    return open_dataset(plain, progress, seed=settings.seed if held_out_by is None else held_out_by)


def _dtype(settings: PlanSettings, method: Method) -> torch.dtype:
    if method.frozen_dtype == "float32":
        return torch.float32
    return resolve_dtype(settings.train.precision)


def _mixes(settings: PlanSettings, method: Method, objective: Objective) -> bool:
    """Whether trained weights may be multiplied in bfloat16: not under privacy, whose clipping reads what layers are
    given, nor beside a reference that answered in float32."""
    return method.mixed and not settings.privacy.on and not isinstance(objective, Refers)


def _answers_mixed(model: LoadedModel, row: Encoded, products: torch.dtype) -> bool:
    """Whether the model answers under mixed precision: only where attention is packed, and no layer minds it."""
    if not model.packs or "token_log_probs" not in model.family.capabilities:
        return False
    try:
        with torch.no_grad(), torch.autocast("cpu", products):
            model.family.token_log_probs(model, model.family.collate(model, [row]))
    except (RuntimeError, TypeError):
        return False
    return True


_WORDS = {"train": "training", "valid": "validation", "test": "test"}


@dataclass(slots=True)
class _Encoding:
    """Encodes rows and remembers the ones that could not be, and those that the plan drops as too long."""

    encoder: Encoder
    progress: Progress
    refused: list[tuple[Example, Unencodable]] = field(default_factory=list)
    dropped: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The numbers of dropped rows in each split, those of a folded row each."""

    def pieces(self, examples: Sequence[Example], split: str, planted: Sequence[Example] = ()) -> EncodedRows:
        """All pieces of all rows; room is left for what will be planted behind them."""
        rows = EncodedRows(Joined(examples, planted) if planted else examples)
        for number, found in self._each(examples, split):
            for piece in found:
                rows.append(number, piece)
        return rows

    def places(self, dataset: Dataset) -> dict[str, list[str]]:
        """Where the dropped rows stand, by split."""
        splits: dict[str, Sequence[Example]] = {name: getattr(dataset, name) for name in self.dropped}
        return {name: [splits[name][number].source for number in rows] for name, rows in self.dropped.items()}

    def plant(self, rows: EncodedRows, planted: Sequence[Example]) -> None:
        """Adds the pieces of planted rows, which is done once the real ones were measured."""
        start = rows.examples - len(planted)
        for number, canary in enumerate(planted):
            for piece in self.encoder.encode(canary):
                rows.append(start + number, piece)

    def whole(self, examples: KeptRows[Example], split: str) -> Sequence[Example]:
        """The rows that can be encoded."""
        return examples.take(examples.numbers[[number for number, _ in self._each(examples, split)]])

    def _each(self, examples: Sequence[Example], split: str) -> Iterator[tuple[int, Sequence[Encoded]]]:
        """The pieces of each row by its number; rows that have none are remembered."""
        for number, found in enumerate(encode_all(self.encoder, examples)):
            if isinstance(found, Unencodable):
                self.refused.append((examples[number], found))
            elif found:
                yield number, found
            else:
                self.dropped[split] += members(examples, number)
            self.progress(f"encoding {_WORDS[split]} rows", number + 1, len(examples))
