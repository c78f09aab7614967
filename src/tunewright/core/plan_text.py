"""What a user writes as a plan (a YAML file, `k=v` words) as flat dotted keys; faults are collected, not raised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

_MAP = "data.map"
DEEPER = (_MAP, "data.options")
"""Keys below a section whose value is itself a mapping of plan keys."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars (1e-3 is a number, `no` and dates are words), and no key twice."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  (PyYAML's own class attribute)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Also quotes what `_Loader` alone takes for a number (08, 1e3), so that a text is read as a text again."""


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)


def written(tree: Any) -> str:
    """A value as `parse` reads it."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def parse(text: str) -> Any:
    """A YAML value.

    Raises:
        ValueError: The text is not YAML; the message says what and where.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ValueError(str(error).replace("\n", " ")) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def flatten(tree: Mapping[Any, Any]) -> list[tuple[str, Any]]:
    """Dotted keys, section and key: what stands deeper is a value; dotted keys may be mixed in."""
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        head = str(key)
        if not value or not isinstance(value, Mapping) or (head.count(".") and head not in DEEPER):
            pairs.append((head, value))
            continue
        for below, leaf in value.items():
            name = f"{head}.{below}"
            pairs.extend(flatten({name: leaf}) if name in DEEPER else [(name, leaf)])
    return pairs


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The tree of dotted keys.

    Raises:
        ValueError: A key is given both a value and keys below it.
    """
    tree: dict[str, Any] = {}
    for key in sorted(flat, key=lambda name: name.count(".")):
        *heads, last = key.split(".")
        place = tree
        for head in heads:
            place = place.setdefault(head, {})
            if not isinstance(place, dict):
                raise ValueError(f"{key}: '{head}' is given a value of its own as well. Give one of the two.")
        place[last] = flat[key]
    return tree


def read_file(path: Path, faults: list[str]) -> dict[Any, Any]:
    """The tree in a plan file; the plan.yaml of a run counts as what it resolved to."""
    try:
        tree = parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        faults.append(f"Plan file {path} does not exist.")
    except OSError as error:
        faults.append(f"Plan file {path} cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        faults.append(f"Plan file {path} is not UTF-8 text. Save it as UTF-8.")
    except ValueError as error:
        faults.append(f"Plan file {path}, {error}. It must be YAML.")
    else:
        if isinstance(tree, dict):
            resolved = tree.get("resolved")
            return resolved if isinstance(resolved, dict) and "origins" in tree else tree
        if tree is not None:
            faults.append(f"Plan file {path} holds {type(tree).__name__}; it must hold keys, as `train: {{...}}`.")
    return {}


def read_sets(words: Iterable[str], faults: list[str]) -> list[tuple[str, Any]]:
    """`--set key=value`: the value is YAML; a comma may separate several pairs only as several --set."""
    pairs: list[tuple[str, Any]] = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            faults.append(f"--set {word}: must be key=value, as --set train.max_steps=100.")
            continue
        try:
            value = parse(text) if text.strip() else ""
        except ValueError as error:
            faults.append(f"--set {word}: {error}. Put quotes around the value.")
            continue
        pairs.extend(flatten({key.strip(): value}))
    return pairs


def read_map(words: Iterable[str], faults: list[str], option: str = "--map") -> list[tuple[str, Any]]:
    """`--map ours=column[,ours=column]` as keys of `data.map`."""
    pairs: list[tuple[str, Any]] = []
    for word in words:
        for piece in word.split(","):
            ours, equals, column = (part.strip() for part in piece.partition("="))
            if not equals or not ours or not column:
                first = word.partition("=")[0].strip()
                comma = f" If its name holds a comma, in a plan: data.map.{first}: ITS NAME." if "," in word else ""
                faults.append(f"{option} {word}: must be ours=column[,ours=column], as text=review,label=score.{comma}")
                break
            pairs.append((f"{_MAP}.{ours}", column))
    return pairs
