"""Whole groups through both twins and both doors."""

import asyncio

import pytest

from rewardhub.client import AsyncClient, Client
from rewardhub.errors import InvalidInput
from rewardhub.types import Call, Group, Media, Response


def groups(count: int, size: int = 4) -> list[Group]:
    return [
        Group(f"g{n}", f"prompt {n}", tuple(Response(f"response {n}.{k}") for k in range(size))) for n in range(count)
    ]


def check(fake, asked, answers) -> None:
    assert [each.id for each in answers] == [group.id for group in asked]
    for group, scores in zip(asked, answers, strict=True):
        assert scores.values == [fake.value(group.prompt, response) for response in group.responses]
        assert scores.complete and scores.indices == list(range(len(group.responses)))


def test_score_answers_in_request_order(url, fake):
    """Answers come in request order with the value of their own prompt and response."""
    asked = groups(30)
    fake.delays = {"g0": 0.2, "g7": 0.1}
    with Client(url) as client:
        check(fake, asked, client.score(asked, Call(recipe="math")))


async def test_async_score_answers_in_request_order(url, fake):
    """The async twin gives the same answers."""
    async with AsyncClient(url) as client:
        check(fake, groups(30), await client.score(groups(30), Call(recipe="math")))


def test_both_doors_give_equal_rows(doors, details_of):
    """REST and gRPC give the same values, statuses, parts, details, confidence and fingerprints."""
    rows = {}
    for scheme in ("http", "grpc"):
        with Client(doors.url(scheme)) as client:
            answers = client.score(groups(3), Call(recipe="math"))
        rows[scheme] = [[details_of(score) for score in scores] for scores in answers]
    assert rows["http"] == rows["grpc"]
    assert rows["http"][0][0]["parts"]["hash"]["fingerprint"] == "p1"


def test_the_call_travels_whole(url, fake):
    """Every option of a call reaches the hub, the deadline as what is left of it."""
    call = Call("math", "run-1", 7, "v3", {"stage": 2.0}, 5000, "bypass", "bulk", False, True, "terms: {}")
    with Client(url, api_key="secret") as client:
        assert client.score(groups(1), call)[0][0].details == {}
    (seen,) = fake.calls
    assert 3500 < seen.deadline_ms < 5000
    assert {"Bearer secret"} == fake.keys
    for name in ("recipe", "run", "step", "policy_version", "inputs", "cache", "priority", "details", "repin"):
        assert getattr(seen, name) == getattr(call, name), name
    assert seen.recipe_text == call.recipe_text


def test_nothing_to_score_asks_nobody(url, fake):
    """No groups give no answers, without a call."""
    with Client(url) as client:
        assert client.score([], Call(recipe="math")) == []
    assert not fake.calls


def test_a_group_without_responses_is_answered(url):
    """A group may hold no responses."""
    with Client(url) as client:
        (scores,) = client.score([Group("empty", "?")], Call(recipe="math"))
    assert len(scores) == 0 and scores.complete


def test_groups_without_an_id_are_told_apart(url, fake):
    """A missing id is filled in, so that two such groups both get their own answer."""
    asked = [Group("", f"prompt {n}", (Response("a"),)) for n in range(2)]
    with Client(url) as client:
        answers = client.score(asked, Call(recipe="math"))
    assert [scores.values for scores in answers] == [[fake.value(f"prompt {n}", Response("a"))] for n in range(2)]


def test_a_doubled_id_is_refused(url, fake):
    """Two groups under one id cannot be told apart and are refused before anything is sent."""
    with Client(url) as client, pytest.raises(InvalidInput, match="'g0' is doubled"):
        client.score([*groups(1), *groups(1)], Call(recipe="math"))


def test_groups_larger_than_a_message_arrive(url, fake):
    """A group of 12 MB is split over messages and scored as one."""
    text = "x" * 999_990
    big = Group("big", "p", tuple(Response(f"{k}{text}") for k in range(12)))
    with Client(url) as client:
        check(fake, [big, *groups(2)], client.score([big, *groups(2)], Call(recipe="math")))


def test_a_response_larger_than_a_message_fails_alone(doors, fake):
    """Over gRPC a trajectory that fits no message fails its group with a reason; neighbours are scored."""
    big = Group("big", "p", (Response("x", messages=({"role": "tool", "content": "x" * (5 << 20)},)),))
    with Client(doors.url("grpc"), on_failure="none") as client:
        first, second = client.score([big, *groups(1)], Call(recipe="math"))
    assert first[0].status == "invalid_input" and "4194304 bytes" in first[0].details["reason"]
    assert second[0].status == "ok"


def test_text_with_every_line_separator_survives(url, fake):
    """Text that str.splitlines would cut, nulls and astral characters arrive unchanged."""
    text = "a\u2028b\u2029c\x85d\x0be\x1cf\r\ng\x00h\U0001f600"
    asked = [Group("g\u2028", text, (Response(text),))]
    with Client(url) as client:
        check(fake, asked, client.score(asked, Call(recipe="math")))
        (streamed,) = client.stream(iter(asked), Call(recipe="math"))
    assert streamed.values == [fake.value(text, Response(text))]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_group_that_cannot_be_encoded_fails_alone(url, fake, streamed):
    """An object that is no JSON, and too deep a nesting, is invalid_input; the neighbours are scored."""
    deep = []
    for _ in range(5_000):
        deep = [deep]
    bad = [
        Group("object", "p", (Response("a"),), {"answer": object()}),
        Group("set", "p", (Response("a"),), metadata={"ids": {1, 2}}),
        Group("deep", "p", (Response("a"),), metadata={"ids": deep}),
    ]
    with Client(url, on_failure="none") as client:
        asked = [*bad, *groups(2)]
        found = (
            client.stream(iter(asked), Call(recipe="math")) if streamed else client.score(asked, Call(recipe="math"))
        )
        answers = {scores.id: scores for scores in found}
        assert client.score(bad[:1], Call(recipe="math"))[0][0].status == "invalid_input"
    assert len(answers) == 5
    for group in bad:
        assert (
            answers[group.id][0].status == "invalid_input"
            and "cannot be sent" in answers[group.id][0].details["reason"]
        )
    check(fake, groups(2), [answers["g0"], answers["g1"]])


def test_score_responses_takes_plain_texts(url, fake):
    """The shortest call: a recipe, responses, prompt and reference."""
    with Client(url) as client:
        scores = client.score_responses("math", ["5", "6"], prompt="What is 2+3?", reference="5")
    assert [score.value for score in scores] == [fake.value("What is 2+3?", Response(text)) for text in "56"]
    assert scores[0].parts["len"].value == 1.0


def test_a_media_travels_once(url, fake):
    """Forty groups of two calls that share an image upload its bytes once."""
    image = Media.from_bytes(b"png bytes")
    asked = [Group(f"g{n}", "p", (Response("a"),), media=(image,)) for n in range(20)]
    with Client(url) as client:
        check(fake, asked, client.score(asked, Call(recipe="math")))
        check(fake, asked, client.score(asked, Call(recipe="math")))
        assert client.stats.uploads == 1
    assert fake.uploads == 1 and fake.media[image.sha256] == b"png bytes"


@pytest.mark.parametrize("details", [True, False])
def test_a_hub_that_lost_a_media_gets_it_again(url, fake, details):
    """A restarted hub has no media: the client uploads again and resends the group once."""
    image = Media.from_bytes(b"png bytes")
    asked = [Group("g", "p", (Response("a"),), media=(image,)), *groups(2)]
    with Client(url) as client:
        client.score(asked, Call(recipe="math", details=details))
        fake.media.clear()
        check(fake, asked, client.score(asked, Call(recipe="math", details=details)))
        assert client.stats.retries == 1
    assert fake.uploads == 2 and fake.seen["g"] == 3 and fake.seen["g0"] == 2


def test_a_media_without_bytes_at_hand_is_reported(url):
    """A hash whose bytes the client does not hold stays the hub's invalid_input."""
    asked = [Group("g", "p", (Response("a"),), media=(Media("0" * 64),))]
    with Client(url, on_failure="none") as client:
        (scores,) = client.score(asked, Call(recipe="math"))
    assert scores[0].status == "invalid_input" and "never uploaded" in scores[0].details["reason"]


def test_put_media_and_scorers(url, fake):
    """An image is put by hand, and the hub's scorers are listed."""
    with Client(url) as client:
        media = client.put_media(b"x" * 3_000_000)
        assert fake.media[media.sha256] == b"x" * 3_000_000
        assert client.scorers()[0]["name"] == "math"


async def test_async_put_media_and_scorers(url, fake):
    """The same two calls of the async twin."""
    async with AsyncClient(url) as client:
        media, scorers = await asyncio.gather(client.put_media(b"x"), client.scorers())
    assert media.sha256 in fake.media and scorers[0]["family"] == "verifier"


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:80", "ftp://host", "http://", "", "grpc:host", "grpc://host", "http://host:99999", "http://[::1"),
        *("http://host:80\n", " http://host:80", "http://host:80?x=1", "http://host:80#f"),
        *("grpc://host:80/path", "grpc://me:secret@host:80"),
    ],
)
def test_an_address_that_is_none_is_refused(url):
    """The message says what an address looks like."""
    with pytest.raises(InvalidInput, match="expected http://host:port"):
        Client(url)
