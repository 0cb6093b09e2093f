"""The client against the hub itself, in a process of its own."""

import asyncio
import io
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from rewardhub.client import AsyncClient, Client
from rewardhub.errors import HubUnreachable, InvalidInput, ScoringFailed
from rewardhub.types import Call, Group, Media, Response, Status

CALL = Call(recipe="math")


@contextmanager
def serving(path, **settings):
    """``rewardhub serve`` on free ports; gives the addresses of its doors."""
    program = Path(sys.executable).with_name("rewardhub")
    environment = {f"REWARDHUB_{name.upper()}": str(value) for name, value in settings.items()}
    with path.open("w") as log:
        process = subprocess.Popen(
            [program, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **environment},
        )
    with process:
        line = process.stdout.readline()
        try:
            found = dict(word.split("=", 1) for word in line.split() if "=" in word)
            assert found, f"the hub did not start: {path.read_text()}"
            yield {"http": found["http"], "grpc": f"grpc://{found['grpc']}"}
        finally:
            process.terminate()
    assert process.returncode == 0, path.read_text()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("hub") / "log") as found:
        yield found


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A hub whose store of media is small, and forgets what nobody used for a second."""
    path = tmp_path_factory.mktemp("small") / "log"
    with serving(path, media_mb=10, media_tenant_mb=6, media_ttl_s=1) as found:
        yield found


@pytest.fixture(params=["http", "grpc"])
def address(request, hub):
    """Each door in turn."""
    return hub[request.param]


def groups(count: int, size: int = 4) -> list[Group]:
    texts = [tuple(Response(f"the answer is \\boxed{{{n + k}}}") for k in range(size)) for n in range(count)]
    return [Group(f"g{n}", "count", texts[n], {"answer": str(n + 1)}) for n in range(count)]


def test_math_is_scored_in_order(address):
    """Each group has exactly its second response right."""
    with Client(address) as client:
        answers = client.score(groups(40), CALL)
    assert [scores.id for scores in answers] == [f"g{n}" for n in range(40)]
    assert all(scores.values == [0.0, 1.0, 0.0, 0.0] and scores.complete for scores in answers)


async def test_math_is_streamed(address):
    """The same through the async twin's stream."""
    async with AsyncClient(address) as client:
        answers = {scores.id: scores.values async for scores in client.stream(groups(40), CALL)}
    assert answers == {f"g{n}": [0.0, 1.0, 0.0, 0.0] for n in range(40)}


def test_doors_agree_field_by_field(hub, details_of):
    """REST and gRPC differ in timings and ``cached`` only."""
    rows = []
    for url in hub.values():
        with Client(url, on_failure="none") as client:
            asked = [*groups(3), Group("bad", "", (Response("1"),), {"answer": ""}), Group("none", recipe="nothing")]
            rows.append([[details_of(score) | {"cached": None} for score in s] for s in client.score(asked, CALL)])
    assert rows[0] == rows[1]


def test_one_bad_group_loses_no_neighbour(address):
    """Unknown recipe, unusable reference and unknown media are statuses of their own groups."""
    asked = [
        Group("recipe", "", (Response("1"),), recipe="mth"),
        Group("reference", "", (Response("1"),), {"answer": ""}),
        Group("media", "", (Response("1"),), {"answer": "1"}, (Media("0" * 64),)),
        *groups(1),
    ]
    with Client(address, on_failure="none") as client:
        answers = client.score(asked, CALL)
    assert [scores[0].status for scores in answers] == ["invalid_input", "reference_unparseable", "invalid_input", "ok"]
    assert "did you mean 'math'" in answers[0][0].details["reason"]
    with (
        Client(address) as client,
        pytest.raises(ScoringFailed, match="group 'reference', response 0: reference_unpars"),
    ):
        client.score(asked[1:], CALL)


def test_half_a_surrogate_pair_harms_nobody(address):
    """In a response it is the caller's fault; where nothing reads it, it travels like any text."""
    asked = [
        Group("text", "", (Response("\ud800"),), {"answer": "1"}),
        Group("metadata", "", (Response("1"),), {"answer": "1", "\udfff": 1}, metadata={"name": "\ud800"}),
        *groups(1),
    ]
    with Client(address, on_failure="none") as client:
        answers = client.score(asked, CALL)
    assert [scores[0].status for scores in answers] == ["invalid_input", "ok", "ok"]


def test_responses_that_cannot_be_sent_harm_no_other(address):
    """No image, half a surrogate pair, what is no JSON, what no float holds: invalid_input in its place; the rest of the group is scored."""
    right = Response("\\boxed{2}")
    none = Response("\\boxed{2}", media=(Media.from_bytes(b"GIF89a"),))
    turns = Response(messages=({"role": "assistant", "content": object()},))
    bad = {"image": none, "half": Response("\ud800"), "object": turns}
    bad["huge"] = Response("\\boxed{2}", signals={"length": 10**400})
    asked = [Group(name, "1 + 1?", (right, each, Response("3"), right), {"answer": "2"}) for name, each in bad.items()]
    asked.append(Group("all", "1 + 1?", (none, turns, Response("\ud800"), right), {"answer": "2"}))
    asked.append(Group("none left", "1 + 1?", (none,), {"answer": "2"}))
    asked.append(Group("prompt", "1 + 1?", (right,), {"answer": "2"}, media=none.media))
    with Client(address, on_failure="none") as client:
        answers = client.score(asked, Call(recipe="math", details=True))
        assert [scores.id for scores in client.stream(iter(asked[:1]), CALL)] == ["image"]
    for scores in answers[:4]:
        assert scores.values == [1.0, None, 0.0, 1.0]
        assert scores.total.statuses == [Status.OK, Status.INVALID_INPUT, Status.OK, Status.OK]
        assert scores.indices == [0, 1, 2, 3]
        assert scores[1].details["reason"]
    assert [scores.values for scores in answers[4:]] == [[None, None, None, 1.0], [None], [None]]
    assert "GIF" in answers[5][0].details["reason"]
    assert "GIF" in answers[6][0].details["reason"]


STRICT = """\
name: strict
group_strict: true
terms: {right: {scorer: math}}
value: right - g_mean(right)
"""


def test_a_strict_group_is_not_whole_without_what_was_lost(address, hub):
    """With ``group_strict`` no value is taken over the others, whether the client or the door leaves a response out."""
    right, half = Response("\\boxed{2}"), Response("\ud800")
    with Client(address, on_failure="none") as client:
        (scores,) = client.score(
            [Group("g", "1 + 1?", (right, half, right), {"answer": "2"})], Call(recipe_text=STRICT)
        )
    assert scores.total.statuses == [Status.INCOMPLETE_GROUP, Status.INVALID_INPUT, Status.INCOMPLETE_GROUP]
    group = {"id": "g", "responses": [right.text, {"text": "2", "signals": {"n": "x"}}], "reference": {"answer": "2"}}
    reply = httpx.post(f"{hub['http']}/v1/score", json={"recipe_text": STRICT, "groups": [group]}).json()
    assert [row["status"] for row in reply["groups"][0]["scores"]] == ["incomplete_group", "invalid_input"]


def test_images_travel(address):
    """An image with a group is uploaded by itself, whether the call is whole or streamed."""
    data = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(data, format="PNG")
    asked = [Group("i", "p", (Response("1"),), {"answer": "1"}, (Media.from_bytes(data.getvalue()),))]
    with Client(address) as client:
        assert client.score(asked, CALL)[0].values == [1.0]
        assert [scores.values for scores in client.stream(asked, CALL)] == [[1.0]]
        assert client.stats.uploads == 1


def picture(seed: int, size: int) -> Media:
    """About so many bytes of noise."""
    side = int((size / 3) ** 0.5)
    data = io.BytesIO()
    noise = random.Random(seed).randbytes(3 * side * side)
    Image.frombytes("RGB", (side, side), noise).save(data, format="PNG", compress_level=1)
    return Media.from_bytes(data.getvalue())


def test_media_that_the_hub_has_lost_are_sent_again_at_once(small):
    """Whatever their size, those of an open group's responses too, and none is waited for that the client has not."""
    images = [picture(1, 4_000_000), picture(2, 40_000)]
    asked = [Group(f"g{n}", "p", (Response("1"),), {"answer": "1"}, (each,)) for n, each in enumerate(images)]
    unknown = Group("u", "p", (Response("1"),), {"answer": "1"}, (Media("f" * 64),))
    with Client(small["grpc"], on_failure="none") as client:
        assert [scores.values for scores in client.stream(asked, CALL)] == [[1.0]] * 2
        time.sleep(1.2)
        started = time.monotonic()
        answers = {scores.id: scores.total.statuses for scores in client.stream([*asked, unknown], CALL)}
        assert answers == {"g0": [Status.OK], "g1": [Status.OK], "u": [Status.INVALID_INPUT]}
        with client.open(replace(asked[1], id="open"), CALL) as opened:
            time.sleep(1.2)
            opened.add(Response("1", media=(images[1],)))
            assert opened.result().values == [1.0, 1.0]
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_media_under_way_may_be_more_than_the_store_holds(small, door):
    """What others pushed out before its group was there is sent again, as often as it takes."""
    images = [picture(seed, 600_000) for seed in range(40)]
    asked = [Group(f"g{n}", "p", (Response("1"),), {"answer": "1"}, (each,)) for n, each in enumerate(images)]
    with Client(small[door]) as client:
        assert [scores.values for scores in client.score(asked, CALL)] == [[1.0]] * 40


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_an_image_that_the_store_has_no_room_for_costs_its_own_group(small, door):
    """While groups that are being scored fill it: the others of the call are scored."""
    text = Group("text", "p", (Response("1"),), {"answer": "1"})
    image = replace(text, id="image", media=(picture(5, 3_000_000),))
    with (
        Client(small["grpc"]) as filler,
        filler.open(replace(text, id="o", media=(picture(4, 4_000_000),)), CALL),
        Client(small[door], retries=1, on_failure="none") as client,
    ):
        answers = {scores.id: scores.total for scores in client.score([text, image], CALL)}
    assert answers["text"].statuses == [Status.OK]
    assert answers["image"].statuses == [Status.UNAVAILABLE]
    assert "fill the store" in answers["image"].details[0]["reason"]


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_members_bring_media_that_the_hub_has_lost(small, door):
    """Single calls that join one group are refused before they have joined, and so sent again with their image."""
    image = picture(3, 40_000)
    member = Group("m", "p", (Response("1"),), {"answer": "1"}, (image,), expected=2)
    with Client(small[door], timeout_s=20) as client, ThreadPoolExecutor(2) as threads:
        for n in range(2):
            calls = [threads.submit(client.score, [replace(member, id=f"m{n}")], CALL) for _ in range(2)]
            assert [call.result()[0].values for call in calls] == [[1.0]] * 2
            time.sleep(1.2)


def test_single_calls_join_an_open_group(address):
    """Eight single calls under one id score as one group of eight."""
    with Client(address) as client, ThreadPoolExecutor(8) as pool:

        def one(text: str) -> list[float | None]:
            return client.score([Group("o", "p", (Response(text),), {"answer": "3"}, expected=8)], CALL)[0].values

        assert list(pool.map(one, map(str, range(8)))) == [[float(n == 3)] for n in range(8)]


GROUP_WIDE = Call(recipe_text="name: wide\nterms: {m: {scorer: math}}\nvalue: m - g_mean(m)")


def test_members_of_one_group_in_one_call(address):
    """A trainer that scores sample by sample in one batch: members join their group, each has its own answer, beside
    other groups; where members are missing they come from another call."""

    def member(text: str, expected: int = 3) -> Group:
        return Group("o", "p", (Response(text),), {"answer": "3"}, expected=expected)

    other = Group("w", "p", (Response("3"), Response("1")), {"answer": "3"})
    third = 1 / 3
    with Client(address) as client, ThreadPoolExecutor(2) as pool:
        answers = client.score([member("1"), other, member("3"), member("2")], GROUP_WIDE)
        assert [each.id for each in answers] == ["o", "w", "o", "o"]
        assert [each.values for each in answers] == [
            [pytest.approx(-third)], [0.5, -0.5], [pytest.approx(2 * third)], [pytest.approx(-third)],
        ]  # fmt: skip
        assert [each.indices for each in answers] == [[0], [0, 1], [1], [2]]
        calls = [[member("1", 4), member("3", 4)], [member("3", 4), member("3", 4)]]
        split = list(pool.map(lambda groups: client.score(groups, GROUP_WIDE), calls))
        assert [[each.values for each in part] for part in split] == [[[-0.75], [0.25]], [[0.25], [0.25]]]
        assert sorted(each.indices[0] for part in split for each in part) == [0, 1, 2, 3]


@pytest.mark.parametrize("call", [GROUP_WIDE, CALL])
async def test_members_of_one_group_on_one_stream(address, call):
    """Members that come one by one join their group, beside others of it on another stream; ``indices`` tell whose
    answer each is. A whole group may not have the id of one that is under way."""

    def members(name: str, *texts: str, expected: int = 5) -> list[Group]:
        return [Group(name, "p", tuple(map(Response, text)), {"answer": "3"}, expected=expected) for text in texts]

    async def streamed(client, *asked: Group) -> dict[tuple[str, int], float | None]:
        found: dict[tuple[str, int], float | None] = {}
        async for scores in client.stream(asked, call):
            assert scores.complete
            assert not found.keys() & {(scores.id, index) for index in scores.indices}
            found |= {(scores.id, index): value for index, value in zip(scores.indices, scores.values, strict=True)}
        return found

    mean = 0.2 if call is GROUP_WIDE else 0.0
    right, wrong = pytest.approx(1 - mean), pytest.approx(-mean)
    async with AsyncClient(address) as client:
        together, here, there = await asyncio.gather(
            streamed(client, *members("o", "1", "2", "34", "5")),
            streamed(client, *members("p", "1", "3")),
            streamed(client, *members("p", "4", "56")),
        )
        assert together == {("o", k): right if k == 2 else wrong for k in range(5)}
        assert here == {("p", 0): wrong, ("p", 1): right}
        assert there == {("p", k): wrong for k in range(3)}
        with pytest.raises(InvalidInput, match="doubled"):
            await streamed(client, *members("q", "1"), *members("q", "2", expected=0))
    with Client(address) as client:
        answers = list(client.stream(members("o", "1", "3", expected=2), CALL))
    assert {scores.indices[0]: scores.values for scores in answers} == {0: [0.0], 1: [1.0]}


def test_members_that_do_not_belong_together_are_refused(address):
    """What members share differs, or there are more than expected: nothing is sent."""
    member = Group("o", "p", (Response("1"),), {"answer": "3"}, expected=2)
    with Client(address) as client:
        for others, reason in (
            ([replace(member, prompt="q")], "prompt differs between the members of group 'o'"),
            ([replace(member, metadata={"box": np.array([1, 2])})], "metadata differs"),
            ([member, member], "group 'o' has 3 members in this call, and expects 2"),
            ([replace(member, expected=0)], "group id 'o' is doubled"),
        ):
            with pytest.raises(InvalidInput, match=reason):
                client.score([member, *others], CALL)
        arrays = [replace(member, metadata={"box": np.array([1, 2])}) for _ in range(2)]
        assert [each.values for each in client.score(arrays, CALL)] == [[0.0], [0.0]]


def test_the_policy_is_that_of_the_group(address):
    """A member without a value gets the neutral one of its group's members, as if they were named together."""
    call = Call(recipe_text="name: n\nterms: {m: {scorer: math}, l: {scorer: length, when: not m}}\nvalue: m or l")
    texts = ("3", "3", "1")
    asked = [Group("o", "p", (Response(text),), {"answer": "3"}, expected=3) for text in texts]
    together = replace(asked[0], responses=tuple(map(Response, texts)), expected=0)
    with Client(address, on_failure="neutral") as client:
        (whole,) = client.score([together], call)
        assert [each.values[0] for each in client.score(asked, call)] == whole.values
        assert whole[2].status is Status.INVALID_INPUT and whole.values[2] is not None


def test_an_open_group_over_grpc(hub):
    """Add after add, then the result with every row."""
    with (
        Client(hub["grpc"]) as client,
        client.open(Group("open", "p", (Response("1"),), {"answer": "3"}), CALL) as opened,
    ):
        opened.add("3", Response("4"))
        result = opened.result()
    assert result.values == [0.0, 1.0, 0.0] and result.indices == [0, 1, 2]


def test_an_open_group_costs_the_same_per_response_however_many_there_are(hub):
    """Two thousand responses, one by one, are a second's work of the client."""
    began = time.process_time()
    with Client(hub["grpc"]) as client, client.open(Group("o", "p", (), {"answer": "7"}), CALL) as opened:
        for n in range(2_000):
            opened.add(str(n % 8))
        assert opened.result().values == [float(n % 8 == 7) for n in range(2_000)]
    assert time.process_time() - began < 4


def test_a_refused_open_group_has_a_row_for_each_response(hub):
    """What the hub refused before it knew of any response is the status of each, so that none is missing from a batch;
    a large group, which travels as an open one, too."""
    texts = [str(number) * 900_000 for number in range(5)]
    with Client(hub["grpc"], on_failure="none") as client:
        with client.open(Group("o", "p"), Call(recipe="mahts")) as opened:
            opened.add("1", "2", "3")
            result = opened.result()
        assert result.indices == [0, 1, 2] and set(result.total.statuses) == {Status.INVALID_INPUT}
        big = Group("big", "p", tuple(map(Response, texts)), recipe="mahts")
        small = Group("small", "p", (Response("3"),), {"answer": "3"})
        answers = {each.id: each.total.statuses for each in client.stream([big, small], CALL)}
    assert answers == {"big": [Status.INVALID_INPUT] * 5, "small": [Status.OK]}


def test_an_open_group_that_cannot_begin_is_closed(hub):
    """Its stream ends with it."""
    with Client(hub["grpc"]) as client:
        with pytest.raises(TypeError):
            client.open(Group("o", "p", metadata={"no JSON": object()}), CALL)
        for each in [each for each in threading.enumerate() if each.name == "rewardhub-client-stream"]:
            each.join(5)
            assert not each.is_alive()


def test_large_groups_travel_in_parts(hub):
    """A group of six megabytes over gRPC has its rows."""
    big = Group("big", "p", tuple(Response("x " * 400_000 + str(k)) for k in range(8)), {"answer": "3"})
    with Client(hub["grpc"], on_failure="none") as client:
        (scores,) = client.score([big], CALL)
    assert len(scores) == 8 and {str(status) for status in scores.total.statuses} <= {"ok", "over_limit"}


@pytest.mark.parametrize("letter", ["x", "\U0001f600"])
def test_a_response_over_every_limit(address, letter):
    """A response of five million characters, and of 34 MB, is over the limit over either door; its neighbours are
    scored, and a scorer of groups reads as much of it over both."""
    texts = ("3", letter * 5_000_000, "4", letter * 34_000_000 if letter == "x" else "3")
    big = Group("big", "p", tuple(map(Response, texts)), {"answer": "3"})
    with Client(address) as client:
        (scores,) = client.score([big], CALL)
        (others,) = client.score([Group("next", "p", (Response("3"),), {"answer": "3"})], CALL)
    last = "over_limit" if letter == "x" else "ok"
    assert [str(status) for status in scores.total.statuses] == ["ok", "over_limit", "ok", last]
    assert scores.values == [1.0, 0.0, 0.0, float(last == "ok")]
    assert "1000000 characters" in scores[1].details["reason"]
    assert others.values == [1.0]


def test_an_open_group_takes_a_response_over_every_limit(hub):
    """The same for a response that is added to an open group."""
    with Client(hub["grpc"]) as client, client.open(Group("open", "p", (), {"answer": "3"}), CALL) as opened:
        opened.add("3", "x" * 5_000_000)
        assert [str(score.status) for score in opened.result()] == ["ok", "over_limit"]


def test_scorers_are_listed(address):
    """The built-in verifiers are there with their family and scope."""
    with Client(address) as client:
        found = {row["name"]: row for row in client.scorers()}
    assert {"math", "mcq", "tags", "box_iou", "code"} <= set(found)
    assert found["math"]["family"] == "verifier" and found["math"]["scope"] == "response"


def test_a_pin_is_kept_per_run(address):
    """A run that comes with another recipe under the same name is told so."""
    texts = ["name: r\nterms: {m: {scorer: math}}\nvalue: m", "name: r\nterms: {m: {scorer: math}}\nvalue: 2 * m"]
    run = f"run-{address.partition(':')[0]}"
    with Client(address, on_failure="none") as client:
        first, second = (client.score(groups(1), Call(run=run, recipe_text=text))[0] for text in texts)
        again = client.score(groups(1), Call(run=run, recipe_text=texts[1], repin=True))[0]
    assert first.values[1] == 1.0 and again.values[1] == 2.0
    assert second[1].status == "invalid_input" and "pinned" in second[1].details["reason"]


def test_a_dead_hub_is_unreachable(hub):
    """A port that nobody listens on."""
    with Client("http://127.0.0.1:9", retries=0) as client, pytest.raises(HubUnreachable, match="Connection refused$"):
        client.score(groups(1), CALL)


@pytest.mark.parametrize("step", [2**63, -(2**70)])
def test_a_step_beyond_any_integer_is_refused(address, step):
    """Over either door it is the caller's mistake, with the field named, before anything is sent."""
    with Client(address) as client, pytest.raises(InvalidInput, match="64 bits") as caught:
        client.score(groups(1), replace(CALL, step=step))
    assert caught.value.field == "step"
