"""Rows packed end to end are the rows alone: loss and gradients."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tiny import ALL_KINDS, PACKING
from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.models.attention import PRODUCT_COST, Layout, attention, plain_attention, segment_attention
from tunewright.models.collate import padded
from tunewright.models.contracts import EncodeSettings, Segment
from tunewright.models.families import causal_lm

TEXTS = [("What is bread?", "warm"), ("Which code?", "positive or neutral"), ("a", "b"), ("The nurse " * 12, "yes")]

FLOOR = {"gemma3": 1e-6}
"""Gemma's norms compute in float32 whatever the model's dtype, and so does the sum of their gain's gradient."""

SHARED_FLOOR = 1e-6
"""RMS norms compute in float32 whatever the model's dtype: the gradient of a shared token is rounded there after
its rows are summed, that of separate rows before. GPT-2's norms are exact, and hold the rule to 1e-10."""


def rows(model, loss_on="answers"):
    encoder = model.family.encoder(model, EncodeSettings(loss_on=loss_on))
    found = []
    for number, (question, answer) in enumerate(TEXTS):
        example = Example((Turn("user", (text_part(question),)),), (Answer((text_part(answer),)),), id=str(number))
        found += encoder.encode(example)
    return found


def loss_and_gradients(model, batches):
    objective = build("objectives", "next_token")
    model.module.requires_grad_(True)
    model.module.zero_grad()
    total = 0.0
    for batch in batches:
        loss = objective.loss(model, batch, 0).sum_S.sum()
        loss.backward()
        total += float(loss.detach())
    return total, {n: p.grad.clone() for n, p in model.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("kind", PACKING)
def test_packed_equals_separate_in_loss_and_gradients(open_tiny, kind, dtype, tolerance):
    model = open_tiny(kind, dtype)
    assert model.packs
    encoded = rows(model)
    together, packed = loss_and_gradients(model, [model.family.collate(model, encoded)])
    apart, separate = loss_and_gradients(model, [model.family.collate(model, [row]) for row in encoded])
    assert together == pytest.approx(apart, rel=tolerance)
    assert packed.keys() == separate.keys()
    for name, gradient in separate.items():
        scale = gradient.abs().max().clamp_min(1e-12)
        assert ((packed[name] - gradient).abs().max() / scale) < max(tolerance, FLOOR.get(kind, 0)), name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("loss_on", ["answers", "all"])
@pytest.mark.parametrize("kind", PACKING)
def test_a_shared_beginning_is_computed_once_with_exact_gradients(open_tiny, kind, loss_on, dtype, tolerance):
    model = open_tiny(kind, dtype)
    encoder = model.family.encoder(model, EncodeSettings(loss_on=loss_on))
    prompt = Turn("user", (text_part("Answer with one label: positive, negative or neutral. "),))
    encoded = []
    for number, (question, answer) in enumerate([*TEXTS, ("What is bread?", "cold")]):
        asked = Turn("user", (*prompt.parts, text_part(question)))
        encoded += encoder.encode(Example((asked,), (Answer((text_part(answer),)),), id=str(number)))
    batch = model.family.collate(model, encoded)
    everyone, two = sorted(batch.shared, key=lambda shared: shared.start)
    assert (everyone.parent, two.parent) == (None, len(encoded) + batch.shared.index(everyone))
    assert everyone.stop > 10
    saved = (len(encoded) - 1) * everyone.stop + (two.stop - two.start)
    assert batch.inputs["input_ids"].shape[1] == batch.tokens - saved
    together, packed = loss_and_gradients(model, [batch])
    apart, separate = loss_and_gradients(model, [model.family.collate(model, [row]) for row in encoded])
    assert together == pytest.approx(apart, rel=tolerance)
    for name, gradient in separate.items():
        scale = gradient.abs().max().clamp_min(1e-12)
        assert ((packed[name] - gradient).abs().max() / scale) < max(
            tolerance, 0 if kind == "gpt2" else SHARED_FLOOR
        ), name


def test_rows_that_differ_in_their_answer_alone_share_their_prompt(open_tiny):
    model = open_tiny("gpt2", torch.float64)
    encoder = model.family.encoder(model, EncodeSettings())
    asked = Turn("user", (text_part("Which code describes this diagnosis?"),))
    encoded = [
        encoder.encode(Example((asked,), (Answer((text_part(answer),)),), id=answer))[0]
        for answer in ("yes", "no", "no")
    ]
    together, packed = loss_and_gradients(model, [model.family.collate(model, encoded)])
    apart, separate = loss_and_gradients(model, [model.family.collate(model, [row]) for row in encoded])
    assert together == pytest.approx(apart, rel=1e-10)
    assert all(torch.allclose(packed[name], separate[name], rtol=1e-9, atol=1e-12) for name in separate)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_our_path_equals_the_library_on_padded_rows(open_tiny, kind):
    model = open_tiny(kind, torch.float32)
    encoded = rows(model)
    ours = model.family.token_log_probs(model, model.family.collate(model, encoded))
    plain = open_tiny(kind, torch.float32)
    batch = padded(encoded, 0)
    with attention(plain.module, plain_attention(plain.module)):
        logits = plain.module(**batch.inputs, use_cache=False).logits.flatten(0, 1)
    theirs = logits[batch.targets.position_T].float().log_softmax(-1)
    theirs = theirs.gather(1, batch.targets.target_T[:, None])[:, 0]
    assert (ours - theirs).abs().max() < 1e-4


def test_a_state_space_model_is_found_unable_to_pack(open_tiny):
    model = open_tiny("mamba", torch.float32)
    assert not model.packs
    assert model.family.collate(model, rows(model)).inputs["input_ids"].shape[0] == len(TEXTS)


def all_in_one(segments):
    return [Segment(0, None, 0, 0, segments[-1].stop)]


def siblings_seen(segments):
    return [*segments[:-1], replace(segments[-1], parent=len(segments) - 2)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("leak", [all_in_one, siblings_seen])
@pytest.mark.parametrize("kind", PACKING)
def test_a_leaking_mask_is_caught_by_the_probe(kind, leak, dtype, open_tiny, monkeypatch):
    model = open_tiny(kind, dtype)
    assert model.packs
    laid_out = Layout.of
    monkeypatch.setattr(causal_lm.Layout, "of", lambda segments: laid_out(leak(segments)))
    assert not causal_lm._packs(model.module)


@pytest.mark.parametrize("own", [1, 5, 64])
def test_a_beginning_shared_by_many_rows_does_not_make_one_large_product(own):
    for count in (40, 400):
        segments = [Segment(-1, None, -1, 0, 9)]
        segments += [Segment(n, None, n, 9 + own * n, 9 + own * (n + 1), parent=0) for n in range(count)]
        layout = Layout.of(segments)
        pairs = sum(block.allowed_QK.numel() for block in layout.blocks if block.allowed_QK is not None)
        assert pairs <= count * (own * (9 + own) + PRODUCT_COST)
        assert len(layout.blocks) <= count
    assert len(Layout.of(segments).blocks) < 400 or own > 5


def test_two_long_answers_to_a_long_prompt_are_two_products_without_waste():
    """The prompt with its first answer is a plain causal row; the second answer looks back at the prompt."""
    segments = [Segment(-1, None, -1, 0, 512), Segment(0, None, 0, 512, 576, 0), Segment(1, None, 1, 576, 640, 0)]
    row, second = Layout.of(segments).blocks
    assert (row.start, row.stop, row.allowed_QK) == (0, 576, None)
    assert second.ancestors == ((0, 512),)
    assert second.allowed_QK.shape == (64, 576)


def brute_force(segments):
    """[N, N] which token may see which, straight from the rule."""
    size = segments[-1].stop
    allowed = torch.zeros(size, size, dtype=torch.bool)
    for segment in segments:
        for query in range(segment.start, segment.stop):
            allowed[query, segment.start : query + 1] = True
            parent = segment.parent
            while parent is not None:
                allowed[query, segments[parent].start : segments[parent].stop] = True
                parent = segments[parent].parent
    return allowed


@pytest.mark.parametrize("groups", [range(7), [0] * 7, [-1, 0, 0, 0, 1, 1, 1]], ids=["apart", "one", "two"])
@pytest.mark.parametrize(
    "parents",
    [
        [None, None, None],
        [None, 0, 0],
        [None, 0, 1, 1, 0],
        [None, None, 0, 2, 0, None, 5],
    ],
)
def test_layout_allows_exactly_own_past_and_ancestors(parents, groups):
    lengths = [3, 2, 4, 1, 2, 3, 2][: len(parents)]
    segments, start = [], 0
    for index, (parent, length) in enumerate(zip(parents, lengths, strict=True)):
        segments.append(Segment(index, None, groups[index], start, start + length, parent))
        start += length
    layout = Layout.of(segments)
    found = torch.zeros(start, start, dtype=torch.bool)
    for block in layout.blocks:
        spans = [*block.ancestors, (block.start, block.stop)]
        keys = torch.cat([torch.arange(a, b) for a, b in spans])
        length = block.stop - block.start
        mask = torch.ones(length, length, dtype=torch.bool).tril() if block.allowed_QK is None else block.allowed_QK
        found[block.start : block.stop, keys] = mask
    assert torch.equal(found, brute_force(segments))


@pytest.mark.parametrize("window", [None, 3, 40])
def test_a_mask_is_made_once_for_all_layers_and_a_window_narrows_it(window):
    lengths, parents = [5, 30, 4, 30], [None, 0, 0, None]
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    segments = [
        Segment(n, None, n, start, start + length, parent)
        for n, (start, length, parent) in enumerate(zip(starts, lengths, parents, strict=True))
    ]
    layout = Layout.of(segments)
    near = layout.position_N[:, None] - layout.position_N[None, :] < (window or 1000)
    wanted = brute_force(segments) & near
    for index, block in enumerate(layout.blocks):
        added = layout.mask(index, window, torch.float32)
        assert layout.mask(index, window, torch.float32) is added
        keys = torch.cat([torch.arange(a, b) for a, b in block.spans])
        length = block.stop - block.start
        plain = torch.ones(length, length).tril().log()
        expected = wanted[block.start : block.stop, keys].float().log()
        assert torch.equal(plain if added is None else added, expected)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_heads_that_share_keys_attend_as_if_each_had_its_own(softcap, monkeypatch):
    segments = [Segment(-1, None, -1, 0, 9), Segment(0, None, 0, 9, 50, 0), Segment(1, None, 1, 50, 90, 0)]
    query, key, value = (
        torch.randn(1, heads, 90, 8, generator=torch.Generator().manual_seed(3)) for heads in (6, 2, 2)
    )
    options = {"scaling": 0.3, "softcap": softcap}
    together = Layout.of(segments).attend(None, query, key, value, options)
    monkeypatch.setattr("tunewright.models.attention._GROUPED", False)
    repeated = Layout.of(segments).attend(None, query, key, value, options)
    scores = query @ key.repeat_interleave(3, 1).transpose(-1, -2) * 0.3
    scores = scores if softcap is None else torch.tanh(scores / softcap) * softcap
    plain = (scores + brute_force(segments).float().log()).softmax(-1) @ value.repeat_interleave(3, 1)
    plain = plain.transpose(1, 2)
    assert torch.allclose(together, plain, atol=1e-6)
    assert torch.allclose(repeated, plain, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({"sliding_window": 4}, True),
        ({"attention_chunk_size": 4}, True),
        ({"layer_types": ["full_attention", "chunked_attention"]}, True),
        ({"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4}, False),
        ({"sliding_window": 4, "use_sliding_window": False}, False),
        ({}, False),
    ],
)
def test_a_window_that_a_layer_gives_to_masks_alone_is_not_overlooked(config, refused):
    """Rows shorter than the window answer alike with and without, so no probe on short rows would find it."""
    layer = SimpleNamespace(config=SimpleNamespace(**config), layer_idx=1)
    q = torch.randn(1, 2, 3, 4)
    layout = Layout.of((Segment(0, None, 0, 0, 3),))
    if refused:
        with pytest.raises(NotImplementedError, match="window"):
            segment_attention(layer, q, q, q, None, layout=layout)
    else:
        segment_attention(layer, q, q, q, None, layout=layout)
    segment_attention(layer, q, q, q, None, layout=layout, sliding_window=4)
