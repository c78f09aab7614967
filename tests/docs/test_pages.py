"""Pages: links lead somewhere, every plugin and setting that is named exists and the other way round."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer

from docs.pages import PAGES, ROOT, blocks, commands, prose, text_of, tunewright_commands
from tunewright.cli.app import app
from tunewright.core import plugins
from tunewright.core.plan_layers import LEAVES

COMMAND = typer.main.get_command(app)
VERBS = COMMAND.commands  # type: ignore[attr-defined]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
SECTIONS = ("data", "train", "evaluate", "gates", "objective", "method")
FILES_OF_SPLITS = {"csv", "tsv", "json", "jsonl", "txt", "parquet"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    titles = re.findall(r"^#+ (.*)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links of a text on that page that lead nowhere."""
    broken = []
    for target in LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_relative_to(ROOT) or not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    assert broken_links(ROOT / name, text_of(name)) == []


def test_a_planted_broken_link_is_found() -> None:
    page = ROOT / "docs" / "index.md"
    text = "[a](absent.md) [b](../README.md) [c](formats.md#label) [d](formats.md#absent) [e](https://example.org)"
    assert broken_links(page, text) == ["absent.md", "formats.md#absent"]


def test_every_page_is_reachable_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = [target.partition("#")[0] for target in LINK.findall(prose(page.read_text(encoding="utf-8")))]
        waiting += [(page.parent / target).resolve() for target in targets if target.endswith(".md")]
    # The index is for whoever comes in through the folder.
    for link in LINK.findall(text_of("docs/index.md")):
        reached.add((ROOT / "docs" / link).resolve())
    assert set(PAGES) - reached == {ROOT / "docs" / "index.md"}


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_plugin_is_named_in_the_documentation(kind: str) -> None:
    text = "\n".join(map(text_of, NAMES))
    inside = [plugin for plugin in plugins.everything(kind) if plugin.__module__.startswith("tunewright.")]
    absent = [
        p.plugin_name() for p in inside if not re.search(rf"`{p.plugin_name()}`|^## {p.plugin_name()}$", text, re.M)
    ]
    assert absent == []


def test_the_table_of_plugins_names_them_all_and_no_other() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([\w/]+)` \| .* \| (.*) \|$", text_of("docs/adding-a-plugin.md"), re.MULTILINE)
    assert [kind for kind, _, _ in rows] == list(plugins.KINDS)
    for kind, folder, named in rows:
        assert f"tunewright.{folder.strip('/').replace('/', '.')}" == plugins.KINDS[kind]
        inside = {p.plugin_name() for p in plugins.everything(kind) if p.__module__.startswith("tunewright.")}
        assert kind == "formats" or set(re.findall(r"`(\w+)`", named)) == inside


def test_the_readme_lists_the_verbs_there_are() -> None:
    table = text_of("README.md").split("## Verbs")[1].split("##")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(VERBS)


def faults_of(words: list[str]) -> list[str]:
    """What is wrong with a typed command: its verb, its options, its arguments, the plan keys it sets."""
    verb, *rest = words
    if verb not in VERBS:
        return [f"no verb {verb}"]
    try:
        context = VERBS[verb].make_context(verb, list(rest))
    except Exception as error:  # noqa: BLE001  (whatever the parser says is the finding)
        return [f"{verb}: {error}"]
    keys = [word.partition("=")[0] for word in context.params.get("sets") or ()]
    return [f"no setting {key}" for key in keys if not is_setting(key)]


def is_setting(key: str) -> bool:
    """Whether a dotted key may stand in a plan; the fields of formats, methods and objectives too."""
    if key.startswith("data.options."):
        return any(key.rpartition(".")[2] in p.model_fields for p in plugins.everything("formats"))
    section, _, name = key.partition(".")
    if section in ("method", "objective") and name:
        return any(name in ("name", *p.model_fields) for p in plugins.everything(section + "s"))
    return key in LEAVES or any(leaf.startswith(f"{key}.") for leaf in LEAVES)


@pytest.mark.parametrize("name", [name for name in NAMES if commands(text_of(name))])
def test_typed_commands_parse(name: str) -> None:
    assert [fault for words in tunewright_commands(text_of(name)) for fault in faults_of(words)] == []


def test_commands_are_found_where_they_are_expected() -> None:
    assert len(tunewright_commands(text_of("README.md"))) >= 3
    assert len(tunewright_commands(text_of("docs/tutorial-medical.md"))) >= 10


@pytest.mark.parametrize(
    "planted",
    [
        ["improve", "rows.csv"],
        ["tune", "rows.csv", "--epochs", "3"],
        ["predict", "runs/first", "new.csv"],
        ["predict", "runs/first", "new.csv", "--out", "a.csv", "--min-accuracy", "2"],
        ["tune", "rows.csv", "--set", "train.epoch_count=3"],
        ["tune", "rows.csv", "--set", "method.rang=3"],
    ],
)
def test_a_planted_wrong_command_is_found(planted: list[str]) -> None:
    assert faults_of(planted)


def test_commands_of_make_exist() -> None:
    targets = set(re.findall(r"^(\w+):", text_of("Makefile"), re.MULTILINE))
    typed = {words[-1] for name in NAMES for words in commands(text_of(name)) if words[0] == "make"}
    named = set(re.findall(r"`make (?:\w+=\S+ )?(\w+)`", "\n".join(map(text_of, NAMES))))
    assert {"run", "test"} <= typed
    assert typed | named <= targets


def test_inline_commands_use_verbs_and_options_there_are() -> None:
    """`check --show-mask 2` in a sentence is a promise too; words in capitals stand for the reader's own."""
    inline = re.findall(rf"`(?:tunewright )?((?:{'|'.join(VERBS)}) --[^`]+)`", "\n".join(map(text_of, NAMES)))
    assert len(inline) >= 3
    options = {verb: {o for p in command.params for o in p.opts} | {"--help"} for verb, command in VERBS.items()}
    wrong = [text for text in inline if not set(re.findall(r"--[\w-]+", text)) <= options[text.split()[0]]]
    assert wrong == []


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_are_named_exist(name: str) -> None:
    found = re.findall(rf"`((?:{'|'.join(SECTIONS)})\.\w+)[`=:]", text_of(name))
    settings = [key for key in found if key.rpartition(".")[2] not in FILES_OF_SPLITS]
    assert [key for key in settings if not is_setting(key)] == []


def test_a_planted_setting_is_found_missing() -> None:
    assert not is_setting("train.epoch_count")
    assert is_setting("train.max_length")
    assert is_setting("method.r")


@pytest.mark.parametrize("name", NAMES)
def test_files_that_are_named_exist(name: str) -> None:
    """`models/attention.py` is below the package, `tests/outside` at the root; new files of the reader are exempt."""
    mine = {"evaluate/metrics/answer_length.py", "_name.py"}
    named = set(re.findall(r"`([\w./-]+\.(?:py|yaml|toml))`", prose(text_of(name)))) - mine
    places = (ROOT, ROOT / "src" / "tunewright")
    of_a_run = {"plan.yaml"}
    assert [file for file in named - of_a_run if not any((place / file).exists() for place in places)] == []


def tracked() -> list[Path]:
    """Text files that are in the project, tracked or new but not ignored."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


MACHINE_PATH = re.compile(r"(?<![\w.~/:-])/(?:root|home|work|Users|mnt|workspace)/(?!somebody\b)[\w.]")
"""Of somebody's invented home the tests of the report may speak."""
FOREIGN = re.compile(r"(?<!scope=\")\b(?:sessions?|helper|agents?)\b", re.IGNORECASE)


def traces(text: str) -> list[str]:
    """Paths of one machine, and words that tell of something beside the project."""
    return [found[0] for pattern in (MACHINE_PATH, FOREIGN) for found in pattern.finditer(text)]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_texts_speak_of_the_project_alone() -> None:
    found = {}
    for path in tracked():
        if path == Path(__file__).resolve():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if traces(text):
            found[path.relative_to(ROOT).as_posix()] = traces(text)[:3]
    assert found == {}


def test_a_planted_trace_is_found() -> None:
    assert traces("see /home/ann/rows.csv") == ["/home/a"]
    assert traces('an agent did it; @pytest.fixture(scope="session")') == ["agent"]
    assert traces("~/.cache/tunewright, docs/home/page.md, https://example.org/home/x, the helpers ride") == []


def test_the_figures_have_their_place() -> None:
    assert len(re.findall(r"<!-- figures -->\n(.*?)<!-- /figures -->", text_of("README.md"), re.DOTALL)) == 1


def test_code_blocks_name_their_language() -> None:
    for name in NAMES:
        opened = [line for line in text_of(name).splitlines() if line.startswith("```")]
        assert len(opened) % 2 == 0, name
    assert blocks("```json\n{}\n```\n", "json") == ["{}\n"]


def test_a_decision_says_what_why_and_at_what_price() -> None:
    pages = [name for name in NAMES if name.startswith("docs/decisions/")]
    assert len(pages) >= 7
    for name in pages:
        assert all(f"**{part}.**" in text_of(name) for part in ("Decision", "Why", "Price")), name
        assert f"({name.removeprefix('docs/')})" in text_of("docs/index.md"), name
        assert len(text_of(name).splitlines()) <= 40, name


def test_variables_of_the_environment_are_told() -> None:
    source = (path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    read = {name for text in source for name in re.findall(r"environ[^\n]*\"(TUNEWRIGHT_\w+)\"", text)}
    assert read == {"TUNEWRIGHT_CACHE", "TUNEWRIGHT_DEBUG"}
    assert [name for name in sorted(read) if name not in text_of("README.md")] == []
