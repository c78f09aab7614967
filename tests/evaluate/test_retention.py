"""The retention probe against oracles, on a bigram model over bytes; and the texts it asks about."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from tiny import one_thread, open_tiny
from tunewright.core.blocks import Bars, Table, Text, blocks
from tunewright.core.errors import UserError
from tunewright.core.files import file_digest
from tunewright.core.plugins import build
from tunewright.core.records import Example
from tunewright.data.encoder import Encoded
from tunewright.evaluate.contracts import ProbeResult
from tunewright.evaluate.probes import retention
from tunewright.evaluate.probes._base import Probe
from tunewright.evaluate.probes.retention import Retention, kl, passages, prompts
from tunewright.models.collate import packed
from tunewright.models.contracts import Batch, EncodeSettings, LoadedModel, Origin

__all__ = ["one_thread", "open_tiny"]

VOCABULARY = 128
STOP = 0
PROBE = Retention()


class Bigram(nn.Module):
    """Log-probabilities of a byte after a byte, from a table; dropout as a trap."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.from_numpy(np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY))))
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.frozen(self.dropout(self.table[ids])).log_softmax(-1)


@dataclass
class Family:
    """The fake's family: packs, trains the stop token if told so, cuts texts into pieces if told so."""

    stop: bool = True
    noted: bool = True
    piece: int | None = None
    seen: list[list[Encoded]] = field(default_factory=list)

    def encoder(self, model: LoadedModel, settings: EncodeSettings) -> Family:
        assert settings.loss_on == "all"
        return self

    def encode(self, example: Example) -> list[Encoded]:
        assert not example.context
        ids = list(example.answer.text.encode("ascii")) + [STOP] * self.stop
        size = self.piece or len(ids)
        # Pieces overlap by one byte, so that each byte but the first is predicted once.
        pieces = [ids[start : start + size + 1] for start in range(0, len(ids) - 1, size)]
        return [
            Encoded(
                example=example,
                inputs={"input_ids": np.array(piece)},
                length=len(piece),
                positions=np.arange(len(piece) - 1),
                targets=np.array(piece[1:]),
                weights=np.ones(len(piece) - 1, np.float32),
                notes={"stop_trained": self.noted and piece[-1] == STOP},
            )
            for piece in pieces
        ]

    def collate(self, model: LoadedModel, rows: Sequence[Encoded]) -> Batch:
        self.seen.append(list(rows))
        return packed(rows)

    def token_log_probs(self, model: LoadedModel, batch: Batch) -> torch.Tensor:
        log_probs = model.module(batch.inputs["input_ids"][0, batch.targets.position_T])
        return log_probs.gather(1, batch.targets.target_T[:, None])[:, 0]

    def next_log_probs(self, model: LoadedModel, contexts: Sequence[Example]) -> Iterator[np.ndarray]:
        for context in contexts:
            assert [turn.role for turn in context.context] == ["user"]
            yield model.module(torch.tensor(context.context[0].text.encode()[-1])).float().numpy()


def model(seed: int = 0, end: int | None = None, **family: Any) -> LoadedModel:
    return LoadedModel(Bigram(seed), SimpleNamespace(eos_token_id=end), Family(**family), Origin("bigram", Path(), ""))  # type: ignore[arg-type]


def log_table(loaded: LoadedModel) -> np.ndarray:
    table = loaded.module.table.detach().numpy()
    return table - np.log(np.exp(table).sum(axis=1, keepdims=True))


def ask(loaded: LoadedModel) -> dict[str, np.ndarray]:
    return PROBE.ask(loaded, lambda what, done, total: None)


@cache
def asked(seed: int) -> dict[str, np.ndarray]:
    return ask(model(seed))


def answers(nll: Any, tokens: Any = None, first: Any = None) -> dict[str, np.ndarray]:
    nll = np.asarray(nll, float)
    uniform = np.full((4, 5), -math.log(5), np.float32)
    return {
        "nll": nll,
        "tokens": np.full(len(nll), 10.0) if tokens is None else np.asarray(tokens, float),
        "next_log_probs": uniform if first is None else np.asarray(first, np.float32),
    }


def shifted(rise: float, spread: float = 0.0, n: int = 210) -> ProbeResult:
    """Compares answers whose loss a token rose by `rise`, give or take."""
    random = np.random.default_rng(5)
    base = random.normal(30, 5, n)
    noise = random.normal(size=n)
    return PROBE.compare(answers(base), answers(base + 10 * (rise + spread * (noise - noise.mean()))), 0, 500)


def test_there_are_as_many_texts_as_promised_and_none_twice() -> None:
    for texts, count in ((passages(), 210), (prompts(), 110)):
        assert len(texts) == count
        assert len({" ".join(text.lower().split()) for text in texts}) == count


def test_passages_have_25_to_60_words_and_end_as_sentences() -> None:
    assert [text for text in passages() if not 25 <= len(text.split()) <= 60] == []
    assert [text for text in passages() if text[-1] not in '.?!"'] == []


def test_texts_are_clean_lines() -> None:
    for text in (*passages(), *prompts()):
        assert text == " ".join(text.split())
        assert text.isascii()
        assert not any(sign in text for sign in ("@", "http", "www.", "<", "\\"))


def test_no_two_passages_share_eight_words_in_a_row() -> None:
    runs: Counter[str] = Counter()
    for text in passages():
        words = text.lower().split()
        runs.update({" ".join(words[start : start + 8]) for start in range(len(words) - 7)})
    assert [run for run, count in runs.items() if count > 1] == []


def test_loss_of_each_passage_is_that_of_the_oracle_without_the_stop_token() -> None:
    loaded = model()
    found = ask(loaded)
    table = log_table(loaded)
    for number, text in enumerate(passages()):
        ids = text.encode()
        assert found["tokens"][number] == len(ids) - 1
        expected = -math.fsum(table[a, b] for a, b in pairwise(ids))
        assert found["nll"][number] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("family", [{"stop": False}, {"piece": 100}, {"piece": 40, "noted": False, "end": STOP}])
def test_no_stop_token_or_texts_cut_into_pieces_give_the_same_loss(family: dict[str, Any]) -> None:
    whole, other = asked(0), ask(model(**family))
    np.testing.assert_array_equal(other["tokens"], whole["tokens"])
    np.testing.assert_allclose(other["nll"], whole["nll"], rtol=1e-12)


def test_first_tokens_are_those_of_the_oracle_in_order_of_the_prompts() -> None:
    loaded = model()
    found = ask(loaded)["next_log_probs"]
    assert found.dtype == np.float32
    expected = log_table(loaded)[[text.encode()[-1] for text in prompts()]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_batches_stay_within_their_tokens_even_padded_and_hold_each_row_once() -> None:
    loaded = model()
    ask(loaded)
    seen = loaded.family.seen  # type: ignore[attr-defined]
    assert len(seen) > 1
    assert max(len(rows) * max(row.length for row in rows) for rows in seen) <= 2048
    assert Counter(int(row.example.id) for rows in seen for row in rows) == Counter(range(210))


def test_dropout_is_off_while_asking_and_every_mode_comes_back() -> None:
    loaded = model()
    module = loaded.module.train()
    module.frozen.eval()  # type: ignore[union-attr, operator]
    np.testing.assert_array_equal(ask(loaded)["nll"], asked(0)["nll"])
    assert [part.training for part in (module, module.dropout, module.frozen)] == [True, True, False]  # type: ignore[union-attr]


def test_impossible_tokens_become_numbers_that_float16_can_hold() -> None:
    loaded = model()
    with torch.no_grad():
        loaded.module.table[:, 1] = -torch.inf  # type: ignore[index, operator]
    first = ask(loaded)["next_log_probs"]
    assert np.isfinite(first.astype(np.float16)).all()
    assert (np.exp(first[:, 1]) == 0).all()
    assert kl(first, first).max() == 0


def test_broken_weights_are_an_error_that_counts_both_kinds() -> None:
    loaded = model()
    with torch.no_grad():
        loaded.module.table[:] = torch.nan  # type: ignore[index, operator]
    with pytest.raises(UserError, match=r"210 of 210 passages and 110 of 110 prompts.*learning_rate"):
        ask(loaded)


def test_a_family_that_merges_rows_or_loses_prompts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Family.collate
    monkeypatch.setattr(Family, "collate", lambda s, m, rows: replace(honest(s, m, rows), segments=()))
    with pytest.raises(ValueError, match="0 segments"):
        ask(model())
    monkeypatch.undo()
    monkeypatch.setattr(Family, "next_log_probs", lambda self, m, contexts: iter([np.zeros(VOCABULARY)]))
    with pytest.raises(ValueError, match="110 prompts were given, 1"):
        ask(model())


def test_progress_ends_at_its_total() -> None:
    told: dict[str, tuple[int, int]] = {}
    PROBE.ask(model(), lambda what, done, total: told.update({what: (done, total)}))
    assert told == {"retention: passages": (210, 210), "retention: prompts": (110, 110)}


log_probs = arrays(np.float64, (3, 6), elements=st.floats(-30, 5)).map(
    lambda x: x - np.log(np.exp(x).sum(axis=1, keepdims=True))
)


@given(log_probs, log_probs)
def test_kl_equals_the_oracle_and_is_never_negative(base: np.ndarray, tuned: np.ndarray) -> None:
    expected = [
        math.fsum(math.exp(b) * (b - t) for b, t in zip(*rows, strict=True)) for rows in zip(base, tuned, strict=True)
    ]
    found = kl(base, tuned)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert (found >= 0).all()
    np.testing.assert_allclose(kl(base, base), 0, atol=1e-12)
    np.testing.assert_allclose(kl(base + 2, tuned - 3), found, atol=1e-9)  # rows not quite normalised


def test_kl_goes_from_base_to_tuned() -> None:
    base, tuned = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    assert kl(base, tuned)[0] == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert kl(tuned, base)[0] == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))


def test_new_tokens_of_the_tuned_model_cost_what_they_take_from_the_old_ones() -> None:
    base, tuned = np.log([[0.5, 0.5]]), np.log([[0.25, 0.25, 0.5]])
    assert kl(base, tuned)[0] == pytest.approx(math.log(2))


def test_a_model_compared_with_itself_forgot_nothing() -> None:
    result = PROBE.compare(asked(0), asked(0), 0, 300)
    assert [(f.difference, f.low, f.high) for f in result.figures] == [(0, 0, 0), (0, 0, 0)]
    assert "did not measurably change" in result.sentence
    assert "hardly forgot" in result.sentence
    assert not any(isinstance(block, Table) for block in result.blocks)


def test_figures_are_ratios_of_sums_not_means_of_ratios() -> None:
    base, tuned = answers([10, 400], [10, 100]), answers([30, 410], [10, 100])
    loss, _ = PROBE.compare(base, tuned, 0, 300).figures
    assert (loss.base, loss.tuned) == (pytest.approx(410 / 110), pytest.approx(440 / 110))
    assert loss.difference == pytest.approx(30 / 110)
    assert (loss.low, loss.high) == (pytest.approx(0.1), pytest.approx(2.0))
    assert (loss.name, loss.n, loss.unit, loss.higher_is_better) == ("retention_loss", 2, "passage", False)


def test_kl_figure_is_the_mean_over_prompts_and_base_is_0() -> None:
    base, tuned = asked(0), asked(1)
    _, shift = PROBE.compare(base, tuned, 0, 500).figures
    each = kl(base["next_log_probs"], tuned["next_log_probs"])
    assert (shift.base, shift.n, shift.unit) == (0, 110, "prompt")
    assert shift.tuned == shift.difference == pytest.approx(each.mean())
    assert each.min() < shift.low < shift.difference < shift.high < each.max()


def test_an_equal_rise_of_every_passage_is_certain_though_passages_differ() -> None:
    result = shifted(0.05)
    loss = result.figures[0]
    assert (loss.difference, loss.low, loss.high) == (pytest.approx(0.05), pytest.approx(0.05), pytest.approx(0.05))
    bars = next(block for block in result.blocks if isinstance(block, Bars)).bars
    assert [bar.role for bar in bars] == ["base", "tuned"]
    assert all(bar.low < bar.value < bar.high for bar in bars)  # type: ignore[operator]


def test_interval_is_as_wide_as_the_normal_approximation_says() -> None:
    loss = shifted(0.1, spread=0.2).figures[0]
    noise = np.random.default_rng(5)
    noise.normal(30, 5, 210)
    expected = 2 * 1.96 * 0.2 * noise.normal(size=210).std() / math.sqrt(210)
    assert loss.high - loss.low == pytest.approx(expected, rel=0.15)


def test_intervals_depend_on_the_seed_alone() -> None:
    base, tuned = asked(0), asked(1)
    first = PROBE.compare(base, tuned, 3, 300)
    assert PROBE.compare(base, tuned, 3, 300) == first
    assert PROBE.compare(base, tuned, 4, 300).figures[0].low != first.figures[0].low


@pytest.mark.parametrize(
    ("rise", "spread", "says", "tone"),
    [
        (0.021, 0.0, ("rose by 0.021 nats a token (0.021 to 0.021)", "hardly forgot"), "good"),
        (0.1, 0.1, ("rose by 0.100 nats a token (0.0", "forgot a little"), "unsure"),
        (0.5, 0.1, ("rose by 0.500 nats a token (0.4", "forgot much"), "bad"),
        (-0.04, 0.0, ("fell by 0.040 nats a token (0.040 to 0.040)", "hardly forgot"), "good"),
        (-0.04, 0.1, ("fell by 0.040 nats a token (0.02", "hardly forgot"), "good"),
        (0.001, 0.02, ("did not measurably change: +0.001", "hardly forgot"), "good"),
        (0.001, 1.0, ("did not measurably change: +0.001", "cannot tell whether"), "unsure"),
    ],
)
def test_sentence_says_what_was_found_and_what_it_means(
    rise: float, spread: float, says: tuple[str, str], tone: str
) -> None:
    result = shifted(rise, spread)
    assert all(words in result.sentence for words in ("On 210 general passages", "KL on 4 neutral prompts", *says))
    assert "\n" not in result.sentence
    assert next(block for block in result.blocks if isinstance(block, Text)).tone == tone


@pytest.mark.parametrize(("share", "says"), [(0.5, "almost as before"), (0.8, "somewhat diff"), (0.999, "very diff")])
def test_sentence_says_how_differently_answers_begin(share: float, says: str) -> None:
    base = answers([30, 40], first=np.log([[0.5, 0.5]] * 4))
    tuned = answers([30, 40], first=np.log([[share, 1 - share]] * 4))
    assert says in PROBE.compare(base, tuned, 0, 200).sentence


def test_table_shows_the_eight_passages_whose_loss_rose_most() -> None:
    base = np.full(210, 30.0)
    tuned = base.copy()
    tuned[5] = 1  # fell most
    risen = [7, 200, 3, 55, 120, 9, 81, 33, 14]
    for rank, number in enumerate(risen):
        tuned[number] += 20 - rank
    table = next(b for b in PROBE.compare(answers(base), answers(tuned), 0, 200).blocks if isinstance(b, Table))
    assert [row[0] for row in table.rows] == [passages()[number] for number in risen[:8]]
    assert table.rows[0][1:] == [3.0, 5.0, 2.0]
    tuned[risen[1:]] = 30  # passages that did not get worse are not shown
    table = next(b for b in PROBE.compare(answers(base), answers(tuned), 0, 200).blocks if isinstance(b, Table))
    assert [row[0] for row in table.rows] == [passages()[7]]


def test_each_neutral_prompt_is_drawn_the_most_shifted_first() -> None:
    result = PROBE.compare(asked(0), asked(1), 0, 200)
    each = kl(asked(0)["next_log_probs"], asked(1)["next_log_probs"])
    most, every = [block for block in result.blocks if isinstance(block, Bars) and "prompts" in block.title]
    assert [bar.value for bar in every.bars] == sorted(each, reverse=True)
    assert every.bars[0].label == prompts()[int(np.argmax(each))]
    assert most.bars == every.bars[:8]


def test_blocks_stand_under_forgot_and_survive_json() -> None:
    found = shifted(0.1, 0.1).blocks
    assert {block.section for block in found} == {"forgot"}
    assert blocks.validate_json(blocks.dump_json(list(found))) == list(found)


def test_answers_to_other_texts_are_refused_all_faults_at_once() -> None:
    base, tuned = answers(np.ones(210)), answers(np.ones(209), first=np.zeros((3, 4)))
    with pytest.raises(UserError) as caught:
        PROBE.compare(base, tuned, 0, 200)
    assert len(caught.value.problems) == 3


def test_answers_kept_as_npz_compare_the_same(tmp_path: Path) -> None:
    base, tuned = asked(0), asked(1)
    np.savez(tmp_path / "base.npz", **base)
    with np.load(tmp_path / "base.npz", allow_pickle=False) as kept:
        assert PROBE.compare(dict(kept), tuned, 0, 200) == PROBE.compare(base, tuned, 0, 200)


def test_the_probe_is_found_by_name_and_its_version_names_its_texts() -> None:
    probe: Probe = build("probes", "retention")
    assert isinstance(probe, Retention)
    folder = Path(retention.__file__).with_name("_texts")
    assert file_digest([folder / "passages.txt", folder / "prompts.txt"]) in probe.version
    assert probe.needs == {"token_log_probs", "next_log_probs"}


def test_listing_probes_does_not_load_torch() -> None:
    code = "import sys; from tunewright.core.plugins import names; print(names('probes'), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'retention'" in done.stdout
    assert done.stdout.endswith(" False\n")


def test_where_the_model_thinks_first_how_its_answers_begin_is_not_measured(open_tiny) -> None:
    model = replace(open_tiny("qwen2"), opens=False)
    probe = build("probes", "retention")
    answers = probe.ask(model, lambda *_, **__: None)
    assert len(answers["next_log_probs"]) == 0
    result = probe.compare(answers, answers, 0, 200)
    assert [figure.name for figure in result.figures] == ["retention_loss"]
    assert "how its answers begin is not measured: thoughts follow the prompt" in result.sentence
    blocks.validate_python([block.model_dump(mode="json") for block in result.blocks])
