"""Scorers whose value is a hash of exactly what they read, on every lane and scope. An operator's file.

A test reloads a copy of it with another VERSION. With ``fails`` the first word of a response says what it comes to.
"""

import hashlib
import json
import random
import time
from typing import Annotated, Any

from pydantic import Field

from rewardhub.errors import InvalidInput, JudgeUnparseable, NoAnswer, OverLimit, ReferenceUnparseable, Unavailable
from rewardhub.registry import verifier
from rewardhub.scorer import ScorerInfo, Verifier
from rewardhub.types import Score

VERSION = 0
Milliseconds = Annotated[int, Field(ge=0, le=10_000)]
FAILURES = {
    "none": NoAnswer,
    "over": OverLimit,
    "reference": ReferenceUnparseable,
    "invalid": InvalidInput,
    "busy": Unavailable,
    "unread": JudgeUnparseable,
    "boom": ValueError,
}


def keyed(version: int, *read: Any) -> float:
    """A value in [0, 1) that only this version and what was read have."""
    text = json.dumps([version, *read], sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def shared(group: Any) -> list[Any]:
    """What a scorer may read of a group besides its responses."""
    prompt = group.prompt if isinstance(group.prompt, str) else [dict(each) for each in group.prompt]
    media = [each.sha256 for each in group.media]
    return [prompt, dict(group.reference), dict(group.metadata), group.problem_type, media]


def own(response: Any) -> list[Any]:
    """What it may read of a response."""
    signals, media = dict(response.signals), [each.sha256 for each in response.media]
    return [response.text, signals, response.tokens, [list(each) for each in response.steps], media]


def obey(text: str) -> None:
    word = text.split(" ", 1)[0]
    if word in FAILURES:
        raise FAILURES[word](f"as {word!r} says")


def alone(name: str, response: Any, group: Any, salt: int, fails: bool, wait_ms: int = 0) -> float:
    time.sleep(wait_ms / 1000)
    if fails:
        obey(response.text)
    return keyed(VERSION, name, salt, shared(group), own(response))


def together(name: str, responses: Any, group: Any, salt: int, fails: bool, wait_ms: int = 0) -> list[float]:
    time.sleep(wait_ms / 1000)
    for response in responses if fails else ():
        obey(response.text)
    read = [shared(group), [own(each) for each in responses]]
    return [keyed(VERSION, name, salt, read, place) for place in range(len(responses))]


@verifier("k_inline")
def k_inline(response, reference, group, *, salt: int = 0, fails: bool = False) -> float:
    """Inline."""
    return alone("k_inline", response, group, salt, fails)


@verifier("k_pool", lane="pool", time_limit_s=4.0)
def k_pool(response, reference, group, *, salt: int = 0, fails: bool = False, wait_ms: Milliseconds = 0) -> float:
    """In a worker."""
    return alone("k_pool", response, group, salt, fails, wait_ms)


@verifier("k_dear", lane="sandbox")
def k_dear(response, reference, group, *, salt: int = 0, fails: bool = False, wait_ms: Milliseconds = 0) -> float:
    """Remembered."""
    return alone("k_dear", response, group, salt, fails, wait_ms)


@verifier("k_group", scope="group")
def k_group(responses, reference, group, *, salt: int = 0, fails: bool = False) -> list[float]:
    """The whole group, inline."""
    return together("k_group", responses, group, salt, fails)


@verifier("k_group_pool", scope="pair", lane="pool", time_limit_s=4.0)
def k_group_pool(
    responses, reference, group, *, salt: int = 0, fails: bool = False, wait_ms: Milliseconds = 0
) -> list[float]:
    """The whole group, in a worker."""
    return together("k_group_pool", responses, group, salt, fails, wait_ms)


@verifier("k_group_dear", scope="group", lane="sandbox")
def k_group_dear(
    responses, reference, group, *, salt: int = 0, fails: bool = False, wait_ms: Milliseconds = 0
) -> list[float]:
    """The whole group, remembered."""
    return together("k_group_dear", responses, group, salt, fails, wait_ms)


def made_of(value: float) -> str:
    """The text that ``k_text`` makes: one in eight is nothing to score."""
    return f"{'none' if value < 0.125 else 'made'} {value!r}"


@verifier("k_text")
def k_text(response, reference, group, *, salt: int = 0, fails: bool = False) -> Score:
    """Makes a text for another term to read."""
    value = alone("k_text", response, group, salt, fails)
    return Score(value, details={"text": made_of(value)})


@verifier("k_text_pool", lane="pool", time_limit_s=4.0)
def k_text_pool(response, reference, group, *, salt: int = 0, fails: bool = False) -> Score:
    """The same in a worker."""
    value = alone("k_text_pool", response, group, salt, fails)
    return Score(value, details={"text": made_of(value)})


def _any(response, reference, group, *, salt: int = 0, fails: bool = False, wait_ms: Milliseconds = 0) -> Score:
    """Another value each time; its steps tell what it read."""
    value = alone("k_any", response, group, salt, fails, wait_ms)
    return Score(random.SystemRandom().random(), steps=(value,))


k_any = Verifier(ScorerInfo("k_any", "verifier", lane="pool", cost="dear", deterministic=False, time_limit_s=4.0), _any)
