"""The folder is the registry."""

import itertools
import sys
from pathlib import Path

import pytest

from tunewright.core import plugins
from tunewright.core.errors import UserError

_number = itertools.count()

PLAIN = '''
from pydantic import Field
from tunewright.core.plugins import Plugin

class {name}(Plugin):
    """A thing called {name}. More words.

    And a second paragraph.
    """
    aliases = {aliases}
    size: int = Field(1, gt=0)
    colour: str = "red"

class _Helper(Plugin):
    """Not a plugin."""
'''


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty registry of the kind `things`."""
    package = f"things_{next(_number)}"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(plugins.KINDS, "things", package)
    path = tmp_path / package
    path.mkdir()
    (path / "__init__.py").touch()
    return path


def add(folder: Path, name: str, aliases: tuple[str, ...] = ()) -> None:
    (folder / f"{name}.py").write_text(PLAIN.format(name=name.title(), aliases=repr(aliases)))


def test_a_file_is_a_plugin_and_private_files_and_folders_are_not(folder):
    add(folder, "ball")
    add(folder, "arrow")
    add(folder, "_shared")
    (folder / "texts").mkdir()
    (folder / "texts" / "__init__.py").touch()
    assert plugins.names("things") == ["arrow", "ball"]
    assert [one.plugin_name() for one in plugins.everything("things")] == ["arrow", "ball"]


def test_names_imports_no_plugin(folder):
    (folder / "broken.py").write_text("raise RuntimeError('imported')")
    assert plugins.names("things") == ["broken"]


def test_found_by_alias_under_its_own_name(folder):
    add(folder, "ball", ("sphere", "globe"))
    assert plugins.find("things", "globe").plugin_name() == "ball"
    assert plugins.build("things", "sphere").plugin_name() == "ball"


def test_summary_is_the_first_line(folder):
    add(folder, "ball")
    assert plugins.find("things", "ball").summary() == "A thing called Ball. More words."


def test_a_name_and_a_mapping_build_the_same_value(folder):
    add(folder, "ball")
    assert plugins.build("things", "ball") == plugins.build("things", {"name": "ball", "size": 1})


def test_building_leaves_the_setting_as_it_was(folder):
    add(folder, "ball")
    setting = {"name": "ball", "size": 3}
    assert plugins.build("things", setting).size == 3
    assert setting == {"name": "ball", "size": 3}


def test_a_plugin_is_frozen(folder):
    add(folder, "ball")
    with pytest.raises(ValueError, match="frozen"):
        plugins.build("things", "ball").size = 4


def test_unknown_name_says_the_nearest_and_all(folder):
    add(folder, "ball")
    add(folder, "arrow")
    with pytest.raises(UserError) as error:
        plugins.build("things", "bal")
    assert error.value.problems == ["Unknown thing 'bal'. Did you mean 'ball'? Allowed: arrow, ball."]


@pytest.mark.parametrize("word", ["_shared", "../ball", "ball.py", "", "os"])
def test_what_is_no_plugin_is_not_loaded(folder, word):
    add(folder, "ball")
    add(folder, "_shared")
    with pytest.raises(UserError, match="Unknown thing"):
        plugins.find("things", word)


def test_all_faulty_fields_are_told_at_once(folder):
    add(folder, "ball")
    with pytest.raises(UserError) as error:
        plugins.build("things", {"name": "ball", "size": -1, "color": "blue"})
    size, colour = sorted(error.value.problems, key=len)
    assert "thing.size: found -1" in size
    assert "greater than 0" in size
    assert "thing.color: unknown key. Did you mean 'colour'?" in colour


@pytest.mark.parametrize("setting", [{}, {"size": 2}, {"name": None}, {"name": 3}])
def test_a_setting_without_a_name_is_a_users_fault(folder, setting):
    add(folder, "ball")
    with pytest.raises(UserError, match="needs a 'name'"):
        plugins.build("things", setting)


@pytest.mark.parametrize("count", [0, 2])
def test_a_file_must_define_exactly_one(folder, count):
    text = "from tunewright.core.plugins import Plugin\n"
    text += "".join(f"class Ball{i}(Plugin):\n    'A ball.'\n" for i in range(count))
    (folder / "ball.py").write_text(text)
    with pytest.raises(TypeError, match=f"exactly one public plugin class, found {count}"):
        plugins.find("things", "ball")


def test_outside_packages_enter_through_entry_points(folder, monkeypatch, tmp_path):
    add(folder, "ball")
    (tmp_path / f"outside_{folder.name}.py").write_text(PLAIN.format(name="Kite", aliases="()"))

    class Point:
        name = "kite"

        def load(self):
            return __import__(f"outside_{folder.name}").Kite

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()] if group == "tunewright.things" else [])
    assert plugins.names("things") == ["ball", "kite"]
    assert plugins.build("things", {"name": "kite", "size": 2}).plugin_name() == "kite"


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_shipped_plugin_loads_and_is_documented(kind):
    found = plugins.everything(kind)
    assert [one.plugin_name() for one in found] == plugins.names(kind)
    assert [one.__name__ for one in found if not (one.__doc__ or "").strip() or one.summary() == ""] == []
    assert [one.__name__ for one in found if sys.modules[one.__module__].__doc__ in (None, "")] == []


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_no_two_shipped_plugins_answer_to_one_name(kind):
    words = [word for one in plugins.everything(kind) for word in (one.plugin_name(), *one.aliases)]
    assert sorted(words) == sorted(set(words))
