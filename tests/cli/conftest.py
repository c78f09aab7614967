"""A pipeline that records what it is asked, and a run folder."""

import sys
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace

import pytest


@pytest.fixture
def pipeline(monkeypatch):
    """A pipeline that records its calls; `pipeline.answer` is what each verb returns, raises or does.

    Before that it writes to the run `pipeline.writing`, where one is named.
    """
    calls: list[tuple] = []
    stub = SimpleNamespace(
        calls=calls, progress=None, writing=None, answer=SimpleNamespace(exit_code=0, lines=["a line", "another"])
    )

    def verb(name):
        def called(*arguments, **words):
            stub.progress = words.pop("progress", None)
            calls.append((name, *arguments, *words.items()))
            if stub.writing:
                from tunewright.core.store import Run

                with Run(Path(stub.writing)).writing():
                    pass
            if isinstance(stub.answer, FunctionType):
                stub.answer()
            if isinstance(stub.answer, BaseException):
                raise stub.answer
            return stub.answer

        return called

    for module, verbs in {
        "check": ["check", "plan"], "train": ["train"], "tune": ["tune"], "evaluate": ["evaluate"],
        "resume": ["resume"], "compare": ["compare"], "predict": ["predict"], "score": ["score"], "probe": ["probe"],
        "audit": ["audit"],
        "delete": ["delete"], "fetch": ["fetch"], "doctor": ["doctor"],
    }.items():  # fmt: skip
        fake = ModuleType(f"tunewright.pipeline.{module}")
        for name in verbs:
            setattr(fake, name, verb(name))
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    report = ModuleType("tunewright.report")
    report.write = verb("report")
    monkeypatch.setitem(sys.modules, "tunewright.report", report)
    return stub


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run folder in an otherwise empty place."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text("resolved: {}\n")
    return folder
