"""What an audit found, as sentences and blocks of the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunewright.core.blocks import Bar, Bars, Block, Cell, Table, Text
from tunewright.core.words import rounded_down, rounded_up
from tunewright.evaluate.leaks import Canaried, Claim, Leaks
from tunewright.evaluate.membership import Share, share_of

_ENOUGH = 0.9
"""Noise over the promised one below which something is wrong; measuring it is far more exact than this."""
_MORE = 1.1
"""From here on what is found holds more than the noise."""
_MOST_BITS = 6
"""From here on exposures are shown in one bar; few canaries come so far by chance."""


def sentences(leaks: Leaks) -> list[str]:
    """What was found, in plain words, the bound first."""
    said = [_epsilon(leaks)]
    if leaks.control:
        bound = rounded_down(leaks.control.bound.epsilon, 2)
        watched = leaks.canaries is not None and leaks.canaries.steps > 0
        which = "A weaker audit, of the finished model alone," if watched else "The same audit"
        sees = "so it sees leaks" if bound > 0 else "so it is too weak to see leaks: add canaries"
        said.append(f"{which} of a twin trained without privacy proves epsilon of at least {bound:.2f}, {sees}.")
    if leaks.canaries and leaks.canaries.noise is not None:
        noise = leaks.canaries.noise
        fits = "as it should be" if noise >= _ENOUGH else "LESS than was promised; please report the fault"
        if noise > _MORE:
            fits = "no less than it should be; rows that are not told apart here count as noise"
        said.append(f"The noise found in the released sums is {noise:.2f} times the promised one: {fits}.")
    for cost in leaks.price:
        said.append(
            f"What privacy costs, {cost.name}: {cost.tuned:.3f}, and {cost.base:.3f} for the twin without it ("
            f"difference {cost.difference:+.3f}, {cost.low:+.3f} to {cost.high:+.3f}, {cost.n} test {cost.unit}s)."
        )
    if leaks.membership:
        m = leaks.membership
        told = "can be told from" if m.by_fall.low > 0.5 else "cannot be told from"
        said.append(
            f"Rows of training {told} unseen ones by how far their loss fell: {_share(m.by_fall)}; 0.5 is guessing."
        )
        if not m.before.low <= 0.5 <= m.before.high:
            said.append(
                f"The two sets differ before training already ({_share(m.before)} under the base), so this figure "
                "overstates or hides what was learned."
            )
    for one in leaks.extraction:
        said.append(
            f"Secrets said outright, {one.what}: {100 * one.trained.value:.1f} % of those trained on (at most "
            f"{100 * one.trained.high:.1f} %), {100 * one.unseen.value:.1f} % of unseen ones."
        )
    return said


def _epsilon(leaks: Leaks) -> str:
    claim, found = leaks.claim, leaks.canaries
    claimed = f"claimed: {_at(claim)}" if claim.made else "nothing is claimed"
    if found is not None and found.claim.made and found.claim != claim:
        claimed += f", by the twin {_at(found.claim)}"
    if found is not None and found.tested.made and found.tested != found.claim:
        claimed += f", which is by the same noise {_at(found.tested)}, where it is tested"
    if found is None:
        return f"Epsilon was not bounded from below, since no canaries were trained on ({claimed})."
    bound = found.bound
    at_least = f"{rounded_down(bound.epsilon, 2):.2f} at delta {rounded_up(found.tested.delta, 2):g}"
    where = " of a twin trained alike" if leaks.twin else ""
    seen = f"{found.steps} steps watched" if found.steps else "from the finished model alone"
    proof = (
        f"{bound.correct} of {bound.guesses} guesses right, {bound.canaries} canaries{where}, {seen}, 95 % confidence"
    )
    if found.exceeds:
        return (
            f"The privacy claim is BROKEN: epsilon is at least {at_least} ({proof}); {claimed}. Do not give "
            "this model away; please report the fault."
        )
    if found.quiet:
        return (
            f"The privacy claim is BROKEN: the noise found in the released sums is {found.noise:.2f} times the "
            f"promised one ({seen}); {claimed}. Do not give this model away; please report the fault."
        )
    verdict = "no breach of the claim was found" if claim.made else "so much can be proven to leak"
    if claim.made and found.noise is not None and found.noise < _ENOUGH:
        verdict = "no breach of it is proven, but there was less noise than it says"
    elif claim.made and not found.able:
        verdict += f", nor could be by so few canaries, which prove {rounded_up(found.bound.most, 3):g} at most"
    return f"Epsilon is at least {at_least} ({proof}); {claimed}: {verdict}."


def _at(claim: Claim) -> str:
    return f"{rounded_up(claim.epsilon, 3):g} at delta {rounded_up(claim.delta, 2):g}"


def blocks(leaks: Leaks) -> list[Block]:
    """The chapter of the report."""
    broken = bool(leaks.canaries and leaks.canaries.broken)
    proven = bool(leaks.canaries and leaks.canaries.bound.epsilon > 0)
    able = bool(leaks.canaries and (leaks.canaries.able or leaks.canaries.noise or not leaks.claim.made))
    tone = "bad" if broken or (proven and not leaks.claim.made) else "good" if able else "unsure"
    return [
        Text(title="What an attack finds", section="leaked", paragraphs=sentences(leaks), tone=tone),
        Table(
            title="Leaks in figures",
            section="leaked",
            note="Intervals are 95 %. An attack that finds nothing proves nothing: only the epsilon that training "
            "states is a guarantee. What is measured on rows themselves, or by a control without privacy, is outside "
            "that guarantee. "
            "Few unseen rows cannot tell rare false alarms.",
            columns=["What", "Value", "95 % interval", "Without a leak", "n"],
            rows=[*_canary_rows(leaks), *_member_rows(leaks), *_secret_rows(leaks), *_price_rows(leaks)],
        ),
        *_exposures(leaks.canaries),
    ]


def _exposures(found: Canaried | None) -> list[Block]:
    """How many canaries lie at each bit of exposure; none where there is nothing to rank among."""
    if found is None or not found.ranks or not found.left_out_ranks:
        return []
    last = min(_MOST_BITS, int(np.log2(len(found.left_out_ranks) + 1)))
    counts = (
        ("planted", "tuned", _by_bit(found.ranks, len(found.left_out_ranks) + 1, last)),
        ("left out", "baseline", _by_bit(found.left_out_ranks, len(found.left_out_ranks), last)),
    )
    bars = []
    for bit in range(last + 1):
        for name, role, count_B in counts:
            span = f"{bit} bits or more" if bit == last else f"{bit} to {bit + 1} bits"
            share = share_of(count_B[bit], sum(count_B))
            sure = {"low": share.low, "high": share.high} if name == "planted" else {}
            bars.append(Bar(label=f"{span}, {name}", value=share.value, role=role, **sure))
    return [
        Bars(
            title="Exposure of canaries",
            section="leaked",
            note="Share of canaries by how far ahead they stand of those left out: each bit halves the rank. Those "
            "left out are ranked among one another: so it looks by chance. Intervals are 95 %, given those left out.",
            unit="share",
            maximum=1.0,
            bars=bars,
        )
    ]


def _by_bit(rank_C: Sequence[float], candidates: int, last: int) -> list[int]:
    """[bits] how many exposures lie between this bit and the next; the last holds all above."""
    bit_C = np.floor(np.log2(candidates) - np.log2(rank_C) + 1e-9).clip(0, last)
    return [int((bit_C == bit).sum()) for bit in range(last + 1)]


def _canary_rows(leaks: Leaks) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for name, found in (("", leaks.canaries), (", twin without privacy", leaks.control)):
        if found is None:
            continue
        bound = found.bound
        rows.append(
            [
                f"Lower bound of epsilon, 95 % sure{name}",
                rounded_down(bound.epsilon, 3),
                "",
                "0",
                bound.canaries,
            ]
        )
        rows.append(
            [
                f"Exposure of canaries{name}, bits",
                round(found.exposure, 2),
                "",
                f"{found.by_chance:.2f}",
                bound.canaries,
            ]
        )
    if leaks.canaries and leaks.canaries.noise is not None:
        rows.append(["Noise found over noise promised", round(leaks.canaries.noise, 3), "", "1", leaks.canaries.steps])
    if leaks.canaries and leaks.canaries.tested.made:
        tested = leaks.canaries.tested
        promised = f"Epsilon promised at the delta of the test, {rounded_up(tested.delta, 2):g}"
        rows.append([promised, rounded_up(tested.epsilon, 3), "", "", leaks.canaries.bound.canaries])
    return rows or [["Lower bound of epsilon", "not measured", "", "0", 0]]


def _member_rows(leaks: Leaks) -> list[list[Cell]]:
    m = leaks.membership
    if m is None:
        return [["Membership", "not measured", "", "0.5", 0]]
    count = m.members + m.others
    rows: list[list[Cell]] = [
        [name, round(share.value, 3), _interval(share), "0.5", count]
        for name, share in (
            ("Membership by loss, AUC", m.by_loss),
            ("Membership by fall of the loss, AUC", m.by_fall),
            ("The same under the base, AUC", m.before),
        )
    ]
    for name, by_rate in (("loss", m.found_by_loss), ("fall of the loss", m.found)):
        for rate, share in by_rate.items():
            found = (round(share.value, 3), _interval(share)) if share else ("not measured", "")
            rows.append([f"Members found by {name} at {100 * rate:g} % false alarms", *found, f"{rate:g}", count])
    return rows


def _secret_rows(leaks: Leaks) -> list[list[Cell]]:
    return [
        [
            f"Said outright, {one.what}",
            round(one.trained.value, 3),
            _interval(one.trained),
            f"{one.unseen.value:.3f}",
            "",
        ]
        for one in leaks.extraction
    ]


def _price_rows(leaks: Leaks) -> list[list[Cell]]:
    return [
        [f"Private minus plain, {c.name}", round(c.difference, 3), f"{c.low:+.3f} to {c.high:+.3f}", "", c.n]
        for c in leaks.price
    ]


def _share(share: Share) -> str:
    return f"AUC {share.value:.3f} ({_interval(share)})"


def _interval(share: Share) -> str:
    return f"{share.low:.3f} to {share.high:.3f}"
