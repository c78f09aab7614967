"""A private run that is watched: it trains the same bits, is resumed the same, and a planted fault is caught."""

from __future__ import annotations

import stat
from dataclasses import replace

import pytest

from tunewright.core.config import Request
from tunewright.core.errors import Interrupted
from tunewright.core.progress import silent
from tunewright.core.store import Run
from tunewright.gradients import _noise
from tunewright.models import per_unit
from tunewright.models.families.image_classifier import ImageClassifier
from tunewright.pipeline import train as module
from tunewright.pipeline.audit import audit
from tunewright.pipeline.digits import shape, write_digits
from tunewright.pipeline.resume import resume
from tunewright.runs import trace
from tunewright.train.job import Job

SETS = (
    "audit.canaries=240", "audit.steps=12", "train.max_steps=12", "train.threads=1", "method=full", "seed=1",
    "train.per_device_train_batch_size=16", "train.learning_rate=0.002", "data.splits=[0.8, 0.0, 0.2]",
    "privacy.target_epsilon=1", "privacy.clip=0.01", "privacy.delta=1e-5", "train.save_steps=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Few digits and a small network."""
    folder = tmp_path_factory.mktemp("traced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWRIGHT_CACHE", str(folder / "cache"))
        lines = write_digits(folder / "all.jsonl", range(5, 10)).read_text().splitlines()
        (folder / "rows.jsonl").write_text("\n".join(lines[:60]))
        ImageClassifier().fresh(folder / "network", shape("56789"), 0)
        yield folder


def _request(place, out: str, *sets: str) -> Request:
    return Request(str(place / "rows.jsonl"), None, (*SETS, *sets), (), place / out, None, str(place / "network"))


def _bytes(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (*trace.steps_in(run.folder), *run.model.iterdir())}


def test_steps_are_spread_evenly():
    assert trace.chosen(10, 64) == frozenset(range(10))
    assert trace.chosen(101, 3) == {0, 50, 100}
    assert trace.chosen(7, 1) == {0}


def test_a_tenth_of_the_noise_breaks_the_claim(place, monkeypatch):
    release = _noise.Clipped.release

    def quietly(self, *given):
        release(self.model_copy(update={"sigma": self.sigma / 10}), *given)

    with monkeypatch.context() as patch:
        patch.setattr(_noise.Clipped, "release", quietly)
        patch.setattr(module, "prove", lambda job: None)
        module.train(_request(place, "faulty"), silent)
    result = audit(place / "faulty")
    assert result.exit_code == 3
    assert "BROKEN" in result.lines[0]
    assert "12 steps watched" in result.lines[0]
    found = Run.open(place / "faulty").read("evaluations/audit.json")["canaries"]
    assert found["noise"] == pytest.approx(0.1, abs=0.01)
    assert any("LESS than was promised" in line for line in result.lines)


def test_a_run_of_adapters_is_audited_from_its_first_step_on(place):
    others = ("method=full", "train.learning_rate=0.002", "audit.canaries=240")
    sets = (*(one for one in SETS if one not in others), "method=lora", "train.learning_rate=0.01", "audit.canaries=40")
    request = replace(_request(place, "adapters"), sets=sets)
    module.train(request, silent)
    result = audit(place / "adapters")
    assert result.exit_code == 0
    assert "12 steps watched" in result.lines[0]


def test_watching_changes_no_bit_and_a_resumed_trace_is_the_same(place, monkeypatch):
    monkeypatch.setattr("tunewright.data.canaries.secrets.token_hex", lambda size: "ab" * size)
    monkeypatch.setattr("tunewright.data.canaries.secrets.randbits", lambda size: 1)
    given = "privacy.noise_seed=7"
    module.train(_request(place, "whole", given), silent)
    whole = Run.open(place / "whole")
    assert len(trace.steps_in(whole.folder)) == 12
    assert {path.stat().st_mtime for path in trace.steps_in(whole.folder)} == {0}, "times would tell who came"
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in trace.steps_in(whole.folder))
    loop = module.loop

    def stopped(job: Job, run, progress, stop, engine):
        def after(what, done, total, detail=""):
            stop.requested = what == "training" and done == 6

        return loop(job, run, after, stop, engine)

    with monkeypatch.context() as patch:
        patch.setattr(module, "loop", stopped)
        with pytest.raises(Interrupted):
            module.train(_request(place, "halved", given), silent)
    resume(place / "halved")
    assert _bytes(Run.open(place / "halved")) == _bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(module, "traced", lambda job, prepared, run: job)
        module.train(_request(place, "unwatched", given), silent)
    unwatched = Run.open(place / "unwatched")
    assert not trace.steps_in(unwatched.folder)
    assert _bytes(unwatched) == {name: content for name, content in _bytes(whole).items() if name[0] != "0"}


def test_units_are_watched_a_few_at_a_time_and_the_figures_stay(place, monkeypatch):
    module.train(_request(place, "parts"), silent)
    whole = audit(place / "parts").lines[0]
    with monkeypatch.context() as patch:
        patch.setattr("tunewright.pipeline.traced._PART_BYTES", 4 * 6_600 * 3.5)
        parts, units_of = [], per_unit.Units.of
        patch.setattr(per_unit.Units, "of", lambda batch: parts.append(len(batch.ids)) or units_of(batch))
        assert audit(place / "parts").lines[0] == whole
    assert parts
    assert max(parts) <= 3


def test_a_run_by_the_definition_keeps_no_step_and_is_audited_from_outside(place):
    module.train(_request(place, "defined", "privacy.mode=reference"), silent)
    run = Run.open(place / "defined")
    assert not trace.steps_in(run.folder)
    assert "privacy.mode=reference no step is kept" in (run.folder / "notes.txt").read_text()
    assert "from the finished model alone" in audit(place / "defined").lines[0]
