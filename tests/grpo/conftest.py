"""A tiny policy, warmed up a little so that its samples end, and a local stand-in for the rewards."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from rewardhub.grpo.policy import Policy, load_policy
from rewardhub.grpo.supervised import supervise
from rewardhub.grpo.task import ColourTask
from rewardhub.types import Call, Column, Group, GroupScores, Status

Fails = Callable[[str, int], Status | None]


class ColourRewards:
    """Value = .9·accuracy + .1·format, as a hub would answer; ``fails(group id, index)`` makes a row fail."""

    def __init__(self, *, delay_s: float = 0.0, fails: Fails = lambda _id, _index: None) -> None:
        self.delay_s, self.fails = delay_s, fails
        self.seen: list[tuple[float, Group]] = []
        self.calls: list[Call] = []

    def score(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        return list(self.stream(groups, call))

    def stream(self, groups: Iterable[Group], call: Call) -> Iterator[GroupScores]:
        self.calls.append(call)
        for group in groups:
            self.seen.append((time.perf_counter(), group))
            if self.delay_s:
                time.sleep(self.delay_s)
            yield self.scores(group)

    def scores(self, group: Group) -> GroupScores:
        count = len(group.responses)
        failed = [self.fails(group.id, index) for index in range(count)]
        texts = [response.text for response in group.responses]
        wanted = f"<answer>{group.reference['answer']}</answer>"
        tags = [float(text.startswith("<answer>") and text.endswith("</answer>")) for text in texts]
        right = [float(text == wanted) for text in texts]
        total = [0.1 * tag + 0.9 * each for tag, each in zip(tags, right, strict=True)]
        columns = {"format": tags, "accuracy": right, "": total}
        built = {
            name: Column(
                [None if status else value for value, status in zip(values, failed, strict=True)],
                [status or Status.OK for status in failed],
            )
            for name, values in columns.items()
        }
        return GroupScores(group.id, built.pop(""), built, list(range(count)))


@pytest.fixture(scope="session")
def task() -> ColourTask:
    return ColourTask(0, 64)


@pytest.fixture(scope="session")
def warm_policy(tmp_path_factory: pytest.TempPathFactory, task: ColourTask) -> Policy:
    policy = load_policy("", tmp_path_factory.mktemp("grpo"), seed=0, device="cpu")
    for _ in supervise(policy, task.examples(0), steps=30, batch=16, learning_rate=2e-3, max_grad_norm=1.0):
        pass
    return policy


@pytest.fixture
def policy(warm_policy: Policy) -> Policy:
    """A copy that a test may train."""
    return Policy(copy.deepcopy(warm_policy.backbone), warm_policy.encoder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def colour_rewards() -> type[ColourRewards]:
    return ColourRewards
