"""A small transformer on codes: the idea of CAREER (Vafa et al. 2022) at the size of a laptop.

Titles are numbers without meaning. A causal transformer reads them with the facts of the person and the years; one
head says whether the person moves, another one to which title (their two-stage prediction, section 3).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from tunewright.core.records import Example
from tunewright.core.seeds import key, stream
from tunewright.data.folding import folded
from tunewright.evaluate.baselines._labels import FLOOR, counted, label_indices, targets
from tunewright.evaluate.contracts import Floats, Outcome
from tunewright.evaluate.history import History, history_of

WIDTH, LAYERS, HEADS = 64, 2, 4
PEOPLE_A_STEP = 32
HELD_OUT = 0.1
"""Share of people who choose when to stop."""
MOST_EPOCHS, PATIENCE = 60, 4
_YEARS, _MOST_FACTS, _LONGEST = 4, 64, 64
"""Years between records are told apart up to this many; facts by their commonest values; records before the latest so
many are not read."""


@dataclass(frozen=True, slots=True)
class Codes:
    """Numbers of titles and facts, found on the training rows."""

    labels: tuple[str, ...]
    titles: dict[str, int]
    facts: dict[str, int]

    @classmethod
    def of(cls, pasts: Sequence[History], labels: Sequence[str]) -> Codes:
        """Titles of the label list first; number 0 of the facts stands for any that is not known."""
        titles = {label: number for number, label in enumerate(labels)}
        counts: dict[str, int] = {}
        for past in pasts:
            for title in past.titles:
                titles.setdefault(title, len(titles))
            for word in _words(past, len(past.years) - 1):
                counts[word] = counts.get(word, 0) + 1
        commonest = sorted(counts, key=lambda word: (-counts[word], word))[:_MOST_FACTS]
        return cls(tuple(labels), titles, {word: number for number, word in enumerate(commonest, 1)})


@dataclass(frozen=True, slots=True)
class Tensors:
    """People as padded arrays: [people, places] of titles, years between, what comes next and how much it counts."""

    title: Tensor
    gap: Tensor
    fact: Tensor
    """[people, places, facts]"""
    next: Tensor
    weight: Tensor

    def take(self, rows: Sequence[int]) -> Tensors:
        """Some of the people."""
        index = torch.tensor(list(rows), dtype=torch.long)
        return Tensors(*(getattr(self, name)[index] for name in self.__slots__))


class Network(nn.Module):
    """Causal transformer with a head for moving and one for where to."""

    def __init__(self, codes: Codes) -> None:
        super().__init__()
        labels = len(codes.labels)
        self.title = nn.Embedding(len(codes.titles) + 1, WIDTH)
        self.gap = nn.Embedding(_YEARS + 1, WIDTH)
        self.place = nn.Embedding(_LONGEST, WIDTH)
        self.fact = nn.EmbeddingBag(len(codes.facts) + 1, WIDTH, mode="sum", padding_idx=0)
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.1, batch_first=True, norm_first=True, activation="gelu"
        )
        self.body = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.moves, self.where = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, labels)
        self.labels = labels

    def forward(self, people: Tensors) -> Tensor:
        """[people, places, labels] log-probabilities of the next title."""
        count, length = people.title.shape
        facts = self.fact(people.fact.flatten(0, 1)).view(count, length, -1)
        inputs = self.title(people.title) + self.gap(people.gap) + self.place(torch.arange(length)) + facts
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.body(inputs, mask=mask, is_causal=True)
        where, move = self.where(hidden), self.moves(hidden)
        known = people.title < self.labels
        here = people.title.clamp(max=self.labels - 1)[..., None]
        same = torch.zeros_like(where, dtype=torch.bool).scatter_(-1, here, known[..., None])
        elsewhere = where.masked_fill(same, -1e4).log_softmax(-1) + logsigmoid(move)
        two_stage = torch.where(same, logsigmoid(-move), elsewhere)
        return torch.where(known[..., None], two_stage, where.log_softmax(-1))


def network_outcomes(
    stages: Sequence[Sequence[Example]],
    test: Sequence[Example],
    labels: Sequence[str],
    seed: int,
    valid: Sequence[Example],
) -> list[Outcome]:
    """One outcome a test example, of a network that learns from people, counted by their survey weights.

    Args and errors: as `network_log_probs`, but with rows as they were read.
    """
    learned = [folded(counted(rows)) for rows in stages]
    chosen_by = folded(counted(targets(valid))) if valid else ()
    found = network_log_probs(learned, test, labels, seed, chosen_by)
    return [Outcome(example, choices=row) for example, row in zip(test, found, strict=True)]


def network_log_probs(
    stages: Sequence[Sequence[Example]],
    test: Sequence[Example],
    labels: Sequence[str],
    seed: int,
    valid: Sequence[Example] = (),
) -> Floats:
    """[test, labels] log-probabilities of a network trained on one set of rows after the other, from random weights.

    Args:
        stages: Training rows; those of the last stage are the target's, earlier ones pre-train.
        test: Rows to answer.
        labels: The closed set.
        seed: Of the first weights, the order and the dropout.
        valid: Rows that choose when the last stage stops; without any a tenth of its people do, and do not train.

    Raises:
        UserError: No training row has a label of the list.
    """
    label_indices(stages[-1], labels)
    known = [[(past, row) for row in rows if (past := _past(row))] for rows in stages]
    codes = Codes.of([past for stage in known for past, _ in stage], labels)
    chosen_by = [(past, row) for row in valid if (past := _past(row))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "career network"))
        network = Network(codes)
        for stage, found in enumerate(known):
            if found:
                parts = _parts(found, chosen_by if stage == len(known) - 1 else (), codes, seed)
                _train(network, parts, (1e-3, 3e-4)[stage > 0], seed)
    network.eval()
    answers = [_past(example) or History((), (0,), {}, ({},), (0.0,)) for example in test]
    found_rows: list[Floats] = []
    for start in range(0, len(answers), 256):
        part = answers[start : start + 256]
        with torch.inference_mode():
            said = network(_tensors(part, codes, [""] * len(part)))
        last = [min(max(len(past.titles), 1), _LONGEST) - 1 for past in part]
        found_rows.append(said[torch.arange(len(part)), last].double().numpy())
    return np.maximum(np.concatenate(found_rows), FLOOR) if found_rows else np.empty((0, len(labels)))


def _parts(
    found: Sequence[tuple[History, Example]],
    chosen_by: Sequence[tuple[History, Example]],
    codes: Codes,
    seed: int,
) -> tuple[Tensors, Tensors]:
    """People who choose when to stop, and people to learn from."""

    def made(rows: Sequence[tuple[History, Example]]) -> Tensors:
        return _tensors([past for past, _ in rows], codes, [row.answer.text for _, row in rows])

    if chosen_by:
        return made(chosen_by), made(found)
    people, (held, rest) = made(found), _held_out([row for _, row in found], seed)
    return people.take(held or rest), people.take(rest)


def _past(example: Example) -> History | None:
    """The past of a row; a row that is no career has none, and is answered by what comes first."""
    return history_of(example) or (History((), (0,), {}, ({},), (1.0,)) if example.answers else None)


def _words(past: History, place: int) -> list[str]:
    facts = {**past.facts, **past.yearly[place]}
    return [f"{name}={found}" for name, found in facts.items()]


def _tensors(pasts: Sequence[History], codes: Codes, answers: Sequence[str]) -> Tensors:
    """A row becomes the titles so far, each asked for the one after it; a row without titles has one blank place."""
    length = min(max((len(past.titles) for past in pasts), default=1) or 1, _LONGEST)
    most = max((len(_words(past, len(past.years) - 1)) for past in pasts), default=1) or 1
    blank, places = len(codes.titles), {label: number for number, label in enumerate(codes.labels)}
    title = torch.full((len(pasts), length), blank)
    gap, next = torch.zeros_like(title), torch.zeros_like(title)
    fact, weight = torch.zeros(len(pasts), length, most, dtype=torch.long), torch.zeros(len(pasts), length)
    for row, (past, answer) in enumerate(zip(pasts, answers, strict=True)):
        begin = max(0, len(past.titles) - length)
        said = (*past.titles, answer)
        for place in range(begin, max(len(past.titles), 1)):
            at = place - begin
            if past.titles:
                title[row, at] = codes.titles.get(past.titles[place], blank)
                gap[row, at] = min(past.years[place + 1] - past.years[place], _YEARS)
            following = place + bool(past.titles)
            numbers = [codes.facts.get(word, 0) for word in _words(past, min(following, len(past.yearly) - 1))]
            fact[row, at, : len(numbers)] = torch.tensor(numbers[:most], dtype=torch.long)
            if said[following] in places:
                next[row, at] = places[said[following]]
                weight[row, at] = float(past.weights[min(following, len(past.weights) - 1)])
    return Tensors(title, gap, fact, next, weight / weight.sum().clamp(min=1e-9) * (weight > 0).sum())


def _held_out(rows: Sequence[Example], seed: int) -> tuple[list[int], list[int]]:
    """Places of the rows that choose when to stop, and of the rest; a person's rows are all on one side."""
    owned: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        owned[row.unit or f"\0{place}"].append(place)
    people = list(owned.values())
    order = stream(seed, "career network", "held out", len(rows)).permutation(len(people)).tolist()
    count = int(len(order) * HELD_OUT)
    held, rest = ([place for person in some for place in people[person]] for some in (order[:count], order[count:]))
    return held, rest


def _train(network: Network, parts: tuple[Tensors, Tensors], rate: float, seed: int) -> None:
    """Trains in place on the second part until those of the first are foreseen no better; the best weights stay."""
    held, rest = parts
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    best, waited = float("inf"), 0
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    for epoch in range(MOST_EPOCHS):
        network.train()
        shuffled = stream(seed, "career network", "order", epoch).permutation(len(rest.title))
        for start in range(0, len(shuffled), PEOPLE_A_STEP):
            optimiser.zero_grad()
            loss = _loss(network, rest.take(shuffled[start : start + PEOPLE_A_STEP].tolist()))
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        network.eval()
        with torch.inference_mode():
            found = float(_loss(network, held))
        if found < best - 1e-4:
            best, waited = found, 0
            kept = {name: value.clone() for name, value in network.state_dict().items()}
        else:
            waited += 1
            if waited >= PATIENCE:
                break
    network.load_state_dict(kept)


def _loss(network: Network, people: Tensors) -> Tensor:
    """Negative log-likelihood of the next titles, by weight, for each that counts.

    Weights are 1 on average over all people: a step on heavy ones is a large step.
    """
    said = network(people).gather(-1, people.next[..., None]).squeeze(-1)
    loss: Tensor = -(said * people.weight).sum() / (people.weight > 0).sum().clamp(min=1)
    return loss
