"""The verbs: what they hand to the pipeline, what they print, and how they end."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from tunewright.cli import main
from tunewright.cli.app import app
from tunewright.core.config import ProbeRequest, Request

SURFACE = {
    "check": "[data] --help --map --model --out --plan --recipe --set --show-mask",
    "audit": "run --control --help --json --twin",
    "compare": "runs --help --out",
    "delete": "run --help --yes",
    "doctor": "--help",
    "epsilon": "--delta --help --q --sigma --steps --target-epsilon",
    "evaluate": "run --help --set",
    "fetch": "name --accept-licence --help",
    "list": "[kind] --help",
    "plan": "[data] --help --map --model --out --plan --recipe --schema --set",
    "predict": "run rows --help --map --min-accuracy --out --probabilities",
    "probe": "name --form --help --json --model --precision --run",
    "report": "run --help",
    "resume": "run --help",
    "score": "--help --json --model --precision --rows --run --terminator",
    "train": "[data] --help --map --model --out --plan --recipe --set",
    "tune": "[data] --help --map --model --out --plan --recipe --set",
}
"""Every verb with its arguments and options: what scripts rely on. Changing it is changing a contract."""


def clean(command: typer.core.TyperCommand) -> str:
    """Arguments in order, then long options sorted."""
    arguments = [p.name if p.required else f"[{p.name}]" for p in command.params if p.param_type_name == "argument"]
    options = [o for p in command.params if p.param_type_name == "option" for o in p.opts if o.startswith("--")]
    return " ".join(arguments + sorted([*options, "--help"]))


def test_the_commands_and_their_options_are_frozen():
    commands = typer.main.get_command(app).commands
    assert {name: clean(command) for name, command in commands.items()} == SURFACE


def test_every_command_and_option_says_what_it_is():
    commands = typer.main.get_command(app).commands
    silent = [f"{name} {p.name}" for name, c in commands.items() for p in c.params if not getattr(p, "help", "")]
    assert silent == []
    assert [name for name, command in commands.items() if not 0 < len(command.help.splitlines()[0]) <= 60] == []


# Start-up


def python(*arguments: str, **words) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, **words)


RUN = "import sys; from tunewright.cli import main; code = main(sys.argv[1:]); "


def test_help_is_instant():
    spent, waited = [], []
    for _ in range(3):
        before, began = os.times(), time.perf_counter()
        assert python("-c", RUN + "sys.exit(code)", "--help").returncode == 0
        after = os.times()
        waited.append(time.perf_counter() - began)
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
    print(f"--help: {sorted(waited)[1]:.3f} s, of which {sorted(spent)[1]:.3f} s of processor")  # noqa: T201
    # Processor time, so that a busy machine does not fail it.
    assert sorted(spent)[1] < 0.3


@pytest.mark.parametrize(
    ("words", "allowed", "shown"),
    # typer itself turns to pydantic when it reads the words of a verb
    [(["--help"], [], "Commands:"), (["tune", "--help"], ["pydantic"], "--map")],
)
def test_help_imports_nothing_heavy(words, allowed, shown):
    heavy = {"torch", "pydantic", "transformers", "peft", "numpy", "yaml", "rich", "sklearn", "scipy", "filelock"}
    done = python("-c", RUN + f"print(sorted({heavy - {*allowed}} & set(sys.modules)))", *words)
    assert done.stdout.splitlines()[-1] == "[]"
    assert shown in done.stdout


def test_the_installed_command_ends_with_the_exit_code():
    script = Path(sys.executable).with_name("tunewright")
    if not script.exists():
        pytest.skip("the package is not installed here")
    assert subprocess.run([script, "nothing"], capture_output=True, timeout=60).returncode == 2
    assert subprocess.run([script, "--version"], capture_output=True, timeout=60).returncode == 0


def test_version(capsys):
    from tunewright import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tunewright {__version__}\n"


def test_the_package_runs_as_the_command_does():
    ran = python("-m", "tunewright", "check", "nowhere.csv")
    assert ran.returncode == 2
    assert "nowhere.csv" in ran.stderr


# What reaches the pipeline


@pytest.mark.parametrize("verb", ["check", "plan", "train", "tune"])
def test_shared_options_become_one_request(pipeline, verb):
    words = [
        "rows.csv",
        "--map",
        "text=a,label=b",
        "--map",
        "unit=c",
        "--set",
        "lr=1",
        "--set",
        "seed=2",
        "--out",
        "o",
        "--plan",
        "p.yaml",
        "--recipe",
        "chat",
        "--model",
        "m",
    ]
    assert main([verb, *words]) == 0
    maps = ("text=a,label=b", "unit=c")
    assert pipeline.calls[0][:2] == (
        verb,
        Request("rows.csv", Path("p.yaml"), ("lr=1", "seed=2"), maps, Path("o"), "chat", "m"),
    )


def test_data_may_be_left_to_the_plan_file_and_options_may_come_first(pipeline):
    assert main(["tune", "--plan", "p.yaml"]) == 0
    assert main(["train", "--set", "seed=1", "x.csv"]) == 0
    assert [call[1] for call in pipeline.calls] == [
        Request(plan_file=Path("p.yaml")),
        Request("x.csv", sets=("seed=1",)),
    ]


def test_each_verb_hands_over_its_own(pipeline, run):
    for words in (
        ["check", "x", "--show-mask", "3"], ["evaluate", "r", "--set", "probes=[]"], ["resume", "r"],
        ["audit", "r", "--json", "o.json", "--twin", "9", "--control"], ["audit", "r"],
        ["compare", "r", "s", "t"], ["predict", "r", "rows.csv", "--out", "o.csv", "--min-accuracy", "0.9"],
        ["predict", "r", "rows.csv", "--out", "o.csv", "--map", "text=a,id=b", "--map", "unit=c", "--probabilities"],
        ["score", "--model", "m", "--rows", "r.jsonl", "--json", "o.json", "--terminator", "--precision", "bfloat16"],
        ["score", "--run", "r", "--rows", "r.jsonl", "--json", "o.json"],
    ):  # fmt: skip
        assert main(words) == 0
    assert pipeline.calls == [
        ("check", Request("x"), 3),
        ("evaluate", Path("r"), ["probes=[]"]),
        ("resume", Path("r")),
        ("audit", Path("r"), Path("o.json"), 9, True),
        ("audit", Path("r"), None, 0, False),
        ("compare", [Path("r"), Path("s"), Path("t")], None),
        ("predict", Path("r"), Path("rows.csv"), Path("o.csv"), 0.9, (), False),
        ("predict", Path("r"), Path("rows.csv"), Path("o.csv"), None, ("text=a,id=b", "unit=c"), True),
        ("score", "m", None, Path("r.jsonl"), Path("o.json"), True, "bfloat16"),
        ("score", None, Path("r"), Path("r.jsonl"), Path("o.json"), False, "float32"),
    ]


def test_settings_of_a_probe_are_options_of_the_verb(pipeline):
    words = "probe dialect --model m --json o.json --some-files a --count=3 --some-files b --form quick"
    assert main(words.split()) == 0
    asked = ProbeRequest(
        "dialect", "m", None, Path("o.json"), "quick", "float32", {"some_files": ["a", "b"], "count": ["3"]}
    )
    assert pipeline.calls == [("probe", asked)]


@pytest.mark.parametrize("words", [["--count"], ["--count", "--pairs", "x"], ["stray"]])
def test_an_option_of_a_probe_without_a_value_is_told(pipeline, capsys, words):
    assert main(["probe", "dialect", "--model", "m", "--json", "o.json", *words]) == 2
    assert words[0] in capsys.readouterr().err
    assert pipeline.calls == []


def test_lines_go_to_stdout_and_the_exit_code_is_the_pipelines(pipeline, capsys):
    pipeline.answer.exit_code = 3
    assert main(["tune", "x"]) == 3
    shown = capsys.readouterr()
    assert shown.out == "a line\nanother\n"
    assert shown.err == ""


def test_progress_goes_to_stderr_so_that_output_can_be_piped(pipeline, capsys):
    assert main(["resume", "r"]) == 0
    pipeline.progress("training", 1, 4, "loss 2.1")
    assert capsys.readouterr().err == "training: 1/4 (25 %), loss 2.1\n"


def test_fetch_prints_where_it_lies(pipeline, capsys):
    pipeline.answer = Path("/cache/x")
    assert main(["fetch", "smollm2", "--accept-licence"]) == 0
    assert capsys.readouterr().out == "/cache/x\n"
    (verb, name, say, licence) = pipeline.calls[0]
    assert (verb, name, licence) == ("fetch", "smollm2", ("accept_licence", True))
    say("Building.")
    assert capsys.readouterr().err == "Building.\n"


def test_doctor_prints_a_row_each(pipeline, capsys):
    pipeline.answer = [("torch", "ok", "2.4"), ("parquet", "missing", "pip install 'tunewright[parquet]'")]
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "torch    ok        2.4",
        "parquet  missing   pip install 'tunewright[parquet]'",
    ]
    pipeline.answer.append(("peft", "fault", "Not installed."))
    assert main(["doctor"]) == 2


def test_report_writes_and_says_where(pipeline, run, capsys):
    pipeline.answer = [run / "report.html", run / "report.md"]
    assert main(["report", str(run)]) == 0
    assert pipeline.calls[0][1].folder == run
    assert capsys.readouterr().out.splitlines() == [str(run / "report.html"), str(run / "report.md")]


def test_delete_asks_and_takes_no_for_an_answer(pipeline, run, monkeypatch, capsys):
    monkeypatch.setattr(typer, "confirm", lambda question: str(run) not in question)
    assert main(["delete", str(run)]) == 0
    assert pipeline.calls == []
    assert "Nothing was deleted." in capsys.readouterr().out
    monkeypatch.setattr(typer, "confirm", lambda question: True)
    assert main(["delete", str(run)]) == 0
    assert main(["delete", str(run), "--yes"]) == 0
    assert pipeline.calls == [("delete", run)] * 2


def test_delete_without_anyone_to_ask_deletes_nothing(run):
    done = python("-c", RUN + "sys.exit(code)", "delete", str(run), stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert f"tunewright delete {run} --yes" in done.stderr
    assert "Traceback" not in done.stderr
    assert run.is_dir()


def test_delete_and_report_refuse_what_is_no_run(pipeline, tmp_path, capsys):
    for verb in ("delete", "report"):
        assert main([verb, str(tmp_path)]) == 2
        assert "is not a run folder" in capsys.readouterr().err
    assert pipeline.calls == []


def test_plan_schema_needs_no_data(monkeypatch, capsys):
    from tunewright.core import config

    monkeypatch.setattr(config, "schema", lambda: {"properties": {}})
    assert main(["plan", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == {"properties": {}}


def test_list_tells_kinds_and_then_plugins_with_fields(capsys):
    assert main(["list"]) == 0
    (recipes,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("recipes"))
    assert {"chat,", "classify,", "text"} <= set(recipes.split()[1:])
    for kind in ("recipes", "recipe"):
        assert main(["list", kind]) == 0
        out = capsys.readouterr().out
        assert "\nchat: Questions with free answers" in out
        assert "    primary: tuple[str, ...], default ('accuracy',)\n" in out


def test_list_models_tells_licence_and_how_to_fetch(capsys):
    assert main(["list", "models"]) == 0
    out = capsys.readouterr().out
    assert "smollm2: Apache-2.0; " in out
    assert "gemma3-270m: Gemma Terms of Use; not fetched: tunewright fetch gemma3-270m" in out


def test_what_noise_is_worth_is_printed_as_json(capsys):
    asked = ["epsilon", "--q", "0.01", "--steps", "1000", "--delta", "1e-5"]
    assert main([*asked, "--sigma", "1.0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"prv": pytest.approx(1.83, abs=0.02), "rdp": pytest.approx(2.1, abs=0.02)}
    assert main([*asked, "--target-epsilon", "1.84"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sigma"] == pytest.approx(1.0, abs=0.01)
    assert found["prv"] <= 1.84
    assert main([*asked, "--target-epsilon", "-1"]) == 2
    assert "epsilon" in capsys.readouterr().err
