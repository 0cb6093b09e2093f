"""Hubs in process with fake scorers whose value is known: the oracle of most tests here."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError, NoAnswer, ReferenceUnparseable
from rewardhub.registry import Registry, verifier
from rewardhub.scorer import Context, ScorerInfo
from rewardhub.types import Column, Group, Status


def oracle(prompt: str, response: str) -> float:
    """A value in [0, 1) that only this prompt and this response have."""
    digest = hashlib.sha256(f"{prompt}|{response}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


@verifier("oracle")
def oracle_verifier(response, reference, group) -> float:
    """The hash of prompt and response."""
    return oracle(group.prompt, response.text)


@verifier("match")
def match(response, reference) -> float:
    """Whether the response is the answer; empty responses hold none."""
    if "answer" not in reference:
        raise ReferenceUnparseable("reference.answer is missing", field="reference.answer")
    if not response.text:
        raise NoAnswer("the response is empty")
    return float(response.text == reference["answer"])


@verifier("crash")
def crash(response, reference) -> float:
    """Fails on the word boom."""
    if "boom" in response.text:
        raise ValueError("boom")
    return 1.0


@verifier("infinite")
def infinite(response, reference) -> float:
    """Returns what is no score."""
    return float("inf") if response.text == "inf" else float("nan")


@verifier("spread", scope="group")
def spread(responses, reference) -> list[float]:
    """Each response's length over the longest of its group."""
    longest = max(len(response.text) for response in responses) or 1
    return [len(response.text) / longest for response in responses]


@dataclass
class Dear:
    """A remote scorer with the oracle's value; counts what it computes, waits and fails when told."""

    name: str = "dear"
    delay_s: float = 0.0
    computed: list[str] = field(default_factory=list)
    fail: set[str] = field(default_factory=set)
    version: str = "1"
    gate: asyncio.Event | None = None

    @property
    def info(self) -> ScorerInfo:
        return ScorerInfo(name=self.name, family="reward_model", lane="model", cost="dear")

    params = {}

    @property
    def fingerprint(self) -> str:
        return f"dear-{self.version}"

    def bind(self, params):
        if params:
            raise ConfigError("dear takes no parameters", field=next(iter(params)))
        return self

    async def score_remote(self, group: Group, indices: Sequence[int], context: Context) -> Column:
        texts = [group.responses[index].text for index in indices]
        self.computed += texts
        if self.gate:
            await self.gate.wait()
        await asyncio.sleep(self.delay_s)
        statuses = [Status.UNAVAILABLE if text in self.fail else Status.OK for text in texts]
        values = [None if text in self.fail else oracle(group.prompt, text) for text in texts]
        return Column(values, statuses, self.fingerprint)


@pytest.fixture
def dear():
    return Dear()


@pytest.fixture
def registry(dear):
    registry = Registry()
    for scorer in (oracle_verifier, match, crash, infinite, spread, dear):
        registry.add(scorer)
    return registry


@pytest.fixture
def book_files():
    return []


@pytest.fixture
async def hub(registry, monkeypatch):
    """A running hub with one pool worker and no built-ins."""
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", __import__("pathlib").Path("/nonexistent"))
    hub = make_hub(HubConfig(workers=1), registry)
    await hub.start()
    yield hub
    await hub.aclose()
