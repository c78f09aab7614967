"""Limits of size, and rules that no linter knows, measured over the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tunewright
from tunewright.core import plugins

ROOT = Path(__file__).resolve().parents[1]
SOURCE = Path(tunewright.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS, MOST_METHODS = 400, 60, 7, 12
READS_ENVIRONMENT = {"core/threads.py", "core/files.py", "cli/faults.py"}
"""Where the cache is; whether a fault of ours is shown in full."""
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"torch.load", "eval", "exec", "print"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def oversized(text: str) -> list[str]:
    """A line for each function, class or file beyond its limit."""
    found = [f"{len(text.splitlines())} lines"] if len(text.splitlines()) > MOST_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            length = (node.end_lineno or first) - first + 1
            arguments = node.args
            count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
            found += [f"{node.name} has {length} lines"] if length > MOST_FUNCTION_LINES else []
            found += [f"{node.name} has {count} parameters"] if count > MOST_PARAMETERS else []
        if isinstance(node, ast.ClassDef):
            methods = [each.name for each in node.body if isinstance(each, Function) and _is_method(each)]
            found += [f"{node.name} has {len(methods)} public methods"] if len(methods) > MOST_METHODS else []
    return found


def _is_method(node: Function) -> bool:
    """Public, and not a property: those are values."""
    return not node.name.startswith("_") and not any("property" in ast.unparse(d) for d in node.decorator_list)


def undocumented(text: str) -> list[str]:
    """Public functions and classes, and methods of public classes, without a docstring; `module` for the file."""
    tree = ast.parse(text)
    found = ["module"] if tree.body and not ast.get_docstring(tree) else []
    return found + [node.name for node in _public(tree) if not ast.get_docstring(node)]


def _public(tree: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


def forbidden(text: str) -> list[str]:
    """Ways to run code out of a data file, and prints: what the source must not hold."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_IMPORTS]
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FORBIDDEN_IMPORTS:
            found.append(str(node.module))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in FORBIDDEN_CALLS else []
            for word in node.keywords:
                allows = not (isinstance(word.value, ast.Constant) and word.value.value is False)
                found += [f"{word.arg}="] if word.arg in ("trust_remote_code", "allow_pickle") and allows else []
    return found


def reads_environment(text: str) -> bool:
    """Whether the source asks for an environment variable."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.environb"):
            return True
        named = (
            {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom) and node.module == "os" else set()
        )
        if named & {"environ", "getenv", "environb"}:
            return True
    return False


def _findings(measure: Callable[[str], list[str]]) -> dict[str, list[str]]:
    found = {_name(path): measure(path.read_text(encoding="utf-8")) for path in FILES}
    return {name: findings for name, findings in found.items() if findings}


def _name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_the_source_was_found() -> None:
    assert len(FILES) > 100


def test_functions_classes_and_files_keep_their_limits() -> None:
    assert _findings(oversized) == {}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_no_source_is_ignored_by_git() -> None:
    """A pattern such as `runs/` also means a package of that name, and then a clone lacks it."""
    listed = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", "src", "tests", "benchmarks"]
    ignored = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    made = ("__pycache__/", ".egg-info/", "_cache/", ".hypothesis/")
    assert [name for name in ignored if name and not any(part in name for part in made)] == []


def test_public_names_are_documented() -> None:
    assert _findings(undocumented) == {}


def test_nothing_runs_code_from_data_and_nothing_prints() -> None:
    assert _findings(forbidden) == {}


def test_the_environment_is_read_in_few_places() -> None:
    assert {_name(path) for path in FILES if reads_environment(path.read_text(encoding="utf-8"))} == READS_ENVIRONMENT


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_a_file_of_a_plugin_folder_defines_exactly_one_public_plugin(kind: str) -> None:
    folder = SOURCE.joinpath(*plugins.KINDS[kind].split(".")[1:])
    files = [path for path in folder.glob("*.py") if not path.name.startswith("_")]
    assert files
    inside = [p for p in plugins.everything(kind) if p.__module__.startswith("tunewright.")]
    assert sorted(plugin.__module__.rsplit(".", 1)[-1] for plugin in inside) == sorted(path.stem for path in files)
    for plugin in inside:
        module = sys.modules[plugin.__module__]
        own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
        public = [each for each in own if issubclass(each, plugins.Plugin) and not each.__name__.startswith("_")]
        assert public == [plugin]


def test_plugins_are_frozen_strict_and_say_what_they_are() -> None:
    for kind in plugins.KINDS:
        for plugin in plugins.everything(kind):
            assert plugin.model_config["frozen"], plugin
            assert plugin.model_config["extra"] == "forbid", plugin
            assert plugin.summary().endswith("."), plugin


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("x = 1\n" * 401, "401 lines"),
        ("def f():\n" + "    x = 1\n" * 60, "f has 61 lines"),
        ("class A:\n    @staticmethod\n    def f():\n" + "        x = 1\n" * 59, "f has 61 lines"),
        ("def f(a, b, /, c, d, e, *, f, g, h): ...", "f has 8 parameters"),
        ("class A:\n" + "".join(f"    def m{i}(self): ...\n" for i in range(13)), "A has 13 public methods"),
    ],
)
def test_a_planted_giant_is_found(planted: str, found: str) -> None:
    assert oversized(planted) == [found]


def test_what_keeps_the_limits_is_let_through() -> None:
    properties = "".join(f"    @property\n    def p{i}(self): ...\n" for i in range(13))
    methods = "".join(f"    def m{i}(self): ...\n    def _m{i}(self): ...\n" for i in range(12))
    assert oversized(f"class A:\n{properties}{methods}") == []
    assert oversized("def f(a, b, c, d, e, f, g, *more, **words):\n" + "    x = 1\n" * 59) == []
    assert oversized("x = 1\n" * 400) == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("x = 1", ["module"]),
        ('"""M."""\ndef f(): ...\ndef _g(): ...', ["f"]),
        ('"""M."""\nclass A:\n    def f(self): ...\n    def _g(self): ...', ["A", "f"]),
        ('"""M."""\nclass _A:\n    def f(self): ...', []),
        ("", []),
    ],
)
def test_a_planted_missing_docstring_is_found(planted: str, found: list[str]) -> None:
    assert undocumented(planted) == found


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "print(1)",
        "open_it(trust_remote_code=True)",
        "open_it(trust_remote_code=user_says)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_a_planted_danger_is_found(planted: str) -> None:
    assert len(forbidden(planted)) == 1
    assert (
        forbidden("open_it(trust_remote_code=False)\nnp.load(path, allow_pickle=False)\nsafetensors.torch.load(p)")
        == []
    )


@pytest.mark.parametrize("planted", ["os.environ['A']", "os.getenv('A')", "from os import environ"])
def test_a_planted_look_at_the_environment_is_found(planted: str) -> None:
    assert reads_environment(planted)
    assert not reads_environment("os.path.join('a')\nfrom os import path")
