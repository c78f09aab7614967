"""Layers of a plan laid over one another: translated, checked, derived, with where each value came from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from tunewright.core import aliases, plan_text, plugins, private_plan
from tunewright.core.errors import UserError, nearest
from tunewright.core.settings import FORMS, TRAINED_BASELINES, PlanSettings, Section

COMMAND_LINE = "command line"
DEFAULT = "default"

PLUGINS = {"method": "methods", "objective": "objectives"}
_SECTIONS: dict[str, type[Section]] = {
    name: info.annotation
    for name, info in PlanSettings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}
LEAVES: dict[str, FieldInfo] = {
    name: info for name, info in PlanSettings.model_fields.items() if name not in _SECTIONS and name not in PLUGINS
} | {f"{name}.{leaf}": info for name, section in _SECTIONS.items() for leaf, info in section.model_fields.items()}
_FLAT = {key.rsplit(".", 1)[-1]: key for key in reversed(LEAVES)}
"""Last word of a key -> the key; of two with the same last word, aliases.SAME says which is meant."""
_NAMED = {
    "data.format": ("formats", ("auto",)),
    "recipe": ("recipes", ()),
    "evaluate.metrics": ("metrics", ()),
    "evaluate.primary": ("metrics", ()),
    "evaluate.probes": ("probes", FORMS),
    "evaluate.baselines": ("baselines", tuple(TRAINED_BASELINES)),
    "train.mitigations": ("mitigations", ()),
}
"""Key whose value names plugins -> their kind, and the words that are no plugin but allowed."""


@dataclass(frozen=True, slots=True)
class DataShape:
    """What must be known of the rows to derive the rest of a plan."""

    train_rows: int
    labels: tuple[str, ...] = ()


class RecipeValues(plugins.Named, Protocol):
    """What a recipe brings to a plan (the plugins stand in a layer above this one)."""

    def defaults(self) -> dict[str, Any]:
        """Dotted plan keys -> values."""

    def instruction(self, labels: Sequence[str]) -> str:
        """What to put before the text of a row."""

    def epochs(self, rows: int) -> float:
        """How often to see so many training rows."""

    def learning_rate(self, method: str) -> float:
        """Peak learning rate for a method; a UserError when none is known."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A value with where it came from and under which name."""

    value: Any
    origin: str
    written: str

    def source(self) -> str:
        """In brackets, where it came from and under which name."""
        return f"({self.origin}, '{self.written}')"


class Layers:
    """Lays layers over one another and collects faults and notes."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        self.notes: dict[str, None] = {}
        self.asked: dict[str, dict[str, Any]] = {}
        self.recipe: dict[str, Asked] = {}
        self.values: dict[str, Asked] = {
            f"{root}.name": Asked(PlanSettings.model_fields[root].default, DEFAULT, root) for root in PLUGINS
        }

    def recipe_layer(self, recipe: RecipeValues | None) -> None:
        """The recipe's own values."""
        if recipe is not None:
            origin = f"recipe {recipe.plugin_name()}"
            self.recipe = {key: Asked(value, origin, key) for key, value in recipe.defaults().items()}
            self.values |= self.recipe

    def layer(self, origin: str, pairs: Iterable[tuple[str, Any]]) -> None:
        """Lays what was asked at one place over everything below."""
        placed: dict[str, Asked] = {}
        for written, value in pairs:
            self.asked.setdefault(origin, {})[written] = value
            for key, ours in self._ours(written, value, origin):
                item = Asked(_kindly(key, ours), origin, written)
                if isinstance(item.value, float) and not math.isfinite(item.value):
                    self.faults.append(f"{key}: found {item.value}; must be a finite number. {item.source()}")
                    continue
                before = placed.setdefault(key, item)
                if before.value != item.value:
                    self.faults.append(
                        f"{key}: given twice, {before.value!r} {before.source()} and {item.value!r} {item.source()}. "
                        "Give it once."
                    )
        self._forget_other_plugins(placed)
        for key, item in placed.items():
            if item.value is None and key in LEAVES and LEAVES[key].default is None:
                self.values.pop(key, None)
                self.values |= {key: self.recipe[key]} if key in self.recipe else {}
            else:
                self.values[key] = item

    def _forget_other_plugins(self, placed: Mapping[str, Asked]) -> None:
        """A plugin that a higher layer names starts from its own defaults, not from another plugin's fields."""
        for root in PLUGINS:
            new, old = placed.get(f"{root}.name"), self.values.get(f"{root}.name")
            if new and old and new.value != old.value:
                self.values = {key: item for key, item in self.values.items() if not key.startswith(f"{root}.")}

    def _ours(self, written: str, value: Any, origin: str) -> list[tuple[str, Any]]:
        """Our keys for what was written; empty when it is a fault (which is then told) or says nothing."""
        if written in LEAVES:
            if written == "data.map" and isinstance(value, str):
                return plan_text.read_map([value], self.faults, "data.map")
            return [(written, value)]
        if (value is None and written in _SECTIONS) or (value == {} and written in (*_SECTIONS, *PLUGINS)):
            return []
        if written in PLUGINS:
            return [(f"{written}.name", value)]
        found = aliases.translate(written, value) or _within_section(written, value)
        if found is None and written.startswith(
            (*(f"{key}." for key in plan_text.DEEPER), *(f"{root}." for root in PLUGINS))
        ):
            return [(written, value)]
        if found is None and written in _FLAT:
            found = _FLAT[written], value
        if found is None:
            self.faults.append(_not_known(written, value, origin))
            return []
        key, ours = found
        self.notes[f"{written} is read as {key}" + ("" if ours is value else f" = {ours}")] = None
        return [found]

    def finish(self, recipe: RecipeValues | None, rows: DataShape | None) -> tuple[PlanSettings, dict[str, str]]:
        """Checks everything, derives what is open, and gives the settings and their origins.

        Raises:
            UserError: All faults at once.
        """
        self._derive_private()
        built = {root: self._plugin(root, kind) for root, kind in PLUGINS.items()}
        self._check_names()
        if recipe is not None:
            self._derive(recipe, rows, built["method"])
        settings = self._settings()
        if settings is not None:
            known = {root: one for root, one in built.items() if one is not None}
            whole = {root: {"name": one.plugin_name(), **one.model_dump(mode="json")} for root, one in known.items()}
            settings = settings.model_copy(update=whole)
            self._check_together(settings)
        if self.faults or settings is None:
            raise UserError(self.faults)
        keys = [key for key, _ in plan_text.flatten(settings.model_dump(mode="json"))]
        origins = {key: self.values[key].origin if key in self.values else DEFAULT for key in keys}
        return settings, origins

    def _plugin(self, root: str, kind: str) -> Any:
        own = {key: item.value for key, item in self.values.items() if key.startswith(f"{root}.")}
        try:
            return plugins.build(kind, plan_text.nest(own)[root])
        except UserError as error:
            self.faults += [self._with_source(fault, f"{root}.name") for fault in error.problems]
        except ValueError as error:
            self.faults.append(str(error))
        return None

    def _settings(self) -> PlanSettings | None:
        own = {key: item.value for key, item in self.values.items() if key.split(".")[0] not in PLUGINS}
        try:
            # Through JSON, because there strict means strict: lists are tuples, but True is no 1 and "3" no 3.
            return PlanSettings.model_validate_json(json.dumps(plan_text.nest(own), default=str), strict=True)
        except ValidationError as error:
            self.faults += [self._with_source(fault) for fault in plugins.describe(error, "", [])]
        except ValueError as error:
            self.faults.append(str(error))
        return None

    def _with_source(self, fault: str, otherwise: str = "") -> str:
        """The sentence with where the value came from at its end."""
        steps = fault.split(":")[0].split(".")
        keys = (".".join(steps[:count]) for count in range(len(steps), 0, -1))
        item = next((self.values[key] for key in keys if key in self.values), self.values.get(otherwise))
        return f"{fault} {item.source()}" if item else fault

    def _check_names(self) -> None:
        """Names of plugins in lists, before anything of theirs is loaded."""
        for key, (kind, extra) in _NAMED.items():
            item = self.values.get(key)
            words = [item.value] if item and isinstance(item.value, str) else item.value if item else []
            for word in words if isinstance(words, Sequence) else []:
                if isinstance(word, str) and (word in extra or word in plugins.names(kind)):
                    continue
                try:
                    if isinstance(word, dict) or (isinstance(word, str) and "(" in word):
                        plugins.build(kind, word)
                    elif isinstance(word, str):
                        plugins.find(kind, word, extra)
                except UserError as error:
                    self.faults += [self._with_source(f"{key}: {fault}") for fault in error.problems]

    def _derive(self, recipe: RecipeValues, rows: DataShape | None, method: Any) -> None:
        name = recipe.plugin_name()
        self.values.setdefault("recipe", Asked(name, "derived: the recipe for such rows", "recipe"))
        if "train.learning_rate" not in self.values and method is not None:
            try:
                rate = recipe.learning_rate(method.plugin_name())
            except UserError as error:
                self.faults += error.problems
            else:
                why = f"derived: recipe {name}, method {method.plugin_name()}"
                self.values["train.learning_rate"] = Asked(rate, why, "learning_rate")
        if rows is None:
            return
        if "train.num_train_epochs" not in self.values:
            why = f"derived: recipe {name}, {rows.train_rows} training rows"
            self.values["train.num_train_epochs"] = Asked(recipe.epochs(rows.train_rows), why, "num_train_epochs")
        instruction = recipe.instruction(rows.labels)
        if "data.instruction" not in self.values and instruction:
            why = f"derived: recipe {name}, {len(rows.labels)} labels"
            self.values["data.instruction"] = Asked(instruction, why, "instruction")

    def _derive_private(self) -> None:
        """What privacy asks of the rest of a plan, where that says nothing itself."""
        target, unit = self.values.get("privacy.target_epsilon"), self.values.get("privacy.unit")
        if target is None or target.value is None:
            return
        baselines = self.values.get("evaluate.baselines")
        # What is of the wrong kind is told when the whole plan is read.
        names = baselines.value if baselines and isinstance(baselines.value, list | tuple) else ()
        for key, (value, why) in private_plan.derived(str(self.values["method.name"].value), names).items():
            if key not in self.values or self.values[key].origin.startswith("recipe"):
                self.values[key] = Asked(value, f"derived: privacy, {why}", key)
        if unit is not None and unit.value not in ("row", None) and "data.unit" not in self.values:
            self.values["data.unit"] = Asked(unit.value, "derived: privacy.unit", "unit")

    def _check_together(self, settings: PlanSettings) -> None:
        """What no single value shows."""
        train, valid, test = settings.data.splits
        if min(train, valid, test) < 0 or train == 0 or not math.isclose(train + valid + test, 1, abs_tol=1e-6):
            shares = f"data.splits: found {train:g}, {valid:g}, {test:g}; must be shares of train, validation and test "
            self.faults.append(self._with_source(shares + "that are not negative and sum to 1, with some for train."))
        self.faults += [self._with_source(fault) for fault in private_plan.faults(settings)]
        metrics = settings.evaluate.metrics
        for name in (settings.evaluate.primary or ()) if metrics is not None else ():
            if name not in (metrics or ()):
                allowed = ", ".join(metrics or ())
                fault = f"evaluate.primary: '{name}' is not in evaluate.metrics ({allowed}). Add it there."
                self.faults.append(self._with_source(fault))


def _kindly(key: str, value: Any) -> Any:
    """Reads `a,b` as a list where a list is wanted, and a whole number as text where text is (a column named 2024)."""
    if key not in LEAVES:
        return str(value) if key.startswith("data.map.") and type(value) is int else value
    wanted = str(LEAVES[key].annotation)
    if "tuple" in wanted and isinstance(value, str):
        return [_word(word) for word in value.split(",")] if value else []
    if type(value) is int and LEAVES[key].annotation in (str, str | None):
        return str(value)
    return value


def _word(word: str) -> Any:
    """A member of a list; what is no YAML stays as it is, and is refused as what it is not."""
    try:
        return plan_text.parse(word)
    except ValueError:
        return word


def _within_section(written: str, value: Any) -> tuple[str, Any] | None:
    """Another tool's name behind one of our sections, as `train.bf16`, if it is of that section."""
    root, _, last = written.partition(".")
    found = aliases.translate(last, value) if root in _SECTIONS else None
    return found if found and found[0].startswith(f"{root}.") else None


def _not_known(written: str, value: Any, origin: str) -> str:
    """The sentence for a key that is none of ours and none we translate."""
    if written in aliases.REFUSED:
        return f"{written}: is not a setting here. {aliases.REFUSED[written]} ({origin})"
    root, _, last = written.partition(".")
    if root in _SECTIONS and last in aliases.REFUSED:
        return f"{written}: is not a setting here. {aliases.REFUSED[last]} ({origin})"
    if written in _SECTIONS:
        return f"{written}: found {value!r}; it is a section and holds keys: {', '.join(_keys_of(root))}. ({origin})"
    if root in _SECTIONS:
        near = nearest(written, [f"{root}.{leaf}" for leaf in _keys_of(root)])
        return f"{written}: unknown key.{near} Allowed in {root}: {', '.join(_keys_of(root))}. ({origin})"
    near = nearest(written, [*PlanSettings.model_fields, *LEAVES, *_FLAT, *aliases.names()])
    if "." in written:
        return f"{written}: unknown key.{near} Allowed roots: {', '.join(PlanSettings.model_fields)}. ({origin})"
    return f"{written}: unknown key.{near} `tunewright plan --schema` prints all that are allowed. ({origin})"


def _keys_of(section: str) -> list[str]:
    return sorted(_SECTIONS[section].model_fields)
