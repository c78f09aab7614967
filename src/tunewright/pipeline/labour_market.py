"""A made-up labour market whose law is known: what comes next depends on the last two titles and on the person.

Nothing in it is measured on people. It exists because the best possible forecast is known exactly here, so that a
model's distance to it can be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.core.seeds import stream

Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Job:
    """A title: its trade, the schooling it asks for (0 to 2), how much women (+) or men (-) lean to it."""

    title: str
    trade: str
    level: int
    lean: int = 0


OUT = "none"
JOBS = (
    Job("Care worker", "health", 0, 1), Job("Nurse", "health", 1, 1), Job("Pharmacist", "health", 2, 1),
    Job("Doctor", "health", 2), Job("Childminder", "teaching", 0, 1), Job("Teaching aide", "teaching", 1, 1),
    Job("Teacher", "teaching", 2, 1), Job("Lecturer", "teaching", 2), Job("Office clerk", "office", 0, 1),
    Job("Secretary", "office", 1, 1), Job("Accountant", "office", 2), Job("Manager", "office", 2, -1),
    Job("Cashier", "sales", 0, 1), Job("Shop assistant", "sales", 0, 1), Job("Sales clerk", "sales", 1),
    Job("Buyer", "sales", 2), Job("Waiter", "food", 0), Job("Cook", "food", 0), Job("Baker", "food", 1),
    Job("Butcher", "food", 1, -1), Job("Bricklayer", "building", 0, -1), Job("Carpenter", "building", 1, -1),
    Job("Electrician", "building", 1, -1), Job("Engineer", "building", 2, -1), Job("Courier", "transport", 0, -1),
    Job("Driver", "transport", 0, -1), Job("Mechanic", "transport", 1, -1), Job("Dispatcher", "transport", 1),
    Job("Technician", "computing", 1, -1), Job("Programmer", "computing", 2, -1), Job("Data analyst", "computing", 2),
    Job("Student", OUT, 0), Job("Unemployed", OUT, 0), Job("At home", OUT, 0, 1),
)  # fmt: skip
TITLES = tuple(job.title for job in JOBS)
GENDERS, REGIONS, SCHOOLING = ("female", "male"), ("north", "south", "west"), ("school", "training", "college")
_REGION_TRADES = {"north": ("building", "transport"), "south": ("food", "sales"), "west": ("computing", "office")}
_FIRST_YEAR = 1990


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is."""

    gender: str
    region: str
    schooling: str


class Record(NamedTuple):
    """One row of a long table."""

    person: str
    year: int
    occupation: str
    gender: str
    region: str
    schooling: str
    oracle: str
    """The probability of each title, as JSON; empty = not told."""


@dataclass(frozen=True)
class Market:
    """The law. Skews of who lives in it make another population with the same law."""

    seed: int = 0
    women: float = 0.5
    schooling: tuple[float, float, float] = (0.4, 0.35, 0.25)
    regions: tuple[float, float, float] = (0.4, 0.35, 0.25)
    _known: dict[tuple[int, int, Person], Shares] = field(default_factory=dict, repr=False, compare=False)

    def next_shares(self, before: int, last: int, person: Person) -> Shares:
        """[titles] the probability of each next title: exact, and all that there is to know.

        Args:
            before: Number of the title before the last; the last one's where there is none.
            last: Number of the last title.
            person: Who it is.
        """
        key = (before, last, person)
        if key not in self._known:
            self._known[key] = self._next_shares(*key)
        return self._known[key]

    def _next_shares(self, before: int, last: int, person: Person) -> Shares:
        job, settled = JOBS[last], before == last
        stay = 0.3 if job.trade == OUT else 0.7 if settled else 0.3
        back = 0.0 if settled or JOBS[before].trade == OUT else 0.4
        drawn = _appeal(person)
        own = np.array([job.trade == other.trade for other in JOBS])
        out = np.array([other.trade == OUT for other in JOBS])
        towards = {"own": own & ~out, "out": out, "other": ~own & ~out}
        odds = (
            {"own": 0.7, "out": 0.15, "other": 0.15} if job.trade != OUT else {"own": 0.0, "out": 0.15, "other": 0.85}
        )
        moved = np.zeros(len(JOBS))
        for name, members in towards.items():
            weights = np.where(members, drawn, 0.0)
            weights[last] = 0.0
            if weights.sum():
                moved += odds[name] * weights / weights.sum()
        moved /= moved.sum()
        shares = (1 - stay) * (1 - back) * moved
        shares[last] += stay
        shares[before] += (1 - stay) * back
        return np.asarray(shares)

    def first_shares(self, person: Person) -> Shares:
        """[titles] where people begin."""
        drawn = _appeal(person)
        return np.asarray(drawn / drawn.sum())

    def people(self, count: int, years: int = 9) -> Iterator[tuple[Person, list[int], list[Shares]]]:
        """Who, the titles of so many years, and the law of each title but the first."""
        for number in range(count):
            draw = stream(self.seed, "labour market", number)
            person = Person(
                GENDERS[int(draw.random() >= self.women)],
                str(draw.choice(REGIONS, p=self.regions)),
                str(draw.choice(SCHOOLING, p=self.schooling)),
            )
            titles = [int(draw.choice(len(JOBS), p=self.first_shares(person)))]
            laws: list[Shares] = []
            while len(titles) < years:
                laws.append(self.next_shares(titles[-2] if len(titles) > 1 else titles[-1], titles[-1], person))
                titles.append(int(draw.choice(len(JOBS), p=laws[-1])))
            yield person, titles, laws

    def records(self, count: int, years: int = 9, name: str = "p", law: bool = False) -> list[Record]:
        """A long table, one row a person and year; with `law` the exact probabilities of all but first rows."""
        found = []
        for number, (person, titles, laws) in enumerate(self.people(count, years)):
            start = _FIRST_YEAR + number % 7
            for place, title in enumerate(titles):
                told = json.dumps(_named(laws[place - 1])) if law and place else ""
                who = (person.gender, person.region, person.schooling)
                found.append(Record(f"{name}{number}", start + place, TITLES[title], *who, told))
        return found


def _named(shares: Shares) -> dict[str, float]:
    return {title: round(float(share), 7) for title, share in zip(TITLES, shares, strict=True) if share}


def _appeal(person: Person) -> Shares:
    """[titles] how much somebody is drawn to each: schooling must fit, trades lean by gender and region."""
    level = SCHOOLING.index(person.schooling)
    fits = np.array([(8.0, 1.0, 0.1)[abs(job.level - level)] if job.trade != OUT else 1.0 for job in JOBS])
    side = 1 if person.gender == "female" else -1
    leans = np.array([(5.0 if job.lean == side else 0.4) if job.lean else 1.5 for job in JOBS])
    local = np.array([3.0 if job.trade in _REGION_TRADES[person.region] else 1.0 for job in JOBS])
    return np.asarray(fits * leans * local)
