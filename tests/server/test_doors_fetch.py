"""Media named by an address, at both doors."""

import asyncio

import pytest

from rewardhub.media.addresses import Policy
from rewardhub.media.fetch import Fetcher
from rewardhub.media.remote import Remote
from rewardhub.types import Call, Group, Media, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire import proto


@pytest.fixture
async def pictures(image):
    """A server that has one image under every path but ``/none``."""

    async def handle(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        found = b"404 No" if b" /none " in head else b"200 OK"
        writer.write(
            b"HTTP/1.1 %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (found, len(image()), image())
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


def group_of(base, name="g"):
    responses = tuple(Response("r", media=(Media(url=f"{base}/{path}"),)) for path in ("a", "none", "b"))
    return Group(name, media=(Media(url=f"{base}/p"),), responses=responses)


async def both_doors(running, group):
    """The statuses and fields by REST, by gRPC, by a stream's whole group, and by an open group."""
    message = proto.group_to_proto(group)
    options = proto.call_to_proto(Call("digest", details=True))
    media = [{"url": each.url} for each in group.media]
    responses = [{"text": each.text, "media": [{"url": one.url} for one in each.media]} for each in group.responses]
    body = {"recipe": "digest", "groups": [{"id": "g", "media": media, "responses": responses}]}
    async with running.http() as http, running.stub() as stub:
        rows = (await http.post("/v1/score", json=body)).json()["groups"][0]["scores"]
        by_rest = [(Status(row["status"]), row["details"].get("field", "")) for row in rows]
        reply = await stub.Score(pb.ScoreRequest(options=options, groups=[message]))
        events = [pb.ScoreStreamRequest(options=options), pb.ScoreStreamRequest(group=message)]
        (streamed,) = [each async for each in stub.ScoreStream(iter(events))]
    return [by_rest, *(_rows(each) for each in (reply, streamed))]


def _rows(reply):
    scores = proto.scores_from_proto(reply.groups[0], list(reply.fingerprints))
    return [(score.status, score.details.get("field", "")) for score in scores]


async def test_an_address_is_refused_by_name_where_fetching_is_off(service, pictures):
    """T65: off by default; the field is named at both doors and nothing reaches the hub."""
    async with service() as running:
        for found in await both_doors(running, group_of(pictures)):
            assert found == [(Status.INVALID_INPUT, "media[0].url")] * 3
        assert running.hub.calls == []


async def test_one_bad_address_costs_its_response_only(service, pictures):
    """With fetching on, what the group and a response name is fetched; the response whose address fails is alone in it."""
    async with service() as running:
        store = running.hub.media
        store.remote = Remote(Fetcher(Policy(["127.0.0.1"], ["127.0.0.1/32"]), max_bytes=10_000), store)
        expected = [(Status.OK, ""), (Status.INVALID_INPUT, "responses[1].media[0].url"), (Status.OK, "")]
        for found in await both_doors(running, group_of(pictures)):
            assert found == expected


async def test_members_of_an_open_group_may_name_addresses(service, pictures):
    """Open and Add fetch too; one that fails is refused by name and the group goes on."""
    good = proto.group_to_proto(Group("o", media=(Media(url=f"{pictures}/p"),), expected=2))
    adds = [pb.Add(id="o", responses=[proto.response_to_proto(Response("r", media=(Media(url=f"{pictures}/{path}"),)))]) for path in ("a", "none", "b")]  # fmt: skip
    events = [
        pb.ScoreStreamRequest(options=proto.call_to_proto(Call("digest"))),
        pb.ScoreStreamRequest(open=pb.Open(group=good)),
    ]
    events += [pb.ScoreStreamRequest(add=each) for each in adds]
    async with service() as running, running.stub() as stub:
        store = running.hub.media
        store.remote = Remote(Fetcher(Policy(["*"], ["127.0.0.1/32"]), max_bytes=10_000), store)
        replies = [each async for each in stub.ScoreStream(iter(events))]
    assert [each.error.field for each in replies if each.HasField("error")] == ["responses[0].media[0].url"]
    assert sum(len(each.total.values) for reply in replies for each in reply.groups) == 2
