"""The apparatus of `make bench`, with programs that take no time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.table import __main__ as table  # noqa: E402
from benchmarks.table import figures, render, runner, scripts  # noqa: E402
from benchmarks.table.child import rate  # noqa: E402
from benchmarks.table.row import Figure, Result, Row, Side, ratio  # noqa: E402
from benchmarks.table.rows import _training, everything  # noqa: E402

PEER, OURS = Side("peer", "there", peer=True), Side("ours", "here")


def speed(result: Result) -> float:
    return float(result["speed"])


FASTER = Figure("speed over peer", ratio("ours", "peer", speed), 2)
ROW = Row(
    "race", "Who is faster.", (PEER, OURS), (FASTER, Figure("peer", ratio("peer", "ours", speed), 1, at_most=True))
)


class Programs:
    """Stands for child processes: counts how often each ran."""

    def __init__(self, speeds: Mapping[str, float], fail_at: int | None = None) -> None:
        self.speeds, self.fail_at, self.ran = speeds, fail_at, list[tuple[int, str]]()

    def __call__(self, side: Side, number: int) -> Result:
        if len(self.ran) == self.fail_at:
            raise runner.ChildError("broken off")
        self.ran.append((number, side.name))
        return {"speed": self.speeds[side.name] * (1 + number), "versions": {"torch": "2"}}


@pytest.fixture
def kept(tmp_path: Path) -> runner.Measurements:
    return runner.Measurements.of("race", tmp_path / "measurements")


def page(kept: runner.Measurements, reasons: Mapping[str, str] = {}) -> str:
    rounds, last = kept.newest(ROW)
    found = {"race": figures.Measured.of(ROW, rounds, last, "a machine")} if rounds else {}
    return render.table([ROW], found, reasons)


def test_the_sides_of_a_row_run_in_turn(kept: runner.Measurements) -> None:
    programs = Programs({"peer": 1.0, "ours": 3.0})
    rounds = runner.measure(ROW, 3, kept, "code", programs)
    assert programs.ran == [(n, side) for n in range(3) for side in ("peer", "ours")]
    assert FASTER.values(rounds) == [3.0, 3.0, 3.0]


def test_a_slow_side_runs_once_and_its_result_stands_in_every_round(kept: runner.Measurements) -> None:
    row = Row("race", "Who is faster.", (Side("peer", "there", peer=True, once=True), OURS), (FASTER,))
    programs = Programs({"peer": 1.0, "ours": 3.0})
    rounds = runner.measure(row, 3, kept, "code", programs)
    assert programs.ran == [(0, "peer"), (0, "ours"), (1, "ours"), (2, "ours")]
    assert FASTER.values(rounds) == [3.0, 6.0, 9.0]


def test_a_broken_off_benchmark_goes_on_where_it_stopped(kept: runner.Measurements) -> None:
    with pytest.raises(runner.ChildError):
        runner.measure(ROW, 3, kept, "code", Programs({"peer": 1.0, "ours": 3.0}, fail_at=3))
    with open(kept.path, "a", encoding="utf-8") as file:
        file.write("\n" + chr(123) + "torn")  # the power went
    again = Programs({"peer": 1.0, "ours": 3.0})
    assert len(runner.measure(ROW, 3, kept, "code", again)) == 3
    assert again.ran == [(1, "ours"), (2, "peer"), (2, "ours")]


def test_other_code_is_measured_anew_and_never_mixed(kept: runner.Measurements) -> None:
    runner.measure(ROW, 2, kept, "old", Programs({"peer": 1.0, "ours": 3.0}))
    runner.measure(ROW, 1, kept, "new", Programs({"peer": 1.0, "ours": 5.0}))
    rounds, last = kept.newest(ROW)
    assert FASTER.values(rounds) == [5.0]
    assert last["code"] == "new"


def test_a_started_round_of_new_code_leaves_the_old_figures(kept: runner.Measurements) -> None:
    runner.measure(ROW, 2, kept, "old", Programs({"peer": 1.0, "ours": 3.0}))
    with pytest.raises(runner.ChildError):
        runner.measure(ROW, 2, kept, "new", Programs({"peer": 1.0, "ours": 5.0}, fail_at=1))
    assert FASTER.values(kept.newest(ROW)[0]) == [3.0, 3.0]


def test_a_change_of_code_or_options_changes_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("x = 1\n", encoding="utf-8")
    before = runner.fingerprint(tmp_path)
    assert runner.fingerprint(tmp_path) == before
    (tmp_path / "src" / "a.py").write_text("x = 2\n", encoding="utf-8")
    changed = runner.fingerprint(tmp_path)
    monkeypatch.setenv("BENCH_STEPS", "9")
    assert len({before, changed, runner.fingerprint(tmp_path)}) == 3


@pytest.mark.parametrize(
    ("speeds", "verdict"), [({"peer": 1.0, "ours": 3.0}, "reached"), ({"peer": 1.0, "ours": 1.5}, "short")]
)
def test_the_page_says_what_is_reached(kept: runner.Measurements, speeds: dict[str, float], verdict: str) -> None:
    runner.measure(ROW, 2, kept, "code", Programs(speeds))
    (line,) = [line for line in page(kept).splitlines() if line.startswith("| race | speed over peer |")]
    figure = f"{speeds['ours']:.3g}"
    assert line == f"| race | speed over peer | >= 2 | {figure} ({figure} to {figure}) | 2 | {verdict}, few rounds |"


def test_few_rounds_and_rounds_on_both_sides_of_the_reach_are_told_with_the_verdict() -> None:
    for values, said in (
        ([3.0] * 5, "reached"),
        ([3.0] * 4, "reached, few rounds"),
        ([1.9, 2.1, 2.2, 2.3, 2.4], "reached, not in every round"),
        ([1.0, 2.5], "short, few rounds, not in every round"),
    ):
        found = {"race": figures.Measured("then", "0abc", "one", (), {FASTER.name: figures.Spread.of(values)})}
        assert f"| {said} |\n" in render.table([ROW], found, {})
    alone = Row("race", ROW.what, ROW.sides, (FASTER,), rounds=1)
    found = {"race": figures.Measured("then", "0abc", "one", (), {FASTER.name: figures.Spread.of([3.0])})}
    assert "| 1 | reached |\n" in render.table([alone], found, {})


def test_a_figure_that_falls_short_carries_its_reason(kept: runner.Measurements) -> None:
    runner.measure(ROW, 1, kept, "code", Programs({"peer": 1.0, "ours": 1.5}))
    assert "**race, speed over peer**: no reason is written yet" in page(kept)
    assert "**race, speed over peer**: One core." in page(kept, {"race/speed over peer": "One\ncore."})
    assert "What falls short" not in page(kept) or "**race, peer**" not in page(kept)  # an upper limit that is kept


def test_what_was_not_measured_is_said_and_not_reached(kept: runner.Measurements) -> None:
    assert "| race | speed over peer | >= 2 | not measured | 0 |  |" in page(kept)
    assert "**race, speed over peer**: not measured yet" in page(kept)


@pytest.mark.parametrize(("at", "stands"), [("2000-01-01 00:00", 3.0), ("2999-01-01 00:00", 7.0)])
def test_the_newest_figures_stand_and_rows_measured_elsewhere_stay(
    kept: runner.Measurements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, stands: float
) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(table, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(runner.Measurements, "of", lambda row: runner.Measurements(tmp_path / "measurements" / row))
    elsewhere = figures.Measured(at, "0abc", "another machine", (), {FASTER.name: figures.Spread.of([7.0])})
    figures.write(tmp_path / "results.json", {"race": elsewhere, "jump": elsewhere})
    runner.measure(ROW, 1, runner.Measurements.of("race"), "code", Programs({"peer": 1.0, "ours": 3.0}))

    jump = Row("jump", "Who is higher.", (OURS,), (FASTER,))
    table.write_results([ROW, jump])
    found = figures.read(tmp_path / "results.json")
    assert found["race"].figures[FASTER.name].median == stands
    assert found["jump"] == elsewhere
    written = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| jump | speed over peer | >= 2 | 7 (7 to 7) | 1 | reached, few rounds |" in written
    assert f"Who is higher. Measured {at} at 0abc on machine {1 if stands == 7 else 2}." in written
    assert "another machine" in written


def a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Side:
    (tmp_path / "child.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    return Side("child", "child", ("7",))


def test_a_child_gives_its_last_line_its_memory_and_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
import json, os, sys
held = bytearray(200_000_000)
print("noise")
print(json.dumps({"argument": sys.argv[1], "round": os.environ["BENCH_ROUND"], "since": os.environ["BENCH_STARTED"]}))
"""
    result = runner.run_child(a_child(tmp_path, monkeypatch, text), 3)
    assert (result["argument"], result["round"]) == ("7", "3")
    assert result["peak_bytes"] > 200_000_000
    assert result["wall_seconds"] > 0


@pytest.mark.parametrize("text", ["raise SystemExit('no room')", "print('no json')"])
def test_a_child_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    with pytest.raises(runner.ChildError, match="child 7 ended with"):
        runner.run_child(a_child(tmp_path, monkeypatch, text), 0)


def test_every_row_names_programs_that_exist_and_figures_that_differ() -> None:
    rows = everything()
    assert len({row.name for row in rows}) == len(rows)
    files = {path.stem for path in (ROOT / "benchmarks" / "table" / "rows").glob("[a-z]*.py")}
    assert {row.name for row in rows} == files | set(scripts.SCRIPTS)
    for row in rows:
        assert len({side.name for side in row.sides}) == len(row.sides)
        assert len({figure.name for figure in row.figures}) == len(row.figures)
        if row.name not in scripts.SCRIPTS:
            assert all(find_spec(side.module) for side in row.sides), row.name


def everything_asked(value: float) -> dict[str, Any]:
    """A result that answers any figure."""
    keys = ("tokens_per_second", "peak_bytes", "first_step_seconds", "seconds_per_pair", "tokens_per_pair")
    kinds = dict.fromkeys(("projections", "adapters", "attention", "head"), value)
    lists = {"losses": [value, value], "texts": ["a"], "by_kind": kinds}
    return {**dict.fromkeys(keys, value), **lists}


SHAPES: dict[str, Callable[[str], Any]] = {
    "closed_set": lambda side: {"scores": [[0.5]] if side == "tunewright" else [[0, 0, 0.5]]},
    "matrix_floor": lambda side: {"seconds": 1.0 if side == "products" else [9.0, 1.0]},
    "matrix_floor_bf16": lambda side: {"seconds": 1.0 if side == "products" else [9.0, 1.0]},
}


@pytest.mark.parametrize("row", [row for row in everything() if row.name not in scripts.SCRIPTS], ids=lambda r: r.name)
def test_every_figure_of_a_row_comes_of_what_its_programs_print(row: Row) -> None:
    shape = SHAPES.get(row.name, lambda side: {"seconds": 1.0})
    rounds = [
        {side.name: {**everything_asked(1.0 + number), **shape(side.name)} for side in row.sides} for number in range(2)
    ]
    for figure in row.figures:
        assert len(figure.values(rounds)) == 2, figure.name


def test_a_script_of_its_own_is_a_row(kept: runner.Measurements) -> None:
    (row,) = [row for row in scripts.rows_of_scripts() if row.name == "preparation"]
    rounds = runner.measure(row, 2, kept, "code", lambda side, number: {"ratio": [4.0, 5.0]})
    assert row.sides[0].arguments == ("--json",)
    assert row.figures[0].values(rounds) == [4.0, 5.0], "it repeats by itself"


def test_rates_leave_the_first_step_out() -> None:
    assert rate([100, 10, 20], [99.0, 1.0, 2.0]) == 10.0
    assert rate([100], [50.0]) == 2.0


def test_an_unknown_row_is_named_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main(["lora-sft"]) == 2
    assert "no row lora-sft. Allowed: lora_sft, " in capsys.readouterr().err


def test_the_runner_needs_nothing_heavy() -> None:
    """A child's peak memory starts from its parent's, and the peers' environment lacks our libraries."""
    heavy = ("torch", "numpy", "transformers")
    check = f"import sys, benchmarks.table.__main__; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_kept_lines_say_what_they_are(kept: runner.Measurements) -> None:
    runner.measure(ROW, 1, kept, "code", Programs({"peer": 1.0, "ours": 3.0}))
    line = next(kept.lines())
    assert {"row", "side", "round", "code", "commit", "at", "options", "result"} == line.keys()


def test_a_row_says_what_its_programs_ran_with_and_what_a_reader_must_know(
    kept: runner.Measurements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_PAIRS", "50")
    peer = Side("peer", "there", peer=True, once=True, note="one run of one step")
    row = Row("race", "Who is faster.", (peer, OURS), (FASTER,), options=("BENCH_PAIRS",))
    runner.measure(row, 2, kept, "code", Programs({"peer": 1.0, "ours": 3.0}))
    rounds, last = kept.newest(row)
    figures.write(tmp_path / "results.json", {"race": figures.Measured.of(row, rounds, last, "a machine")})
    found = figures.read(tmp_path / "results.json")
    elsewhere = Row(row.name, row.what, (Side("peer", "there"), OURS), row.figures)  # as a faster machine has it
    written = render.table([elsewhere], found, {})
    assert "reached, few rounds |\n\n- race, peer: one run of one step.\n" in written
    assert "on machine 1; BENCH_PAIRS 50, torch 2." in written
    assert "BENCH_STEPS" not in written


def test_entries_from_before_options_and_notes_were_kept_are_read(tmp_path: Path) -> None:
    old = {"at": "then", "commit": "0abc", "machine": "one", "versions": ["torch 2"], "figures": {}}
    (tmp_path / "results.json").write_text(json.dumps({"race": old}), encoding="utf-8")
    assert figures.read(tmp_path / "results.json")["race"] == figures.Measured("then", "0abc", "one", ("torch 2",), {})


def test_the_peer_s_slow_side_says_that_it_ran_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for fast in (True, False):
        monkeypatch.setattr(_training, "multiplies_bf16", lambda fast=fast: fast)
        side = _training.trl("lora", "defaults")
        assert side.once == bool(side.note) == (not fast)


def test_our_loss_is_judged_by_how_far_two_runs_of_the_peer_lie_apart() -> None:
    losses = {"ours": [[1.0, 2.0], [1.0, 2.0], [1.0, 2.5]], "peer": [[1.0, 2.1], [1.0, 2.3], [1.0, 2.4]]}
    rounds = [{side: {"losses": found[number]} for side, found in losses.items()} for number in range(3)]
    assert _training.loss_noise("peer")(rounds) == pytest.approx([0.25, 0.15, 0.2])
    assert _training.gap_over_noise("ours", "peer")(rounds) == pytest.approx([0.1 / 0.3, 1, 0.1 / 0.3])
    assert _training.loss_noise("peer")(rounds[:1]) == _training.gap_over_noise("ours", "peer")(rounds[:1]) == []


def test_scripts_that_only_print_are_named_and_run_as_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(
        table.subprocess, "run", lambda command, **_: ran.append(command) or subprocess.CompletedProcess(command, 0)
    )
    assert all(table.printed(name) for name in scripts.PLAIN)
    assert ran == [[sys.executable, "-m", f"benchmarks.{name}"] for name in scripts.PLAIN]
    for name in scripts.PLAIN:
        text = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        assert "--json" not in text
        assert not re.search("write_text|resolve_model|example\\(", text), f"{name} writes, or wants a model or rows"


def test_bench_fetches_what_its_rows_read() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nbench:")[1].split("\n\n")[0]
    assert set(re.findall(r"tunewright fetch (\S+)", recipe)) == {"smollm2", "licences", "icd10"}
