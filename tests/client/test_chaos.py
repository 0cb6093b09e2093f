"""Whatever breaks on the way: one answer per response, and it is the response's own."""

import re
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewardhub.client import Client
from rewardhub.client.answers import merged
from rewardhub.client.failure import Stats, apply_policy
from rewardhub.errors import QuotaExceeded, Unavailable
from rewardhub.types import Call, Column, Group, GroupScores, Response, Score, Status

CALL = Call(recipe="math")
RETRYABLE = [status for status in Status if status.retryable]


def groups(count: int) -> list[Group]:
    return [Group(f"g{n}", f"p{n}", tuple(Response(f"{n}.{k}") for k in range(1 + n % 4))) for n in range(count)]


FAULTS = st.fixed_dictionaries(
    {
        "cut": st.sets(st.integers(0, 11), max_size=4),
        "script": st.dictionaries(st.integers(0, 11), st.lists(st.sampled_from(RETRYABLE), min_size=1, max_size=2)),
        "slow": st.sets(st.integers(0, 11), max_size=3),
        "refusals": st.lists(st.sampled_from([Unavailable, QuotaExceeded]), max_size=2),
        "streamed": st.booleans(),
        "scheme": st.sampled_from(["http", "grpc"]),
    }
)


def limits(examples: int) -> settings:
    checks = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=checks)


@limits(8)
@given(plan=FAULTS)
def test_every_response_gets_its_own_answer(doors, fake, plan):
    """Broken connections, refused calls, failed scores and slow groups, in any mixture, on both doors."""
    check(doors, fake, plan)


@pytest.mark.slow
@limits(120)
@given(plan=FAULTS)
def test_every_response_gets_its_own_answer_at_length(doors, fake, plan):
    """The same for more mixtures."""
    check(doors, fake, plan)


def check(doors, fake, plan) -> None:
    asked = groups(12)
    fake.cut = {f"g{n}" for n in plan["cut"]}
    fake.script = {f"g{n}": list(statuses) for n, statuses in plan["script"].items()}
    fake.delays = {f"g{n}": 0.05 for n in plan["slow"]}
    fake.refusals = [kind("busy") for kind in plan["refusals"]]
    with Client(doors.url(plan["scheme"]), timeout_s=60, retries=12) as client:
        answers = list(client.stream(iter(asked), CALL)) if plan["streamed"] else client.score(asked, CALL)
    fake.cut.clear()
    assert sorted(scores.id for scores in answers) == sorted(group.id for group in asked)
    expected = {group.id: [fake.value(group.prompt, response) for response in group.responses] for group in asked}
    assert {scores.id: scores.values for scores in answers} == expected


SCORES = st.one_of(
    st.floats(-1, 1).map(lambda value: Score(value)),
    st.sampled_from([status for status in Status if not status.is_verdict]).map(lambda status: Score(None, status)),
)


@given(rows=st.lists(SCORES, max_size=8), policy=st.one_of(st.sampled_from(["none", "neutral"]), st.floats(-2, 2)))
def test_a_policy_changes_nothing_but_missing_values(rows, policy):
    """Statuses and given values stay; neutral keeps the mean of the group; failures are counted by status."""
    stats = Stats()
    scores = GroupScores("g", Column.of(rows), indices=list(range(len(rows))))
    judged = apply_policy(scores, policy, stats)
    given_values = [row.value for row in rows if row.value is not None]
    assert judged.total.statuses == [row.status for row in rows]
    assert [value for value, row in zip(judged.values, rows, strict=True) if row.value is not None] == given_values
    assert stats.failures.total() == len(rows) - len(given_values)
    if policy == "neutral" and given_values:
        assert sum(judged.values) / len(rows) == pytest.approx(sum(given_values) / len(given_values), abs=1e-9)
    if isinstance(policy, float):
        assert None not in judged.values


@given(cuts=st.lists(st.integers(0, 8), max_size=3), order=st.randoms(use_true_random=False))
def test_pieces_of_an_answer_join_in_any_order(cuts, order):
    """An answer that came in pieces is the whole answer again, parts and details included."""
    rows = [Score(float(n), parts={"a": Score(n / 2, fingerprint="f")}, details={"n": n}) for n in range(8)]
    bounds = sorted({0, 8, *cuts})
    pieces = [range(start, end) for start, end in zip(bounds, bounds[1:], strict=False)]
    order.shuffle(pieces)

    def answer(indices):
        part = Column.of([rows[n].parts["a"] for n in indices], "f")
        return GroupScores("g", Column.of([rows[n] for n in indices], "t"), {"a": part}, list(indices))

    whole = merged([answer(piece) for piece in pieces])
    assert list(whole) == list(answer(range(8))) and whole.indices == list(range(8))


LEAVING = """
import sys
from rewardhub.client import Client
from rewardhub.types import Call, Group, Response
client = Client(sys.argv[1])
def endless():
    n = 0
    while True:
        yield Group(f"g{n}", "p", (Response("r"),))
        n += 1
answers = client.stream(endless(), Call(recipe="math"))
print(next(answers).id, flush=True)
"""


def test_a_program_may_just_end(url):
    """Without close, with a stream still open, the interpreter ends at once with 0 and prints no noise."""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", LEAVING, url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and re.fullmatch(r"g\d+\n", done.stdout) and done.stderr == ""
    assert time.monotonic() - start < 10
