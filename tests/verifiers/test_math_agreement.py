"""The default preset beside Math-Verify 0.9: a recorded table, and chains of equations from MATH-500."""

import json
import re
import time
from pathlib import Path

import pytest

from rewardhub.types import Group, Response, Status
from rewardhub.verifiers.math_answer import math

math_verify = pytest.importorskip("math_verify")
TABLE = Path(__file__).with_name("math_verify_pairs.tsv")
BOUND = math.bind({})


def rows() -> list[list[str]]:
    """Math-Verify's verdict, ours, the reference, the answer, and the reason where they differ."""
    return [line.split("\t") for line in TABLE.read_text().splitlines()]


def theirs(reference: str, answer: str) -> bool:
    gold = math_verify.parse(rf"\boxed{{{reference}}}", parsing_timeout=None)
    try:
        return bool(
            math_verify.verify(
                gold, math_verify.parse(rf"\boxed{{{answer}}}", parsing_timeout=None), timeout_seconds=None
            )
        )
    except Exception:
        return False


def ours(reference: str, answer: str) -> bool:
    group = Group(id="g", responses=(Response(rf"\boxed{{{answer}}}"),), reference={"answer": reference})
    score = BOUND.try_fast(group, [0]).row(0)
    if score.status == Status.SKIPPED:
        score = BOUND.score(group, [0]).row(0)
    return score.value == 1.0


def test_our_verdicts_are_as_recorded():
    """Every pair of the table, both ways round."""
    assert [row[:4] for row in rows() if ours(row[2], row[3]) != (row[1] == "1")] == []


def test_their_verdicts_are_as_recorded():
    """The table says what Math-Verify really says: every other row, the reverse of its neighbour."""
    assert [row[:4] for row in rows()[::2] if theirs(row[2], row[3]) != (row[0] == "1")] == []


def test_every_difference_has_a_reason():
    """Where the verdicts differ the table says why, and few of these hard cases are right for them alone."""
    differ = [row for row in rows() if row[0] != row[1]]
    assert all(len(row) == 5 and row[4] for row in differ)
    assert len(differ) < 0.13 * len(rows())
    assert sum(row[0] == "1" for row in differ) <= 12


def chains(data_dir: Path) -> list[tuple[str, str]]:
    """The last two sides of every one-line equation in the solutions of MATH-500."""
    found = []
    for line in (data_dir / "math500/test.jsonl").read_text().splitlines():
        for match in re.finditer(r"\$([^$\n]{3,160})\$", json.loads(line)["solution"]):
            sides = [side.strip(" .,;") for side in match[1].split("=")]
            if len(sides) > 1 and all(sides) and "begin" not in match[1]:
                found.append((sides[-1], sides[-2]))
    return list(dict.fromkeys(found))


def test_chains_of_equations(data_dir):
    """On real equations: at least 95 % the same verdicts, more found equal, and at least four times as fast."""
    pairs = chains(data_dir)[:250]
    start = time.process_time()
    mine = [ours(*pair) for pair in pairs]
    between = time.process_time()
    other = [theirs(*pair) for pair in pairs]
    end = time.process_time()
    same = sum(a == b for a, b in zip(mine, other, strict=True))
    assert same >= 0.95 * len(pairs)
    assert sum(mine) >= sum(other)
    assert end - between > 4 * (between - start)
