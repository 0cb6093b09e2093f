"""A small set of pairs, and in-process rewards: a hash of the text, with faults on demand."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest

from rewardhub.types import Call, Column, Group, GroupScores, Status


def hash_of(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32


@dataclass
class HashRewards:
    """Scores by the hash of the text, answers in reverse order, remembers what it was asked.

    ``fails`` maps a response text to the statuses of its next scores; ``first_bonus`` is added to the
    response shown first, as a judge with a position bias does.
    """

    fingerprint: str = "hash-1"
    fails: dict[str, list[Status]] = field(default_factory=dict)
    first_bonus: float = 0.0
    asked: list[Group] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def score(self, groups, call):
        return sorted(self.stream(groups, call), key=lambda scores: int(scores.id))

    def stream(self, groups: Iterable[Group], call: Call) -> Iterator[GroupScores]:
        self.calls.append(call)
        for group in reversed(list(groups)):
            self.asked.append(group)
            yield self.answer(group)

    def answer(self, group: Group) -> GroupScores:
        rows = list(range(len(group.responses)))[::-1]
        values, statuses = [], []
        for row in rows:
            text = group.responses[row].text
            status = self.fails[text].pop(0) if self.fails.get(text) else Status.OK
            value = hash_of(text) + (self.first_bonus if row == 0 else 0.0)
            values.append(value if status is Status.OK else 0.0 if status.is_verdict else None)
            statuses.append(status)
        details = [None if status is Status.OK else {"reason": f"because {status}"} for status in statuses]
        return GroupScores(group.id, Column(values, statuses, self.fingerprint, details), indices=rows)


@pytest.fixture
def hash_rewards():
    """The class of the fake rewards."""
    return HashRewards


@pytest.fixture
def hashed():
    """The function that the fake rewards score by."""
    return hash_of


@pytest.fixture
def write_lines(tmp_path):
    """Writes objects (or raw lines) as a JSONL file and returns its path."""

    def write(lines, name="pairs.jsonl"):
        path = tmp_path / name
        path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
        return path

    return write


@pytest.fixture
def pairs(write_lines):
    """Forty pairs in two categories."""
    return write_lines(
        [
            {"prompt": f"p{n}", "chosen": f"good {n}" + "!" * (n % 3), "rejected": f"bad {n}", "category": "ab"[n % 2]}
            for n in range(40)
        ]
    )
