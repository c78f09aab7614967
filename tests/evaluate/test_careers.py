"""What is judged of careers: baselines against counts by hand and a known law, metrics of moves against pairs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.plugins import build
from tunewright.core.records import Answer, Example, Turn, text_part
from tunewright.data.pool import pooled
from tunewright.evaluate.baselines import _network
from tunewright.evaluate.baselines._markov import Bigram, Cells, steps_of
from tunewright.evaluate.baselines._network import _held_out
from tunewright.evaluate.contracts import Outcome
from tunewright.pipeline.labour_market import JOBS, TITLES, Market, Person

LABELS = ["Baker", "Cook", "Nurse"]


def row(id: str, titles: list[str], answer: str, **facts: str) -> Example:
    turns: list[Turn] = []
    for place, title in enumerate(titles):
        extra = {"year": 1990 + place, "yearly": {}} | ({} if place else {"facts": facts})
        turns += [Turn("text", (text_part(f"{1990 + place}:"),), extra=extra)]
        turns += [Turn("assistant", (text_part(f" {title}\n"),), extra={"title": title})]
    last = {"year": 1990 + len(titles), "yearly": {}} | ({} if titles else {"facts": facts})
    turns.append(Turn("text", (text_part("now:"),), extra=last))
    return Example(tuple(turns), (Answer((text_part(answer),)),), id=id, unit=id, label=True)


def rows(pairs: list[tuple[str, str]], **facts: str) -> list[Example]:
    return [row(f"{n}", [last], after, **facts) for n, (last, after) in enumerate(pairs)]


def nll(outcomes: list[Outcome], labels) -> float:
    lost = [np.logaddexp.reduce(o.choices) - o.choices[list(labels).index(o.example.answer.text)] for o in outcomes]
    return float(np.mean(lost))


def test_the_bigram_is_counts_pulled_to_staying_and_to_where_people_move():
    train = rows([("Cook", "Cook")] * 6 + [("Cook", "Nurse")] * 3 + [("Nurse", "Nurse")] * 3)
    found = Bigram.fitted(steps_of(train, LABELS), 3)
    np.testing.assert_allclose(found.shares().sum(axis=1), 1)
    stay, moved = 10 / 14, np.array([0.5, 0.5, 3.5])
    by_hand = np.array([moved[0] / 4.0, 0, moved[2] / 4.0]) * (1 - stay) + np.array([0, stay, 0])
    np.testing.assert_allclose(found.backoff[1], by_hand)
    expected = (np.array([0, 6, 3]) + found.strength * by_hand) / (9 + found.strength)
    np.testing.assert_allclose(found.shares()[1], expected)


def test_leaving_a_person_out_is_counting_without_them():
    train = rows([("Cook", "Cook"), ("Cook", "Nurse"), ("Cook", "Nurse"), ("Nurse", "Baker"), ("Cook", "Nurse")])
    train = [Example(e.context, e.answers, e.id, unit="ab"[n % 2], label=True) for n, e in enumerate(train)]
    steps = steps_of(train, LABELS)
    whole = Bigram.fitted(steps, 3)
    for n in range(len(train)):
        counts = whole.counts.copy()
        for other in range(len(train)):
            if train[other].unit == train[n].unit:
                counts[steps.last[other], steps.next[other]] -= 1
        less = Bigram(counts, whole.backoff, whole.strength).shares()
        assert whole.without(steps)[n] == pytest.approx(less[steps.last[n], steps.next[n]])


def test_cells_learn_a_difference_between_groups_and_nothing_from_noise():
    train = rows([("Cook", "Nurse")] * 60, gender="female") + rows([("Cook", "Baker")] * 60, gender="male")
    cells = Cells.fitted(steps_of(train, LABELS), 3)
    shares = cells.shares([row("x", ["Cook"], "Cook", gender="female")], LABELS)
    assert shares[0, 2] > 0.95
    draw = np.random.default_rng(0)
    noise = [row(str(n), ["Cook"], LABELS[draw.integers(3)], gender=str(draw.integers(2))) for n in range(300)]
    assert Cells.fitted(steps_of(noise, LABELS), 3).strength >= 64


def test_what_rows_of_a_pool_say_is_not_counted():
    own = rows([("Cook", "Cook")] * 5)
    pool = [row(f"p{n}", ["Cook"], "Nurse") for n in range(50)]
    pool = [Example(r.context, r.answers, r.id, unit=r.id, label=True, slices={"population": "pool"}) for r in pool]
    assert steps_of([*own, *pool], LABELS).next.tolist() == [1] * 5


def test_an_unknown_title_before_and_none_at_all_are_answered():
    train = rows([("Cook", "Cook")] * 5)
    for name in ("bigram", "bigram_demographics", "career_network"):
        found = build("baselines", name).outcomes(
            train, [row("a", ["Astronaut"], "Cook"), row("b", [], "Cook")], LABELS
        )
        for outcome in found:
            assert np.exp(outcome.choices).sum() == pytest.approx(1, abs=1e-5)
    assert build("baselines", "bigram").outcomes(train, [], LABELS) == []


def market(count: int, seed: int, law: bool = False) -> list[Example]:
    found = []
    for number, (person, titles, laws) in enumerate(Market(seed).people(count)):
        facts = {"gender": person.gender, "region": person.region, "schooling": person.schooling}
        for place in range(1, len(titles)):
            one = row(f"{seed}-{number}-{place}", [TITLES[t] for t in titles[:place]], TITLES[titles[place]], **facts)
            if law:
                one.context[-1].extra["oracle"] = dict(zip(TITLES, laws[place - 1].tolist(), strict=True))
            found.append(Example(one.context, one.answers, one.id, unit=f"{seed}-{number}", label=True))
    return found


@pytest.fixture(scope="module")
def drawn():
    return market(120, 1), market(40, 2, law=True)


def test_on_a_known_law_whoever_knows_more_foresees_better_and_none_better_than_the_law(drawn):
    train, test = drawn
    lost = {
        name: nll(build("baselines", name).outcomes(train, test, TITLES), TITLES)
        for name in ("oracle", "career_network", "bigram_demographics", "bigram", "uniform")
    }
    network = lost.pop("career_network")
    assert list(lost) == sorted(lost, key=lost.__getitem__)
    assert lost["oracle"] < network < lost["uniform"] - 1
    assert lost["uniform"] == pytest.approx(np.log(len(TITLES)))
    exact = [-np.log(e.context[-1].extra["oracle"][e.answer.text]) for e in test]
    assert lost["oracle"] == pytest.approx(np.mean(exact))


def test_networks_and_oracle_apply_to_rows_that_bring_what_they_need(drawn):
    train, test = drawn
    applies = {name: build("baselines", name).applies for name in ("oracle", "career_network", "career_network_pooled")}
    assert [one(train, test) for one in applies.values()] == [True, True, False]
    assert not applies["oracle"](train, train)


def test_a_network_reads_no_answer_of_the_test_and_is_the_same_twice(drawn):
    train, test = drawn[0][:200], drawn[1][:20]
    other = [Example(e.context, (Answer((text_part("Cook"),)),), e.id, unit=e.unit, label=True) for e in test]
    network = build("baselines", "career_network")
    one, two = ([o.choices for o in network.outcomes(train, rows_, TITLES)] for rows_ in (test, other))
    np.testing.assert_array_equal(one, two)


def test_where_there_are_validation_rows_a_network_stops_by_them_and_learns_from_everybody(drawn, monkeypatch):
    train, test = drawn[0][:200], drawn[1][:20]
    seen = []
    monkeypatch.setattr(_network, "_train", lambda network, parts, rate, seed: seen.append(parts))
    network = build("baselines", "career_network")
    assert network.validated
    for valid in ((), drawn[1][20:60]):
        network.outcomes(train, test, TITLES, valid)
    (cut, rest), (chosen_by, all_of_them) = ([len(part.title) for part in parts] for parts in seen)
    assert 0 < cut < rest
    assert (chosen_by, all_of_them) == (40, cut + rest)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans(), st.integers(0, 3)), min_size=2, max_size=12
    )
)
def test_the_auc_of_moves_is_the_share_of_pairs_in_order(drawn_rows):
    records = np.array([[p, float(moved)] for p, moved, _ in drawn_rows])
    weights = np.array([[w for _, _, w in drawn_rows]], dtype=float)
    won = pairs = 0.0
    for p, moved, w in drawn_rows:
        for q, other, v in drawn_rows:
            if moved and not other:
                pairs += w * v
                won += w * v * ((p > q) + (p == q) / 2)
    found = build("metrics", "move_auc").summarise(records, weights)[0]
    assert np.isnan(found) if not pairs else found == pytest.approx(won / pairs)


def test_a_move_is_a_title_other_than_the_last_and_rows_without_one_are_left_out():
    scores = np.log([0.2, 0.7, 0.1])
    record = build("metrics", "move_auc").record
    assert record(Outcome(row("a", ["Cook"], "Nurse"), choices=scores), LABELS) == pytest.approx((0.3, 1.0))
    assert record(Outcome(row("a", ["Nurse", "Cook"], "Cook"), choices=scores), LABELS) == pytest.approx((0.3, 0.0))
    assert record(Outcome(row("a", [], "Cook"), choices=scores), LABELS) is None
    assert record(Outcome(row("a", ["Astronaut"], "Cook"), choices=scores), LABELS) is None


def test_the_law_sums_to_one_and_depends_on_the_last_two_titles_and_on_the_person():
    market, cook, waiter, nurse = Market(), *(TITLES.index(t) for t in ("Cook", "Waiter", "Nurse"))
    woman, man = Person("female", "south", "school"), Person("male", "south", "school")
    for before in range(len(JOBS)):
        for last in range(len(JOBS)):
            shares = market.next_shares(before, last, woman)
            assert shares.sum() == pytest.approx(1)
            assert (shares >= 0).all()
    assert market.next_shares(cook, cook, man)[cook] > market.next_shares(waiter, cook, man)[cook]
    assert market.next_shares(nurse, cook, man)[nurse] > market.next_shares(waiter, cook, man)[nurse]
    assert market.next_shares(cook, cook, woman)[nurse] > market.next_shares(cook, cook, man)[nurse]


def test_drawn_titles_follow_the_law():
    found = [(laws[0], titles[1]) for _, titles, laws in Market(3).people(1500, years=2)]
    expected = np.sum([law for law, _ in found], axis=0)
    counts = np.bincount([title for _, title in found], minlength=len(TITLES))
    kept = expected >= 5
    assert ((counts - expected)[kept] ** 2 / expected[kept]).sum() < 2 * kept.sum()


def surveyed(examples: list[Example], weights: list[float]) -> list[Example]:
    return [replace(one, survey_weight=weight) for one, weight in zip(examples, weights, strict=True)]


def test_moves_count_by_their_survey_weight_and_leaving_a_person_out_takes_that_off():
    pairs = [("Cook", "Cook"), ("Cook", "Nurse"), ("Cook", "Nurse"), ("Nurse", "Baker"), ("Cook", "Baker")]
    train = surveyed(rows(pairs), [8.0, 1.0, 1.0, 4.0, 6.0])
    train = [replace(one, unit="abbab"[n]) for n, one in enumerate(train)]
    steps = steps_of(train, LABELS)
    whole = Bigram.fitted(steps, 3)
    np.testing.assert_allclose(whole.counts[1], [1.5, 2.0, 0.5])
    for n in range(len(train)):
        counts = whole.counts.copy()
        for other in np.flatnonzero(steps.unit == steps.unit[n]):
            counts[steps.last[other], steps.next[other]] -= steps.weight[other]
        less = Bigram(counts, whole.backoff, whole.strength).shares()
        assert whole.without(steps)[n] == pytest.approx(less[steps.last[n], steps.next[n]])
    assert Cells.fitted(steps, 3).bigram.strength == whole.strength


def test_moves_count_as_much_as_they_are_trained_on_times_whom_they_stand_for():
    train = surveyed(rows([("Cook", "Cook"), ("Cook", "Nurse"), ("Nurse", "Baker")]), [2.0, 1.0, 1.0])
    trained = [1.0, 4.0, 0.5]
    train = [replace(one, answers=(replace(one.answer, weight=w),)) for one, w in zip(train, trained, strict=True)]
    counts = Bigram.fitted(steps_of(train, LABELS), 3).counts
    np.testing.assert_allclose(counts[1, 2] / counts[1, 1], 4 / 2)
    np.testing.assert_allclose(counts[1, 2] / counts[2, 0], 4 / 0.5)
    assert counts.sum() == pytest.approx(3)


def test_weights_that_are_all_alike_and_rows_that_count_for_nothing_change_nothing():
    train = rows([("Cook", "Cook")] * 6 + [("Cook", "Nurse")] * 3, gender="x") + rows(
        [("Nurse", "Baker")] * 4, gender="y"
    )
    train = [replace(one, unit=str(n)) for n, one in enumerate(train)]
    plain = Cells.fitted(steps_of(train, LABELS), 3).shares(train, LABELS)
    heavy = surveyed(train, [3.0] * len(train))
    silent = surveyed(rows([("Cook", "Baker")] * 40, gender="z"), [0.0] * 40)
    for given_rows in (heavy, [*train, *silent]):
        found = Cells.fitted(steps_of(given_rows, LABELS), 3).shares(train, LABELS)
        np.testing.assert_allclose(found, plain)


@pytest.mark.parametrize("name", ["career_network", "career_network_pooled"])
def test_the_networks_count_people_not_rows(name):
    """After Cook 240 people stayed and 60 moved, who stand for ten times as many each."""
    pairs = [("Cook", "Cook")] * 240 + [("Cook", "Nurse")] * 60
    train = [pooled(one) if n % 2 and name.endswith("pooled") else one for n, one in enumerate(rows(pairs))]
    heavy = surveyed(train, [1.0] * 240 + [10.0] * 60)
    network, share = build("baselines", name), []
    for given_rows in (train, heavy):
        (found,) = network.outcomes(given_rows, rows([("Cook", "Cook")]), LABELS)
        share.append(float(np.exp(found.choices[LABELS.index("Nurse")])))
    assert share == pytest.approx([0.2, 600 / 840], abs=0.12)


def test_what_only_the_pool_tells_is_learnt_before_the_own_rows_and_kept():
    """Nobody of the own rows was ever a baker; in the pool bakers become nurses."""
    elsewhere = [pooled(one) for one in rows([("Baker", "Nurse")] * 300 + [("Cook", "Cook")] * 100)]
    own = rows([("Cook", "Cook")] * 12 + [("Nurse", "Nurse")] * 12 + [("Cook", "Baker")] * 3)
    share = {}
    for name, train in (("career_network", own), ("career_network_pooled", [*elsewhere, *own])):
        (found,) = build("baselines", name).outcomes(train, rows([("Baker", "Nurse")]), LABELS)
        share[name] = float(np.exp(found.choices[LABELS.index("Nurse")]))
    assert share["career_network_pooled"] > max(0.6, share["career_network"] + 0.2), share


@pytest.mark.parametrize("name", ["prior", "majority"])
def test_the_trivial_baselines_count_people_not_rows(name):
    train = surveyed(rows([("Cook", "Cook")] * 3 + [("Cook", "Nurse")]), [1.0, 1.0, 1.0, 9.0])
    (found,) = build("baselines", name).outcomes(train, train[:1], LABELS)
    assert LABELS[int(found.choices.argmax())] == "Nurse"
    if name == "prior":
        np.testing.assert_allclose(np.exp(found.choices), np.array([1, 2, 4]) / 7)


def test_people_who_choose_when_a_network_stops_train_nothing():
    people = [replace(row(f"{n}", ["Cook"], "Cook"), unit=f"p{n % 30}") for n in range(120)]
    held, rest = _held_out(people, 0)
    assert sorted([*held, *rest]) == list(range(120))
    assert {people[place].unit for place in held} & {people[place].unit for place in rest} == set()
    assert len({people[place].unit for place in held}) == 3
