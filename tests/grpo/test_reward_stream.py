"""The stream of rewards: measured, complete, and honest about what went wrong."""

import threading
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.errors import DeadlineExceeded, HubUnreachable, InternalError
from rewardhub.grpo import reward_stream
from rewardhub.grpo.reward_stream import RewardStream, hidden_ms
from rewardhub.types import Call, Column, Group, GroupScores, Status


def one(name: str) -> GroupScores:
    return GroupScores(name, Column([1.0], [Status.OK]), indices=[0])


class Scripted:
    """Rewards whose stream does what a test says."""

    def __init__(self, script: object) -> None:
        self.stream = script


def backwards(groups: Iterable[Group], _call: Call) -> Iterator[GroupScores]:
    yield from [one(group.id) for group in groups][::-1]


def test_scores_may_come_in_any_order():
    """They are found by id, and the wait is measured."""
    with RewardStream(Scripted(backwards), Call()) as stream:
        for name in "abc":
            stream.send(Group(name))
        scores, wait = stream.finish()
    assert {name: each.id for name, each in scores.items()} == {"a": "a", "b": "b", "c": "c"}
    assert wait.hidden_ms >= 0
    assert wait.exposed_ms > 0


def test_a_group_is_out_before_generation_ends():
    """The stream sees the first group while the trainer is still at work, and answers it then."""
    answered = threading.Event()

    def prompt(groups: Iterable[Group], _call: Call) -> Iterator[GroupScores]:
        for group in groups:
            yield one(group.id)
            answered.set()

    with RewardStream(Scripted(prompt), Call()) as stream:
        stream.send(Group("a"))
        assert answered.wait(10)
        stream.send(Group("b"))
        scores, wait = stream.finish()
    assert set(scores) == {"a", "b"}
    assert wait.hidden_ms > 0


def partial_then_whole(groups: Iterable[Group], _call: Call) -> Iterator[GroupScores]:
    for group in groups:
        yield GroupScores(group.id, Column([None], [Status.INCOMPLETE_GROUP]), indices=[0], complete=False)
        yield one(group.id)


def test_an_incomplete_answer_is_waited_past():
    """Only the complete answer counts."""
    with RewardStream(Scripted(partial_then_whole), Call()) as stream:
        stream.send(Group("a"))
        assert stream.finish()[0]["a"].values == [1.0]


def broken(groups: Iterable[Group], _call: Call) -> Iterator[GroupScores]:
    yield one(next(iter(groups)).id)
    raise HubUnreachable("gone")


def forgetful(groups: Iterable[Group], _call: Call) -> Iterator[GroupScores]:
    yield from [one(group.id) for group in groups][1:]


def inventive(groups: Iterable[Group], _call: Call) -> Iterator[GroupScores]:
    yield from [one("x") for _ in groups]


def doubled(groups: Iterable[Group], _call: Call) -> Iterator[GroupScores]:
    for group in groups:
        yield from [one(group.id)] * 2


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        (broken, HubUnreachable, "gone"),
        (forgetful, InternalError, "1 of 2 groups unanswered"),
        (inventive, InternalError, "'x', which is not outstanding"),
        (doubled, InternalError, "'a', which is not outstanding"),
    ],
)
def test_a_faulty_stream_is_an_error(script: object, error: type[Exception], said: str):
    """Never a guess: what did not come back by its id is not made up."""
    with RewardStream(Scripted(script), Call()) as stream:
        stream.send(Group("a"))
        stream.send(Group("b"))
        with pytest.raises(error, match=said):
            stream.finish()


def test_a_stream_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch):
    """After the call's deadline and some grace."""
    monkeypatch.setattr(reward_stream, "GRACE_S", 0.05)
    release = threading.Event()

    def stuck(groups: Iterable[Group], _call: Call) -> Iterator[GroupScores]:
        release.wait(30)
        yield from map(one, [group.id for group in groups])

    with RewardStream(Scripted(stuck), Call(deadline_ms=50)) as stream:
        stream.send(Group("a"))
        with pytest.raises(DeadlineExceeded):
            stream.finish()
    release.set()


def test_a_generator_that_dies_ends_the_stream():
    """The reward thread is not left waiting for groups."""
    with pytest.raises(ValueError, match="no memory"), RewardStream(Scripted(backwards), Call()) as stream:
        stream.send(Group("a"))
        raise ValueError("no memory")
    stream._thread.join(10)
    assert not stream._thread.is_alive()


@pytest.mark.parametrize(
    ("intervals", "ended", "expected"),
    [
        ([], 1, 0),
        ([(0, 1)], 2, 1),
        ([(0, 3)], 2, 2),
        ([(2, 3)], 2, 0),
        ([(0, 1), (0.5, 2)], 5, 2),
        ([(0, 4), (1, 2)], 5, 4),
        ([(0, 1), (2, 3)], 2.5, 1.5),
    ],
)
def test_hidden_wait(intervals: list[tuple[float, float]], ended: float, expected: float):
    """The union of the waits, up to the end of generation, in milliseconds."""
    assert hidden_ms(intervals, ended) == pytest.approx(1000 * expected)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=8), st.integers(0, 60))
def test_hidden_wait_counts_each_moment_once(spans: list[tuple[int, int]], ended: int):
    """It equals the number of whole seconds covered by any wait."""
    covered = {second for start, length in spans for second in range(start, start + length) if second < ended}
    assert hidden_ms([(start, start + length) for start, length in spans], ended) == pytest.approx(1000 * len(covered))
