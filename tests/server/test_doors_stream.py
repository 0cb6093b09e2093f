"""ScoreStream over a real socket: groups, open groups, media on the stream, cancellation, pieces."""

import asyncio
import hashlib

import grpc

from rewardhub.errors import InvalidInput, Unavailable
from rewardhub.media.store import MediaLimits, MediaStore
from rewardhub.server import stream
from rewardhub.server.packing import stream_responses
from rewardhub.server.session import Answer, Notice
from rewardhub.server.settings import Limits, ServerSettings
from rewardhub.types import Call, Column, Group, GroupScores, Media, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import types_pb2
from rewardhub.wire import proto

DIGEST = Call(recipe="digest", details=True)


def group(name="g", *texts, **fields):
    return Group(name, responses=tuple(map(Response, texts or ("a", "b"))), **fields)


def options(call=DIGEST):
    return pb.ScoreStreamRequest(options=proto.call_to_proto(call))


def whole(one):
    return pb.ScoreStreamRequest(group=proto.group_to_proto(one))


def opened(one):
    return pb.ScoreStreamRequest(open=pb.Open(group=proto.group_to_proto(one)))


def added(name, *responses):
    return pb.ScoreStreamRequest(add=pb.Add(id=name, responses=map(proto.response_to_proto, responses)))


def closed(name):
    return pb.ScoreStreamRequest(close=pb.Close(id=name))


def cancelled(name):
    return pb.ScoreStreamRequest(cancel=pb.Cancel(id=name))


def sent(data, sha256=None):
    name = hashlib.sha256(data).hexdigest() if sha256 is None else sha256
    return pb.ScoreStreamRequest(media=types_pb2.Media(sha256=name, data=data))


def digest(data):
    return hashlib.sha256(data).hexdigest()


class Talk:
    """One stream: events out, answers collected by group id."""

    def __init__(self, stub):
        self.call = stub.ScoreStream()
        self.scores: dict[str, list[GroupScores]] = {}
        self.errors, self.missing, self.replies, self.failures = [], [], 0, {}

    async def send(self, *events):
        for event in events:
            await self.call.write(event)

    async def read(self):
        reply = await asyncio.wait_for(self.call.read(), 10)
        if reply is grpc.aio.EOF:
            return None
        self.replies += 1
        for message in reply.groups:
            self.scores.setdefault(message.id, []).append(proto.scores_from_proto(message, list(reply.fingerprints)))
            if message.HasField("error"):
                self.failures[message.id] = message.error
        self.missing += reply.missing_media
        if reply.HasField("error"):
            self.errors.append(reply.error)
        return reply

    async def until(self, done):
        while not done(self):
            assert await self.read() is not None, (self.scores, self.errors)

    async def end(self):
        await self.call.done_writing()
        while await self.read() is not None:
            pass
        assert await self.call.code() == grpc.StatusCode.OK


async def test_a_stream_answers_as_ready_and_once_each(service):
    """A thousand groups, one of them held: all others come first, each id once, few replies."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), whole(group("held", recipe="hold")))
        writer = asyncio.create_task(talk.send(*(whole(group(f"g{index}", "a", "b", "c")) for index in range(1_000))))
        await talk.until(lambda t: len(t.scores) == 1_000)
        assert "held" not in talk.scores
        running.hub.release.set()
        await writer
        await talk.end()
    assert len(talk.scores) == 1_001
    assert all(len(rows) == 1 and rows[0].complete for rows in talk.scores.values())
    assert not talk.errors


async def test_options_hold_for_the_groups_that_follow(service):
    """Each group is scored under the options last sent before it."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(Call("digest", run="one")), whole(group("a")), options(Call("echo")), whole(group("b")))
        await talk.end()
        seen = {groups[0].id: (call.recipe, call.run) for groups, call, _ in running.hub.calls}
    assert seen == {"a": ("digest", "one"), "b": ("echo", "")}


async def test_groups_after_unreadable_options_are_refused(service):
    """Nothing is scored under options that were replaced, by options that could not be read."""
    bad = pb.ScoreStreamRequest(options=types_pb2.CallOptions(recipe="echo", cache=77))
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), whole(group("a")), bad, whole(group("b")), opened(group("c")), closed("c"))
        await talk.send(options(Call("echo")), whole(group("d")))
        await talk.end()
        assert {groups[0].id: call.recipe for groups, call, _ in running.hub.calls} == {"a": "digest", "d": "echo"}
    assert {name: talk.failures[name].field for name in "bc"} == dict.fromkeys("bc", "options.cache")
    assert [each.field for each in talk.errors] == ["options.cache"]


async def test_endless_lists_are_refused_undecoded(service, monkeypatch):
    """T64, R17: the JSON within a message is bounded as a body of REST is; its neighbours are scored."""
    monkeypatch.setattr(proto, "MAX_HOLDERS", 1_000)
    bombs = [proto.group_to_proto(group(name)) for name in ("metadata", "reference")]
    for bomb in bombs:
        setattr(bomb, bomb.id, b'{"x":[' + b"[]," * 2_000 + b"[]]}")
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), *(pb.ScoreStreamRequest(group=bomb) for bomb in bombs))
        await talk.send(whole(group("texts", metadata={"x": "[{" * 2_000})))
        await talk.end()
    for name in ("metadata", "reference"):
        assert talk.scores[name][0][0].details["field"] == f"group.{name}"
        assert "more than 1000 objects" in talk.scores[name][0][0].details["reason"]
    assert talk.scores["texts"][0].total.statuses == [Status.OK] * 2


async def test_what_follows_a_refused_open_is_answered_with_it(service):
    """Adds and the Close under way for a group that was not opened are no errors of the stream, which others use; the
    id may be opened again."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        filled = added("g", Response("r0")), added("g", Response("r1")), closed("g")
        running.hub.full = True
        await talk.send(options(), opened(Group("g")), *filled, added("never", Response("r")))
        await talk.until(lambda t: t.errors)
        running.hub.full = False
        missing = Group("g", media=(Media("0" * 64),))
        await talk.send(opened(missing), *filled, cancelled("g"), opened(Group("g")), *filled)
        await talk.end()
    refused, dropped, *rest = talk.scores["g"]
    assert (refused.total.statuses, dropped.total.statuses) == ([Status.UNAVAILABLE], [Status.CANCELLED])
    assert [value for each in rest for value in each.indices] == [0, 1] and rest[-1].complete
    assert ["'never'" in each.message for each in talk.errors] == [True]


async def test_open_groups_grow_on_the_stream(service):
    """open, add, add, close: rows come as they are final, in the indices in which they were added."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), opened(group("g", "r0")), added("g", Response("r1"), Response("r2")))
        await talk.until(lambda t: sum(map(len, t.scores.get("g", []))) == 3)
        await talk.send(added("g", Response("r3")), closed("g"), added("g", Response("late")))
        await talk.until(lambda t: t.errors)
        await talk.end()
        wanted = running.hub.scores(group("g", "r0", "r1", "r2", "r3")).values
    rows = {index: value for s in talk.scores["g"] for index, value in zip(s.indices, s.values, strict=True)}
    assert rows == dict(enumerate(wanted))
    assert [each.complete for each in talk.scores["g"]] == [False] * (len(talk.scores["g"]) - 1) + [True]
    assert [(each.code, each.field) for each in talk.errors] == [("invalid_input", "id")]


async def test_what_comes_after_the_end_of_a_group_harms_no_other(service):
    """Adds and the Close under way when the hub ends a group are answered with it, and a Close behind the last
    expected member is no error; what a caller adds to a group that is whole still is one."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), opened(group("late", "r0")), opened(group("full", "r0", expected=2)))
        await talk.until(lambda t: {"late", "full"} <= t.scores.keys())
        running.hub.opened[0].leave()
        await talk.send(added("full", Response("r1")))
        await talk.until(lambda t: t.scores["full"][-1].complete and t.scores["late"][-1].complete)
        await talk.send(added("late", Response("r1")), added("late", Response("r2")), closed("late"))
        await talk.send(added("full", Response("r2")), closed("full"), whole(group("next")))
        await talk.until(lambda t: "next" in t.scores)
        await talk.end()
    assert ["'full'" in each.message for each in talk.errors] == [True]


async def test_ending_the_stream_closes_open_groups(service):
    """A caller who is done writing gets the last rows of what it left open."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), opened(group("g")))
        await talk.end()
    assert talk.scores["g"][-1].complete


async def test_cancel_answers_with_cancelled_rows(service):
    """Whole and open groups that are cancelled are answered so, and nothing of them runs on."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(Call("hold")), whole(group("w")), opened(group("o")))
        await talk.until(lambda t: "o" in t.scores)
        await talk.send(cancelled("w"), cancelled("o"), cancelled("never"))
        await talk.end()
        assert running.hub.running == 0
    assert talk.scores["w"][0].total.statuses == [Status.CANCELLED] * 2
    assert talk.failures["w"].code == "cancelled"
    assert talk.scores["o"][-1].total.statuses == [Status.CANCELLED] * 2
    assert not talk.errors


async def test_events_that_are_not_accepted_say_why(service):
    """Empty events, ids in use or empty, unknown groups: an error each, and the stream goes on."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(Call("hold")), whole(group("held")), opened(group("open")))
        await talk.send(
            pb.ScoreStreamRequest(),
            whole(group("held")),
            opened(group("open")),
            whole(group("")),
            added("none", Response("r")),
            closed("none"),
            pb.ScoreStreamRequest(options=types_pb2.CallOptions(cache=77)),
            sent(b"GIF89a", ""),
        )
        await talk.until(lambda t: len(t.errors) == 8)
        running.hub.release.set()
        await talk.end()
    fields = ["event", "group.id", "group.id", "group.id", "id", "id", "options.cache", ""]
    assert [each.field for each in talk.errors] == fields
    assert {each.code for each in talk.errors} == {"invalid_input"}
    assert [len(rows) for rows in talk.scores["held"]] == [2]


async def test_whole_call_errors_on_a_stream_are_answers(service):
    """A group that the hub refuses is answered with statuses and the error; neighbours are scored."""
    bad = proto.group_to_proto(group("json"))
    bad.metadata = b"{"
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        refused = [whole(group(name, recipe=name)) for name in ("busy", "pinned", "broken", "digset")]
        unknown = opened(group("open", recipe="digset"))
        faulty = opened(group("faulty", recipe="broken"))
        await talk.send(options(), *refused, pb.ScoreStreamRequest(group=bad), unknown, faulty, whole(group("good")))
        await talk.end()
    statuses = {name: rows[0].total.statuses[0] for name, rows in talk.scores.items()}
    assert statuses == {
        "busy": Status.UNAVAILABLE,
        "pinned": Status.INVALID_INPUT,
        "broken": Status.INTERNAL_ERROR,
        "digset": Status.INVALID_INPUT,
        "json": Status.INVALID_INPUT,
        "open": Status.INVALID_INPUT,
        "faulty": Status.INTERNAL_ERROR,
        "good": Status.OK,
    }
    assert talk.failures["busy"].retry_after_ms == 2500
    assert talk.scores["json"][0][0].details["field"] == "group.metadata"
    assert "secret" not in talk.failures["broken"].message + talk.failures["faulty"].message


async def test_members_of_one_open_group_share_its_id(service):
    """Groups with expected above their responses may come several times under one id."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), *(whole(group("g", f"r{index}", expected=4)) for index in range(4)))
        await talk.end()
    assert len(talk.scores["g"]) == 4
    assert not talk.errors


async def test_no_whole_group_takes_the_id_of_members_under_way(service):
    """Their answers could not be told apart; once the members are answered the id is free."""
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(Call("hold")), whole(group("g", "r0", expected=3)), whole(group("g", "r1", expected=3)))
        await talk.send(whole(group("g")), opened(group("g")))
        await talk.until(lambda t: len(t.errors) == 2)
        running.hub.release.set()
        await talk.until(lambda t: len(t.scores.get("g", ())) == 2)
        await talk.send(whole(group("g")))
        await talk.end()
    assert {each.field for each in talk.errors} == {"group.id"}
    assert [len(each) for each in talk.scores["g"]] == [1, 1, 2]


async def test_a_full_lane_refuses_no_member_of_a_group(service, monkeypatch):
    """A whole group that needs a full lane is refused at once. A member of one that comes in several is taken, as by
    the other doors: what its lane says is its own answer, and the others need not wait for it until their deadline."""

    def full(*_):
        raise Unavailable("the verifier pool is full", retry_after_s=1.0)

    async with service() as running, running.stub() as stub:
        monkeypatch.setattr(running.hub, "check_room", full)
        talk = Talk(stub)
        await talk.send(options(), whole(group("whole")), whole(group("member", "r", expected=2)))
        await talk.end()
    assert talk.scores["whole"][0].total.statuses == [Status.UNAVAILABLE] * 2
    assert talk.scores["member"][0].total.statuses == [Status.OK]


async def test_missing_media_are_named_and_sent_again(service, image):
    """The hub names what it lacks; once sent on the same stream, the waiting group is scored."""
    one, two = image(1), image(2)
    needs = group("g", media=(Media(sha256=digest(one)), Media(sha256=digest(two)), Media(sha256=digest(one))))
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), whole(needs), whole(group("other")))
        await talk.until(lambda t: t.missing and "other" in t.scores)
        assert talk.missing == [digest(one), digest(two)]
        await talk.send(sent(one))
        await talk.send(sent(two), whole(group("again", media=(Media(sha256=digest(two)),))))
        await talk.end()
        assert len(talk.missing) == 2
    assert talk.scores["g"][0].total.statuses == [Status.OK] * 2
    assert talk.scores["again"][0].total.statuses == [Status.OK] * 2


async def test_media_by_put_media_wake_waiting_groups(service, image):
    """An image over the message limit comes by PutMedia, and the waiting stream notices."""
    settings = ServerSettings(limits=Limits(message_bytes=2**16))
    large = image(1, (300, 300)) if len(image(1, (300, 300))) > 2**16 else noise()
    assert len(large) > 2**16
    async with service(settings) as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), whole(group("g", media=(Media(sha256=digest(large)),))))
        await talk.until(lambda t: t.missing)
        chunks = [pb.PutMediaRequest(chunk=large[at : at + 50_000]) for at in range(0, len(large), 50_000)]
        chunks[0].sha256 = digest(large)
        reply = await stub.PutMedia(iter(chunks))
        assert (reply.sha256, reply.bytes) == (digest(large), len(large))
        await talk.until(lambda t: "g" in t.scores)
        await talk.end()
    assert talk.scores["g"][0].total.statuses == [Status.OK] * 2


def noise() -> bytes:
    import io
    import random

    from PIL import Image

    buffer = io.BytesIO()
    Image.frombytes("RGB", (200, 200), random.Random(0).randbytes(120_000)).save(buffer, "PNG")
    return buffer.getvalue()


async def test_adds_wait_in_order_for_their_media(service, image):
    """Events of an open group keep their order while one of them waits for an image."""
    seen = Response("b", media=(Media(sha256=digest(image())),))
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), opened(Group("g")), added("g", Response("a")), added("g", seen))
        await talk.send(added("g", Response("c")), closed("g"))
        await talk.until(lambda t: t.missing)
        await talk.send(sent(image()))
        await talk.end()
    rows = sorted(index for scores in talk.scores["g"] for index in scores.indices)
    assert rows == [0, 1, 2]
    assert [index for scores in talk.scores["g"] for index in scores.indices] == rows
    assert not talk.errors


async def test_media_that_never_come_are_invalid_input(service, monkeypatch):
    """After its time, where the caller says that it has none, and at the end of the stream, a waiting group is
    invalid_input.
    """
    monkeypatch.setattr(stream, "MEDIA_WAIT_S", 0.2)
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), whole(group("timed", media=(Media(sha256="a" * 64),))))
        await talk.until(lambda t: "timed" in t.scores)
        monkeypatch.setattr(stream, "MEDIA_WAIT_S", 30)
        await talk.send(whole(group("unheld", media=(Media(sha256="c" * 64),))), sent(b"", "c" * 64))
        await talk.until(lambda t: "unheld" in t.scores)
        await talk.send(whole(group("ended", media=(Media(sha256="b" * 64),))))
        await talk.end()
    for name in ("timed", "unheld", "ended"):
        assert talk.scores[name][0].total.statuses == [Status.INVALID_INPUT] * 2


async def test_unusable_media_refuse_what_waits_for_them(service, image):
    """A bad image and a wrong hash are named at once, with the waiting groups."""
    wrong = "c" * 64
    async with service() as running, running.stub() as stub:
        running.hub.media = MediaStore(MediaLimits(pixels=100))
        talk = Talk(stub)
        big = image(3, (50, 50))
        await talk.send(options(), whole(group("big", media=(Media(sha256=digest(big)),))))
        await talk.send(whole(group("wrong", media=(Media(sha256=wrong),))), sent(big), sent(image(), wrong))
        await talk.until(lambda t: len(t.scores) == 2 and len(t.errors) == 2)
        await talk.end()
    assert "50 x 50" in talk.errors[0].message
    assert "not the hash" in talk.errors[1].message
    for scores in talk.scores.values():
        assert scores[0].total.statuses == [Status.INVALID_INPUT] * 2


async def test_a_video_of_too_many_frames_is_refused_unasked(service):
    """Nobody uploads ten thousand frames to be told then that they are too many."""
    long = Media(kind="video", frames=tuple(digest(str(n).encode()) for n in range(10_000)))
    async with service() as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), whole(group("g", media=(long,))))
        await talk.until(lambda t: "g" in t.scores)
        shown = Group("h", responses=(Response("a"), Response("b", media=(long,))))
        await talk.send(whole(shown))
        await talk.end()
    assert not talk.missing and not talk.errors
    assert talk.scores["g"][0].total.statuses == [Status.INVALID_INPUT] * 2
    assert talk.scores["h"][0].total.statuses == [Status.OK, Status.INVALID_INPUT]


async def test_groups_that_wait_for_media_are_in_flight(service):
    """Their bytes count among those of the door; what is over is refused group by group, and given back at the end."""
    settings = ServerSettings(limits=Limits(inflight_bytes=300_000))
    lacks = (Media("a" * 64),)
    async with service(settings) as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), *(whole(group(f"g{n}", "x" * 100_000, media=lacks)) for n in range(5)))
        await talk.until(lambda t: len(t.scores) == 3)
        assert {each[0].total.statuses[0] for each in talk.scores.values()} == {Status.UNAVAILABLE}
        talk.call.cancel()
        await asyncio.sleep(0.1)
        again = Talk(stub)
        await again.send(options(), *(whole(group(f"g{n}", "x" * 100_000, media=lacks)) for n in range(2)))
        await again.until(lambda t: len(t.missing) == 2)
        assert not again.scores
        again.call.cancel()


async def test_no_room_for_media_is_nobodys_fault(service, image):
    """A group whose image finds no room, because groups in hand hold it all, is unavailable."""
    first, second = image(1), image(2)
    async with service() as running, running.stub() as stub:
        size = max(len(first), len(second))
        running.hub.media = MediaStore(MediaLimits(item_bytes=size, tenant_bytes=size, total_bytes=size))
        held = running.hub.media.put(first)
        talk = Talk(stub)
        await talk.send(options(), whole(group("g", media=(Media(digest(second)),))))
        await talk.until(lambda t: t.missing)
        await talk.send(sent(second))
        await talk.until(lambda t: "g" in t.scores and t.errors)
        assert talk.scores["g"][0].total.statuses == [Status.UNAVAILABLE] * 2
        del held
        await talk.send(whole(group("g", media=(Media(digest(second)),))), sent(second))
        await talk.end()
    assert talk.scores["g"][1].total.statuses == [Status.OK] * 2


async def test_large_answers_come_in_pieces_under_the_limit(service):
    """A group whose rows pass the message limit is sent as several, complete last, nothing lost."""
    settings = ServerSettings(limits=Limits(message_bytes=2**16))
    big = group("g", *(f"r{index}" for index in range(200)), reference={"text": "x" * 1_000})
    huge = group("huge", "r", reference={"text": "x" * 60_000})
    async with service(settings) as running, running.stub() as stub:
        talk = Talk(stub)
        await talk.send(options(), whole(big), whole(huge))
        await talk.end()
        wanted = running.hub.scores(big).values
    pieces = talk.scores["g"]
    assert len(pieces) > 3
    assert [index for each in pieces for index in each.indices] == list(range(200))
    assert [value for each in pieces for value in each.values] == wanted
    assert [each.complete for each in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[0][0].details["reference"]["text"] == "x" * 1_000
    assert pieces[1].parts["half/of"].fingerprint == "e" * 16
    assert talk.scores["huge"][0][0].details == {}


def test_an_error_before_a_large_answer_is_told():
    """A notice that waits in a reply is sent before an answer that fills replies of its own."""
    rows = 4_000
    answer = Answer(GroupScores("g", Column([0.5] * rows, [Status.OK] * rows), indices=list(range(rows))))
    batch = [Notice(error=InvalidInput("told", field="event")), answer]
    replies = list(stream_responses(batch, 40_000))
    assert [reply.error.message for reply in replies if reply.HasField("error")] == ["told"]
    assert sum(len(group.total.values) for reply in replies for group in reply.groups) == rows
