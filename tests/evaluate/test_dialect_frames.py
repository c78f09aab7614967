"""Prompts of a file in place of the English ones: read with all faults at once, asked, and part of the question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluate.test_dialect import model, silent
from tunewright.core.errors import UserError
from tunewright.core.plugins import build
from tunewright.evaluate.dialect.frames import OVERT_FRAMES, frames_of, read_frames
from tunewright.evaluate.dialect.words import KINDS
from tunewright.pipeline.probe import probe_key

FRENCH = (
    "trait\tElle dit : « {} » Elle est",
    "trait\tIl dit : « {} » Il est",
    "overt\tUne personne {} est",
    "overt\t{}, elle est",
)
NAMES = ("Ann", "Ben", "Cid", "Dot")


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def asked(tmp_path: Path):
    """Settings of a probe whose pairs, prompts, words and groups are all a file's."""
    return {
        "name": "dialect",
        "pairs": write(tmp_path / "pairs.tsv", *(f"{name} chus là\t{name} est là" for name in NAMES)),
        "frames": write(tmp_path / "frames.tsv", "\ufeff" + FRENCH[0], "", *FRENCH[1:]),
        "attributes": [write(tmp_path / "traits.txt", "sage\ttrait\t1", "bête\ttrait\t-1")],
        "groups": ["québécoise", "française"],
    }


def test_our_prompts_are_asked_without_a_file() -> None:
    for portion in ("all", "held_out"):
        ours = read_frames(None, portion)
        assert ours == {kind: frames_of(kind, portion) for kind in (*KINDS, "overt")}
    assert ours["overt"] == OVERT_FRAMES


def test_prompts_of_a_file_are_asked_in_place_of_ours(asked) -> None:
    seen = set[str]()
    probe = build("probes", asked)
    answers = probe.ask(model(lambda context, word: float(bool(seen.add(context)))), silent)
    texts = [f"{name} {said} là" for name in NAMES for said in ("chus", "est")]
    wanted = {f"{who} dit : « {text} » {who} est" for text in texts for who in ("Elle", "Il")}
    wanted |= {f"Une personne {group} est" for group in asked["groups"]} | {f"{g}, elle est" for g in asked["groups"]}
    # What comes beside: the texts themselves, behind the start of the first prompt.
    assert seen == wanted | {"Elle dit : «"}
    assert answers["trait"].shape == (2, 8, 2)
    described = probe.describe(answers, 0, 200)
    assert described["prompts"] == {"trait": 2, "overt": 2}
    for kind in ("conviction", "sentence"):
        assert described["not_measured"][kind] == f"needs prompts of kind {kind} in --frames"
    json.dumps(described, allow_nan=False)
    result = probe.compare(answers, answers, 0, 200)
    assert "English" not in result.sentence + " ".join(described["sentences"])
    assert "groups" not in result.sentence


def test_occupations_may_have_the_article_that_fits(asked, tmp_path: Path) -> None:
    jobs = ("occupation\tShe says: {} She is <a>", "occupation\tHe says: {} He is now <a>")
    asked["frames"] = write(tmp_path / "more.tsv", *FRENCH, *jobs)
    asked["attributes"].append(write(tmp_path / "occupations.txt", "artist", "cook"))
    seen = set[tuple[str, str]]()
    answers = build("probes", asked).ask(model(lambda c, word: float(bool(seen.add((c.split()[-1], word))))), silent)
    assert answers["occupation"].shape == (2, 8, 2)
    assert {("an", "artist"), ("a", "cook")} <= seen
    assert not {("a", "artist"), ("an", "cook")} & seen


def test_prompts_of_a_file_are_part_of_the_question(asked, tmp_path: Path) -> None:
    plain, own = (build("probes", {**asked, "frames": file}) for file in (None, asked["frames"]))
    assert plain.version != own.version
    before, key = own.version, probe_key(own, ())
    write(asked["frames"], *FRENCH[:3], "overt\tQui est {} est")
    assert own.version != before
    assert probe_key(own, ()) != key


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    file = write(
        tmp_path / "frames.tsv",
        "trait\tShe says: {} She is",
        "trait\tShe says: {} She is",
        "virtue\tShe says: {} She is",
        "trait",
        "trait\tShe says nothing",
        "trait\tShe says {} and {} She is",
        "trait\t{} she says",
        "trait\tShe says: {} She is <a>",
        "sentence\tShe says: {} She gets",
        "overt\tThe {} person is",
        "trait\ta {}\tb",
    )
    with pytest.raises(UserError) as caught:
        read_frames(file)
    problems = caught.value.problems
    assert [problem.removeprefix(f"{file}:").split(":")[0] for problem in problems[:-2]] == [*"2345678", "11"]
    assert "is there twice" in problems[0]
    assert "kind (trait, occupation, conviction, sentence, overt)" in problems[1]
    assert "0 times {}" in problems[3]
    assert "2 times {}" in problems[4]
    assert "say who speaks" in problems[5]
    assert "English article" in problems[6]
    assert [problem.split(": ")[1] for problem in problems[-2:]] == [
        "1 prompts of kind sentence; give at least 2, to say how sure a figure is.",
        "1 prompts of kind overt; give at least 2, to say how sure a figure is.",
    ]
    with pytest.raises(UserError, match=r"--frames .* does not exist"):
        read_frames(tmp_path / "nothing")
    with pytest.raises(UserError, match="0 prompts of kind overt"):
        read_frames(write(file, *FRENCH[:2]))


def test_prompts_of_a_file_have_no_portions(asked) -> None:
    with pytest.raises(UserError, match=r"prompts of a file .* have no portions"):
        build("probes", {"name": "dialect", "frames": asked["frames"], "portion": "held_out"})


def test_with_pairs_of_a_file_it_is_said_what_is_english(asked) -> None:
    bare = build("probes", {"name": "dialect", "pairs": asked["pairs"]})
    answers = bare.ask(model(), silent)
    said = bare.describe(answers, 0, 200)["sentences"][-3:]
    assert [sentence.split(";")[0] for sentence in said] == [
        "The prompts are English",
        "The words (trait, conviction, sentence) are English",
        "Overt bias is of the groups black and white",
    ]
    result = bare.compare(answers, answers, 0, 200)
    assert result.sentence.endswith(" ".join(said))
    assert result.blocks[-1].paragraphs == said
    made = build("probes", {"name": "dialect", "count": 4})
    answers = made.ask(model(), silent)
    assert "English" not in made.compare(answers, answers, 0, 200).sentence
