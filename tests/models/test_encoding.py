"""What is trained is the answer and its stop token, whatever the template; an answer is never cut."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tokenizers import processors

from tiny import KINDS
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.encoder import Overlong, Unencodable
from tunewright.models.contracts import EncodeSettings
from tunewright.models.encoding import TextEncoder, _bare, _compiled, plain_ids


def turn(role, text, weight=0.0):
    return Turn(role, (text_part(text),), weight)


def example(*turns, answer="forty two"):
    return Example(tuple(turns), (Answer((text_part(answer),)),), id="x")


def encoder(open_tiny, kind="qwen2", **settings):
    model = open_tiny(kind)
    return model.family.encoder(model, EncodeSettings(**settings))


def trained_text(enc, row):
    return [span.text for span in enc.render(row) if span.trained]


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_answer_and_its_stop_are_trained(open_tiny, kind):
    enc = encoder(open_tiny, kind)
    (row,) = enc.encode(example(turn("user", "How many?")))
    stop = enc.chat.stop_text
    assert trained_text(enc, row) == [f"forty two{stop}"]
    assert row.notes["stop_trained"]
    assert not row.notes["double_bos"]
    assert "How many?" in "".join(span.text for span in enc.render(row))


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_token_stands_once(open_tiny, kind):
    enc = encoder(open_tiny, kind)
    ids = enc.encode(example(turn("user", "How many?")))[0].inputs["input_ids"].tolist()
    start = enc.chat.tokenizer.bos_token_id
    assert ids.count(start) == (1 if kind in ("llama", "gemma3") else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["The baker bakes.", "<s>The baker bakes."])
def test_a_bare_text_begins_as_its_tokenizer_begins_texts_under_a_chat_template_too(open_tiny, kind, text):
    enc = encoder(open_tiny, kind, loss_on="all")
    tokenizer = enc.chat.tokenizer
    (row,) = enc.encode(example(answer=text))
    plain = tokenizer(text.removeprefix("<s>"))["input_ids"]
    if text.startswith("<s>") and kind not in ("llama", "gemma3"):
        plain = [tokenizer.bos_token_id, *plain]
    assert row.inputs["input_ids"].tolist() == [*plain, tokenizer.eos_token_id]
    assert not row.notes["double_bos"]


def test_an_end_token_that_a_tokenizer_adds_ends_no_context_in_training_or_when_asked(open_tiny):
    enc = encoder(open_tiny, "llama")
    tokenizer = enc.chat.tokenizer
    tokenizer.chat_template = None
    ends = [(tokenizer.bos_token, tokenizer.bos_token_id), (tokenizer.eos_token, tokenizer.eos_token_id)]
    both = processors.TemplateProcessing(
        f"{tokenizer.bos_token} $A {tokenizer.eos_token}", f"{tokenizer.bos_token} $A $B {tokenizer.eos_token}", ends
    )
    tokenizer.backend_tokenizer.post_processor = both
    row = example(turn("user", "How many?"))
    ids = enc.encode(row)[0].inputs["input_ids"].tolist()
    assert (ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)) == (1, 1)
    asked = [*enc.context_ids(row), *enc.answer_ids("forty two", terminator=True)]
    assert asked == ids


HEAD = "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]"
TEMPLATES = {
    "an empty block of thoughts in the last turn": HEAD
    + "{% else %}A:{% if loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}A:{% endif %}",
    "spaces around a trimmed answer": HEAD + "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}",
    "a space before the answer": HEAD + "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    "trimmed at its end": HEAD + "{% else %}{{ m.content.rstrip() }}</s>{% endif %}{% endfor %}",
    "trimmed at its start": HEAD + "{% else %} {{ m.content.lstrip() }}</s>{% endif %}{% endfor %}",
    "trimmed": HEAD + "{% else %}{{ m.content | trim }}</s>{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_labels_are_compared_in_the_place_and_with_the_tokens_that_are_trained(open_tiny, template):
    enc = encoder(open_tiny, loss_on="said")
    enc.chat.tokenizer.chat_template = template
    label = " forty  two  "
    row = replace(example(turn("user", "How many?"), answer=label), label=True)
    (found,) = enc.encode(row)
    context, answer = enc.context_ids(row), enc.answer_ids(label, terminator=True)
    assert found.inputs["input_ids"].tolist() == context + answer
    assert found.targets.tolist() == answer
    assert "".join(trained_text(enc, found)).strip("</s>").strip() == "forty  two"


def test_what_a_template_opens_every_answer_with_is_trained_and_not_judged(open_tiny):
    template = TEMPLATES["an empty block of thoughts in the last turn"]
    row = example(turn("user", "one"), turn("assistant", "first", 1.0), turn("user", "two"), answer="second")
    said = {}
    for loss_on in ("answers", "last", "said"):
        enc = encoder(open_tiny, loss_on=loss_on)
        enc.chat.tokenizer.chat_template = template
        said[loss_on] = trained_text(enc, enc.encode(row)[0])
    opened = "<think>\n\n</think>\n\nsecond</s>"
    enc = encoder(open_tiny, trains_opening=False)
    enc.chat.tokenizer.chat_template = template
    assert trained_text(enc, enc.encode(row)[0]) == ["first</s>", "second</s>"]
    assert said == {"answers": ["first</s>", opened], "last": [opened], "said": ["second</s>"]}
    assert "".join(span.text for span in enc.render(enc.encode(row)[0])).count("<think>") == 1


def test_where_answers_are_trained_with_their_thoughts_nothing_closes_them_when_asked(open_tiny):
    enc = encoder(open_tiny)
    enc.chat.tokenizer.chat_template = (
        HEAD + "{% else %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{{ m.content }}</s>{% endif %}{% endfor %}"
    )
    bare = example(turn("user", "?"))
    thought = replace(bare, answers=(replace(bare.answer, extra={"reasoning_content": "Owls fly."}),))
    assert enc.opens([bare])
    assert not enc.opens([bare, thought])
    given = TextEncoder(replace(enc.chat, opens=False), enc.settings)
    (row,) = given.encode(thought)
    context = given.context_ids(thought)
    assert row.inputs["input_ids"].tolist()[: len(context)] == context
    assert row.notes["answer_start"] == len(context)
    assert given.chat.tokenizer.decode(context) == "[?]"
    assert given.chat.said("<think>\nOwls fly.\n</think>\n\nSo.", thought) == "So."
    assert given.chat.said("<think>\nOwls", thought) == ""
    assert given.chat.said("So.", thought) == "So."
    assert enc.chat.said("<think> So.", thought) == "<think> So."
    inline = example(turn("user", "?"), answer="<think>\nOwls fly.\n</think>\n\nSo.")
    assert given.chat.said("<think>\nx\n</think>\n\nSo.", inline) == "<think>\nx\n</think>\n\nSo."
    (unthought,) = replace(given, settings=replace(given.settings, loss_on="said")).encode(bare)
    assert trained_text(given, unthought) == ["forty two</s>"], "a block that says nothing is in no figure"


def test_a_template_that_opens_nothing_asks_for_nothing(open_tiny):
    assert encoder(open_tiny).opens([example(turn("user", "?"))])


def test_a_label_that_a_template_writes_otherwise_than_others_is_refused(open_tiny):
    enc = encoder(open_tiny)
    odd = "{% else %}{% if 'long' in messages[0].content %}Well: {% endif %}{{ m.content }}</s>{% endif %}{% endfor %}"
    enc.chat.tokenizer.chat_template = HEAD + odd
    assert enc.encode(replace(example(turn("user", "short")), label=True))
    with pytest.raises(Unencodable, match="writes the label 'forty two' as 'Well: forty two</s>'"):
        enc.encode(replace(example(turn("user", "a long one")), label=True))


CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"word": "owl"}}}


@pytest.mark.parametrize("template", [None, HEAD + "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"])
@pytest.mark.parametrize(
    ("extra", "tools"),
    [({"tool_calls": [CALL]}, ()), ({"reasoning_content": "Owls fly."}, ()), ({}, ({"name": "look_up"},))],
)
def test_calls_tools_and_thoughts_that_would_not_be_written_are_refused(open_tiny, template, extra, tools):
    enc = encoder(open_tiny)
    enc.chat.tokenizer.chat_template = template
    row = Example((turn("user", "?"),), (Answer((text_part("Yes."),), extra=extra),), tools=tools)
    with pytest.raises(Unencodable, match=r"tools|reasoning_content"):
        enc.encode(row)


def test_a_template_that_writes_calls_thoughts_and_tools_is_taken(open_tiny):
    enc = encoder(open_tiny)
    enc.chat.tokenizer.chat_template = (
        "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}" + HEAD + "{% else %}{{ m.reasoning_content }}"
        "{{ m.content }}{{ m.tool_calls | tojson }}</s>{% endif %}{% endfor %}"
    )
    extra = {"tool_calls": [CALL], "reasoning_content": "Owls fly."}
    row = Example((turn("user", "?"),), (Answer((), extra=extra),), tools=({"name": "look_up"},))
    (text,) = trained_text(enc, enc.encode(row)[0])
    assert text.startswith("Owls fly.")
    assert '"word": "owl"' in text


def test_without_a_template_earlier_answers_are_trained_by_their_weight_too(open_tiny):
    enc = encoder(open_tiny)
    enc.chat.tokenizer.chat_template = None
    row = example(
        turn("user", "one"), turn("assistant", "first", 1.0), turn("user", "two"), turn("assistant", "no"),
        turn("user", "three"), answer="second",
    )  # fmt: skip
    (found,) = enc.encode(row)
    assert trained_text(enc, found) == ["first</s>", "second</s>"]
    assert "".join(span.text for span in enc.render(found)) == "one\nfirst</s>\ntwo\nno\nthree\nsecond</s>"
    context = enc.context_ids(row)
    assert found.inputs["input_ids"].tolist()[: len(context)] == context


@pytest.mark.parametrize("weight", [0.0, 0.5, 5.0])
def test_where_everything_is_trained_rows_still_count_by_their_weight(open_tiny, weight):
    enc = encoder(open_tiny, loss_on="all")
    text = Example((), (Answer((text_part("forty two"),), weight=weight),))
    chat = Example((turn("user", "How many?"),), (Answer((text_part("forty two"),), weight=weight),))
    for row in (text, chat):
        (found,) = enc.encode(row)
        assert set(found.weights.tolist()) == ({weight} if weight else set())


def test_a_template_that_asks_for_the_date_gets_the_same_one_every_day(open_tiny):
    enc = encoder(open_tiny)
    asks = (
        "{{ strftime_now(format='%d %b %Y') }} {{ strftime_now('%F') }}|"
        + HEAD
        + "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
    )
    enc.chat.tokenizer.chat_template = asks
    (found,) = enc.encode(example(turn("user", "How many?")))
    assert "".join(span.text for span in enc.render(found)) == "26 Jul 2024 2024-07-26|[How many?]forty two</s>"
    enc.chat.tokenizer.chat_template = {"default": asks, "tool_use": asks}
    (named,) = enc.encode(example(turn("user", "How many?")))
    assert named.inputs["input_ids"].tolist() == found.inputs["input_ids"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_the_tokens_that_are_predicted(open_tiny, kind):
    enc = encoder(open_tiny, kind, loss_on="said")
    (asked,) = enc.encode(example(turn("user", "How many?"), answer="fünf"))
    assert asked.notes["answer_bytes"] == 5
    (bare,) = enc.encode(example(answer="fünf mal"))
    tokenizer = enc.chat.tokenizer
    free = (
        "" if bare.inputs["input_ids"][0] == tokenizer.bos_token_id else tokenizer.decode(bare.inputs["input_ids"][:1])
    )
    assert bare.notes["answer_bytes"] == 9 - len(free.encode())
    assert (free == "") == (kind in ("llama", "gemma3"))
    short = encoder(open_tiny, kind, loss_on="said", on_overlong="split", max_length=4)
    pieces = short.encode(example(answer="fünf mal"))
    assert len(pieces) > 1
    assert sum(piece.notes["answer_bytes"] for piece in pieces) == bare.notes["answer_bytes"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_a_bare_text_is_its_stop_whatever_ends_a_turn(open_tiny, kind):
    (found,) = encoder(open_tiny, kind, loss_on="all").encode(example(answer="A text."))
    assert found.notes["stop_trained"]


def test_earlier_assistant_turns_are_trained_by_their_weight(open_tiny):
    enc = encoder(open_tiny)
    row = example(turn("user", "one"), turn("assistant", "first", 1.0), turn("user", "two"), answer="second")
    (both,) = enc.encode(row)
    assert [text.replace("</s>", "") for text in trained_text(enc, both)] == ["first", "second"]
    silent = example(turn("user", "one"), turn("assistant", "first", 0.0), turn("user", "two"), answer="second")
    assert [t.replace("</s>", "") for t in trained_text(enc, enc.encode(silent)[0])] == ["second"]
    last = encoder(open_tiny, loss_on="last")
    assert [t.replace("</s>", "") for t in trained_text(last, last.encode(row)[0])] == ["second"]


def test_loss_on_all_trains_every_token_but_the_first(open_tiny):
    enc = encoder(open_tiny, loss_on="all")
    (row,) = enc.encode(example(turn("user", "How many?")))
    assert len(row.targets) == row.length - 1


def test_over_long_rows_follow_the_choice_and_never_lose_answer(open_tiny):
    row = example(turn("user", "bread " * 200), answer="forty two")
    with pytest.raises(Overlong) as error:
        encoder(open_tiny, max_length=64).encode(row)
    assert "64" in str(error.value)
    assert encoder(open_tiny, max_length=64, on_overlong="drop").encode(row) == []
    cut = encoder(open_tiny, max_length=64, on_overlong="truncate-context")
    (short,) = cut.encode(row)
    assert short.length <= 64
    assert trained_text(cut, short) == [f"forty two{cut.chat.stop_text}"]
    assert short.notes["cut"] > 0
    with pytest.raises(Unencodable, match="even without its context"):
        cut.encode(example(turn("user", "hi"), answer="bread " * 200))


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_context_is_cut_says_nothing_of_its_answer(open_tiny, kind):
    """The place of the cut must not tell how long the answer is: a model would read the label off it."""
    labels = ("no", "forty two", "a very long label that has many more tokens than the others have")
    enc = encoder(open_tiny, kind, max_length=96, on_overlong="truncate-context", labels=labels)
    for words in (200, 30, 2):
        asked = turn("user", "bread " * words)
        contexts = []
        for label in labels:
            (row,) = enc.encode(example(asked, answer=label))
            answer = enc.answer_ids(label, terminator=True)
            assert row.inputs["input_ids"][-len(answer) :].tolist() == answer
            assert row.length <= 96
            contexts.append(row.inputs["input_ids"][: -len(answer)].tolist())
        assert contexts == [enc.context_ids(example(asked))] * 3, words
        assert contexts[0] == enc.context_ids(example(asked), room=len(answer))


def test_free_answers_leave_the_room_that_an_asked_one_has(open_tiny):
    enc = encoder(open_tiny, max_length=96, on_overlong="truncate-context", free_tokens=24)
    asked = turn("user", "bread " * 200)
    short, longer = (enc.encode(example(asked, answer=answer))[0] for answer in ("no", "forty two and a few more"))
    assert short.notes["answer_start"] == longer.notes["answer_start"] == len(enc.context_ids(example(asked))) <= 72
    generous = encoder(open_tiny, max_length=96, on_overlong="truncate-context", free_tokens=4000)
    assert len(generous.context_ids(example(asked))) >= 40, "half of the length stays for the context"


def test_split_keeps_every_token_trained_once(open_tiny):
    enc = encoder(open_tiny, max_length=32, on_overlong="split")
    text = Example((), (Answer((text_part("the baker bakes bread before dawn " * 20),)),), id="t")
    whole = encoder(open_tiny, max_length=4096).encode(text)[0]
    pieces = enc.encode(text)
    assert max(piece.length for piece in pieces) <= 32
    assert [t for piece in pieces for t in piece.targets.tolist()] == whole.targets.tolist()
    assert [piece.notes["stop_trained"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]


def test_context_for_scoring_is_the_training_context(open_tiny):
    enc = encoder(open_tiny)
    asked = example(turn("system", "Be brief."), turn("user", "How many?"))
    (row,) = enc.encode(asked)
    context = enc.context_ids(asked, 8)
    answer = enc.answer_ids("forty two", terminator=True)
    assert row.inputs["input_ids"].tolist() == [*context, *answer]


def test_roles_the_template_refuses_are_told(open_tiny):
    with pytest.raises(Unencodable, match="cannot render turns of roles system"):
        encoder(open_tiny, "gemma3").encode(example(turn("system", "Be brief."), turn("user", "How many?")))


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mamba"])
def test_many_rows_at_once_are_encoded_as_each_alone(open_tiny, kind):
    enc = encoder(open_tiny, kind, max_length=64)
    chat = (turn("user", "one"), turn("assistant", "first", 1.0), turn("user", "two"))
    plain = Example((), (Answer((text_part("only a text"),)),))
    rows = [
        example(turn("user", "How many?")),
        example(*chat, answer="second"),
        example(turn("system", "Be brief."), turn("user", "How many?")),
        plain,
        example(turn("user", "bread " * 200)),
        example(turn("user", "")),
    ]
    faults = 0
    for row, found in zip(rows, enc.encode_many(rows), strict=True):
        if isinstance(found, Unencodable):
            faults += 1
            with pytest.raises(type(found), match=re.escape(str(found))):
                enc.encode(row)
            continue
        ((many,), (alone,)) = found, enc.encode(row)
        assert many.example is row
        assert many.inputs["input_ids"].tolist() == alone.inputs["input_ids"].tolist()
        assert many.positions.tolist() == alone.positions.tolist()
        assert many.notes == alone.notes
    assert faults == (2 if kind == "gemma3" else 1)  # too long, and a role that one template refuses


def test_parts_that_are_no_text_are_refused(open_tiny):
    from tunewright.core.records import Part

    audio = Example((Turn("user", (Part("audio", [0.0]),)),), (Answer((text_part("a"),)),))
    with pytest.raises(Unencodable, match="audio"):
        encoder(open_tiny).encode(audio)


TEXTS = ("forty two", "  Hỏi:\n\tcó đủ không? ", "<|im_start|>user", "", "1,024 or 'half'", "🙂 a\u0301")


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_the_whole_tokenizer_also_where_it_pads(open_tiny, kind):
    enc = encoder(open_tiny, kind)
    tokenizer = enc.chat.tokenizer
    wanted = tokenizer(list(TEXTS), add_special_tokens=False)["input_ids"]
    assert enc._tokens(TEXTS) == wanted
    assert _bare(enc.chat) is not None
    if tokenizer.pad_token is not None:
        tokenizer(list(TEXTS), padding=True)  # leaves the compiled tokenizer padding
    else:
        tokenizer.backend_tokenizer.enable_truncation(1)
    assert _bare(enc.chat) is None
    assert enc._tokens(TEXTS) == wanted


def test_a_tokenizer_that_changes_what_it_is_given_is_never_passed_over(open_tiny):
    enc = encoder(open_tiny)
    tokenizer = enc.chat.tokenizer

    class Shouting(type(tokenizer)):
        def __call__(self, text, *args, **kwargs):
            return super().__call__([one.upper() for one in text], *args, **kwargs)

    tokenizer.__class__ = Shouting
    _compiled.cache_clear()  # it was asked when the model was opened
    assert enc._tokens(TEXTS) == tokenizer(list(TEXTS), add_special_tokens=False)["input_ids"]
    assert enc._tokens(["forty two"]) != encoder(open_tiny)._tokens(["forty two"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_raw_text_that_brings_its_start_token_gets_no_second(open_tiny, kind):
    tokenizer = encoder(open_tiny, kind).chat.tokenizer
    assert plain_ids(tokenizer, f"{tokenizer.bos_token}The baker").count(tokenizer.bos_token_id) == 1
