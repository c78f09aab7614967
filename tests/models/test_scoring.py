"""Closed answer sets are scored exactly: against one plain forward a pair, and on tries of any shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import ALL_KINDS
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.models import scoring
from tunewright.models.attention import attention, plain_attention
from tunewright.models.contracts import EncodeSettings
from tunewright.models.families.causal_lm import score_ids
from tunewright.models.trie import build


def plain(model, context, answer):
    with torch.inference_mode(), attention(model.module, plain_attention(model.module)):
        logits = model.module(torch.tensor([[*context, *answer]]), use_cache=False).logits[0]
    steps = logits[len(context) - 1 : -1].float().log_softmax(-1)
    return float(steps[torch.arange(len(answer)), torch.tensor(answer)].sum())


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_scores_equal_one_plain_forward_a_pair(open_tiny, kind):
    model = open_tiny(kind, torch.float32)
    draw = np.random.default_rng(0)
    shared = draw.integers(300, size=9).tolist()
    contexts = [shared + draw.integers(300, size=n).tolist() for n in (1, 5, 12)]
    answers = [draw.integers(4, size=n).tolist() for n in (1, 2, 3, 4, 4, 5, 2, 6)]
    answers.append(answers[5][:3])  # one answer is the beginning of another
    found = list(score_ids(model, contexts, [answers] * 3))
    expected = [[plain(model, c, a) for a in answers] for c in contexts]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_contexts_that_continue_one_another_are_computed_once_and_stay_exact(open_tiny, kind, monkeypatch):
    model = open_tiny(kind, torch.float32)
    draw = np.random.default_rng(3)
    career = draw.integers(300, size=40).tolist()
    other = career[:14] + draw.integers(300, size=9).tolist()
    contexts = [career[:n] for n in (40, 10, 17, 31)] + [other, other, career[:10], draw.integers(300, size=5).tolist()]
    answers = [draw.integers(4, size=n).tolist() for n in (1, 2, 3, 2)]
    sizes = []
    original = scoring._log_probs
    monkeypatch.setattr(scoring, "_log_probs", lambda ids, *rest: (sizes.append(len(ids)), original(ids, *rest))[1])
    found = list(score_ids(model, contexts, [answers] * len(contexts)))
    expected = [[plain(model, c, a) for a in answers] for c in contexts]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert sizes == [40 + 9 + 5 + len(contexts) * build(answers).size]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), min_size=1, max_size=9))
def test_contexts_are_laid_out_as_a_tree_that_spells_each(rows):
    laid = scoring.Laid()
    for row, end in zip(rows, laid.contexts(rows), strict=True):
        spelt: list[int] = []
        place: int | None = end
        while place is not None:
            segment = laid.segments[place]
            assert segment.parent is None or segment.parent < place
            spelt[:0] = laid.ids[segment.start : segment.stop]
            place = segment.parent
        assert spelt == row


def test_large_sets_are_cut_into_tries_and_stay_exact(open_tiny, monkeypatch):
    model = open_tiny("llama", torch.float32)
    monkeypatch.setattr(scoring, "TOKENS_A_BATCH", 40)
    draw = np.random.default_rng(1)
    contexts = [draw.integers(300, size=n).tolist() for n in (3, 7, 2)]
    answers = [draw.integers(300, size=4).tolist() for _ in range(50)]
    sizes = []
    original = scoring._log_probs
    monkeypatch.setattr(scoring, "_log_probs", lambda ids, *rest: (sizes.append(len(ids)), original(ids, *rest))[1])
    found = list(score_ids(model, contexts, [answers] * 3))
    np.testing.assert_allclose(found, [[plain(model, c, a) for a in answers] for c in contexts], atol=1e-4)
    assert max(sizes) <= 40 + 7
    assert len(sizes) > 3


@pytest.mark.parametrize("kind", ["shuffled beginnings", "a few long ones", "one beginning of another"])
def test_large_sets_share_their_beginnings_and_keep_to_the_bound_in_any_order(kind, monkeypatch):
    monkeypatch.setattr(scoring, "TOKENS_A_BATCH", 200)
    draw = np.random.default_rng(2)
    begun = [draw.integers(9, size=12).tolist() for _ in range(40)]
    answers = {
        "shuffled beginnings": [[*begin, *draw.integers(9, size=2).tolist()] for begin in begun for _ in range(20)],
        "a few long ones": [*([n % 9, n // 9 % 9, n // 81, 5] for n in range(600)), *(b * 5 for b in begun[:6])],
        "one beginning of another": [begin[:n] for begin in begun for n in range(1, 13)],
    }[kind]
    draw.shuffle(answers)
    batches = []

    def picked(ids, segments, positions, inverse, targets):
        batches.append(len(ids))
        spelt = [scoring.Laid(ids.tolist(), list(segments))]
        ends = torch.tensor([segment.stop for segment in segments])
        said = []
        for place, target in zip(positions[inverse].tolist(), targets.tolist(), strict=True):
            number = int((ends > place).nonzero()[0])
            segment = segments[number]
            before = spelt[0].tokens(number)[: -(segment.stop - 1 - place) or None]
            said.append(sum((k + 1) * t for k, t in enumerate([*ids[before].tolist(), target])) % 1009)
        return torch.tensor(said, dtype=torch.float32)

    contexts = [[3, 1], [4]]
    found = [*scoring.score(contexts, [answers] * 2, picked)]
    for context, scores in zip(contexts, found, strict=True):
        for answer, score in zip(answers, scores.tolist(), strict=True):
            whole = [*context, *answer]
            steps = range(len(context), len(whole))
            assert score == sum(sum((k + 1) * t for k, t in enumerate(whole[: n + 1])) % 1009 for n in steps)
    assert max(batches) <= 200
    assert sum(batches) <= 1.3 * 2 * build(answers).size


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=12))
def test_trie_holds_every_answer_and_no_token_twice(answers):
    trie = build(answers)
    prefixes = {tuple(a[:n]) for a in answers for n in range(1, len(a))}
    assert trie.size == len(prefixes)
    texts: list[tuple[int, ...]] = []
    for edge in trie.edges:
        before = () if edge.parent is None else texts[edge.parent]
        texts.append((*before, *edge.tokens))
    for answer, path in zip(answers, trie.answers, strict=True):
        assert [trie.predictions[step][1] for step in path] == answer
        for depth, step in enumerate(path):
            predecessor = trie.predictions[step][0]
            if depth == 0:
                assert predecessor is None
                continue
            edge, offset = predecessor
            upto = texts[edge][: len(texts[edge]) - len(trie.edges[edge].tokens) + offset + 1]
            assert upto == tuple(answer[:depth])


def test_an_empty_answer_is_refused():
    with pytest.raises(ValueError, match="without tokens"):
        build([[1], []])


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_with_the_terminator_a_title_and_its_longer_brother_share_no_mass(open_tiny, kind):
    """Without it "Cook" is a beginning of "Cooks": its probability holds all of the other's, and the sum may pass 1."""
    model = open_tiny(kind, torch.float32)
    titles = ["C", "Co", "Cook", "Cooks", "Cookery"]
    asked = [Example((Turn("user", (text_part("Next occupation?"),)),), (Answer((text_part("Cook"),)),))]
    with_stop, without = (
        np.exp(next(iter(model.family.choices(model, asked, [titles], terminator)))) for terminator in (True, False)
    )
    assert with_stop.sum() <= 1 + 1e-6
    assert (with_stop < without).all()
    encoder = model.family.encoder(model, EncodeSettings(max_length=64))
    ids = {title: encoder.answer_ids(title, False) for title in titles}
    begins = [(a, b) for a in titles for b in titles if a != b and ids[b][: len(ids[a])] == ids[a]]
    assert begins
    for shorter, longer in begins:
        first, second = (titles.index(title) for title in (shorter, longer))
        assert without[first] >= without[second]
        assert with_stop[first] <= without[first] - without[second] + 1e-9


class Fresh(Sequence):
    """Answers that are made when they are asked for, as rows on disk are."""

    def __init__(self, sets):
        self.sets = sets

    def __len__(self):
        return len(self.sets)

    def __getitem__(self, place):
        if not 0 <= place < len(self.sets):
            raise IndexError
        return [list(ids) for ids in self.sets[place]]


def test_answers_that_are_made_when_asked_for_are_not_taken_for_one_another():
    draw = np.random.default_rng(5)
    table = torch.from_numpy(draw.normal(size=(50, 50)))
    contexts = [[int(token)] for token in draw.integers(50, size=1500)]
    sets = [[[int(token)] for token in draw.choice(50, size=3, replace=False)] for _ in contexts]
    wanted = table.log_softmax(-1)
    found = list(scoring.score(contexts, Fresh(sets), lambda ids, _, keep, row, target: wanted[ids[keep][row], target]))
    expected = [
        [wanted[context[0], answer[0]] for answer in answers] for context, answers in zip(contexts, sets, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)
