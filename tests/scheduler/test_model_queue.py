"""The queue in front of a model's worker: what goes into a batch."""

import asyncio
import math

import pytest

from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.store import Cache
from rewardhub.errors import Unavailable
from rewardhub.media.decode import encoded
from rewardhub.models.card import Card
from rewardhub.scheduler.exchange import Heart, WorkerLost
from rewardhub.scheduler.figures import Figures
from rewardhub.scheduler.messages import Failed, Picture, Ping, Pong, Probe, Scored, encode
from rewardhub.scheduler.model_job import estimate_tokens, message_of
from rewardhub.scheduler.model_lane import ModelLane
from rewardhub.scheduler.model_scorer import ModelScorer
from rewardhub.scheduler.pictures import pictures_of, with_pictures
from rewardhub.scheduler.pool import Pool
from rewardhub.scheduler.quarantine import Quarantine
from rewardhub.scheduler.scheduler import Scheduler
from rewardhub.scorer import Ask, Context
from rewardhub.types import Column, Group, Media, Response, Status
from rewardhub.v1 import types_pb2
from rewardhub.wire.proto import group_from_proto

BUDGET = 2_000


def lane(tmp_path):
    return ModelLane(Card(name="m", kind="scalar", path=tmp_path, token_budget=BUDGET))


async def queued(lane, groups, deadline=math.inf, priority="online"):
    """Scoring tasks of groups that wait in the lane's queue."""
    tasks = [asyncio.create_task(lane.score(group, Context(deadline, priority))) for group in groups]
    await asyncio.sleep(0)
    return tasks


async def test_batches_keep_to_the_token_budget(tmp_path):
    """T09: lengths of 1 to 8,000 tokens; no batch of several is over the budget, one that is over it goes alone."""
    served = lane(tmp_path)
    lengths = [4, 32_000, 400, 7_000, 40, 3_000, 7_900, 12_000, 4, 400] * 3
    groups = [Group(f"g{n}", "", (Response("x" * length),)) for n, length in enumerate(lengths)]
    tasks = await queued(served, groups)
    seen = []
    while jobs := served._waiting.take(BUDGET):
        tokens = [estimate_tokens(job.group) for job in jobs]
        assert sum(tokens) <= BUDGET or len(jobs) == 1
        seen += [job.group.id for job in jobs]
        for job in jobs:
            job.fail(Status.CANCELLED, "not scored here")
    assert sorted(seen) == sorted(group.id for group in groups)
    await asyncio.gather(*tasks)


async def test_a_video_counts_as_its_frames_and_reaches_the_worker(tmp_path):
    """T09: a batch is cut by what is shown; the worker has the frames of prompt and response as they were stored."""
    served, frames = lane(tmp_path), (b"first", b"2nd")
    video = Media(kind="video", frames=("a" * 64, "b" * 64), frame_data=frames)
    group = Group("g", "", (Response("x", media=(video,)), Response("y")), media=(video,))
    await queued(served, [group])
    (job,) = served._waiting.take(BUDGET)
    assert job.tokens >= 256 * 4
    pictures = {each.sha256: each.data for each in pictures_of([job.group])}
    assert pictures == dict(zip(video.frames, frames, strict=True))
    sent = with_pictures(group_from_proto(types_pb2.Group.FromString(message_of([job]))), pictures)
    assert [tuple(encoded(*owner.media)) for owner in (sent, sent.responses[0])] == [frames, frames]


async def test_a_picture_is_sent_once_however_often_it_is_named(tmp_path):
    """R17: 20 MB that 500 media name, of prompts and of responses, cost a batch 20 MB."""
    served, channel = lane(tmp_path), Scripted(most=100, longest=100_000)
    image = Media(sha256="a" * 64, data=bytes(20_000_000))
    groups = [Group(f"g{n}", "", (Response("x", media=(image,) * 50),) * 4, media=(image,) * 50) for n in range(2)]
    tasks = await queued(served, groups)
    while not all(task.done() for task in tasks):
        await served._batch(channel)
        assert channel.sent < 21_000_000
    await asyncio.gather(*tasks)


async def test_trajectories_count_for_what_they_hold(tmp_path):
    """T09, T19: a trajectory fills a batch as its text would; one that has no memory is over limit, as a text is."""
    served, channel = lane(tmp_path), Scripted(most=100, longest=12_000)
    short = [Group(f"g{n}", "", (Response(messages=(said("x" * 4_000),)),)) for n in range(5)]
    tasks = await queued(served, short)
    assert len(served._waiting.take(BUDGET)) == 1
    for task in tasks:
        task.cancel()
    long = Group("long", "", (Response(messages=(said("x" * 20_000),)),))
    tasks = await queued(served, [Group("text", "", (Response("x" * 1_000),)), long])
    while not all(task.done() for task in tasks):
        await served._batch(channel)
        await asyncio.sleep(0)
    assert [task.result().statuses for task in tasks] == [[Status.OK], [Status.OVER_LIMIT]]


def said(text):
    return {"role": "assistant", "content": text}


async def test_expired_and_cancelled_work_is_dropped(tmp_path):
    """T03, T04: what is past its deadline or has nobody waiting is never sent to the worker."""
    served = lane(tmp_path)
    groups = [Group(f"g{n}", "", (Response("x"),)) for n in range(3)]
    (late,) = await queued(served, groups[:1], deadline=0.0)
    gone, kept = await queued(served, groups[1:])
    gone.cancel()
    await asyncio.sleep(0)
    assert [job.group.id for job in served._waiting.take(BUDGET)] == ["g2"]
    assert (await late).statuses == [Status.TIMEOUT]
    assert served.queued == 1
    kept.cancel()
    await asyncio.gather(gone, kept, return_exceptions=True)
    assert served.queued == 0


async def test_single_calls_for_one_prompt_are_sent_as_one_group(tmp_path):
    """T09: the prompt counts once in a batch and travels once; every call gets the score of its own response."""
    served, channel = lane(tmp_path), Scripted(most=100)
    prompts = ["p" * 4_000, [{"role": "user", "content": "q" * 2_000}]]
    groups = [Group(f"g{n}", prompts[n % 2], (Response("x" * n),), {"answer": "1"}) for n in range(1, 21)]
    groups.append(Group("other", prompts[0], (Response("x" * 30), Response("x" * 31)), {"answer": "2"}))
    tasks = await queued(served, groups)
    await served._batch(channel)
    assert [len(each.responses) for each in channel.groups] == [10, 10]
    await served._batch(channel)
    assert [len(each.responses) for each in channel.groups] == [2]
    for group, column in zip(groups, await asyncio.gather(*tasks), strict=True):
        assert column.values == [float(len(response.text)) for response in group.responses]


async def test_rows_that_were_not_asked_for_are_no_scores(tmp_path):
    """T17: a worker that answers with too few rows costs the calls their scores, and gives none to a neighbour."""
    served = lane(tmp_path)
    tasks = await queued(served, [Group(f"g{n}", "p", (Response("x" * n), Response("y"))) for n in (2, 3)])
    while not all(task.done() for task in tasks):
        await served._batch(Scripted(most=100, lost=1))
        await asyncio.sleep(0)
    for column in await asyncio.gather(*tasks):
        assert column.values == [None, None]
        assert set(column.statuses) == {Status.INTERNAL_ERROR}


class Scripted:
    """A seat in a worker that scores a text with its length, and has memory for ``most`` responses at once, none
    longer than ``longest`` characters.

    It loses the last rows of each group.
    """

    began, took_s, since = math.inf, 0.0, 0.0

    def __init__(self, most=2, lost=0, longest=1000, *, never=True) -> None:
        self.largest, self.groups, self._most, self._lost, self._longest = 0, [], most, lost, longest
        self._never = never
        self.sent, self._message = 0, None

    async def send(self, message) -> None:
        self.sent = (self.sent if isinstance(self._message, Picture) else 0) + len(encode(message))
        self._message = message

    async def receive(self):
        if isinstance(self._message, Ping):
            return Pong()
        if isinstance(self._message, Probe):
            tokens = self._message.tokens
            short = 4 * tokens > self._longest
            return Failed(0, "out of memory", memory=True) if short else Scored(0, [], tokens)
        self.groups = [types_pb2.Group.FromString(each) for each in self._message.groups]
        texts = [[response.text for response in group.responses] for group in self.groups]
        rows = sum(map(len, texts))
        sizes = [response.ByteSize() for group in self.groups for response in group.responses]
        if rows > self._most or max(sizes) > self._longest:
            return Failed(self._message.id, "out of memory", memory=True, never=self._never)
        self.largest = max(self.largest, rows)
        kept = [own[: len(own) - self._lost] for own in texts]
        columns = [Column([float(len(each)) for each in own], [Status.OK] * len(own)) for own in kept]
        return Scored.of(self._message.id, columns)


async def test_what_does_not_fit_in_memory_is_split(tmp_path):
    """T19: a batch that does not fit is halved until it does; only a response that never fits alone is over limit."""
    served, channel = lane(tmp_path), Scripted(longest=12_000)
    groups = [Group(f"g{n}", "", tuple(Response("x" * (10 * n + k)) for k in range(n))) for n in (1, 2, 5, 8)]
    groups.append(Group("bad", "", (Response("fits"), Response("huge" * 5_000), Response("fits too"))))
    tasks = await queued(served, groups)

    async def serve():
        while True:
            await served._batch(channel)

    serving = asyncio.create_task(serve())
    columns = await asyncio.wait_for(asyncio.gather(*tasks), 20)
    serving.cancel()
    for group, column in zip(groups[:-1], columns, strict=False):
        assert column.values == [float(len(response.text)) for response in group.responses]
        assert set(column.statuses) == {Status.OK}
    assert columns[-1].values == [4.0, None, 8.0]
    assert columns[-1].statuses == [Status.OK, Status.OVER_LIMIT, Status.OK]
    assert channel.largest == 2
    assert served.queued == 0


async def test_parts_of_a_bulk_group_let_online_work_pass(tmp_path):
    """T06, T19: a bulk group that had no memory as a whole is split; its parts do not delay what is waited for."""
    served, seat = lane(tmp_path), Scripted(most=1, longest=12_000)
    texts = [Response("x" * 400 * n) for n in range(1, 17)]
    (bulk,) = await queued(served, [Group("bulk", "", tuple(texts))], priority="bulk")
    await served._batch(seat)
    online = await queued(served, [Group(f"g{n}", f"{n}" * 4_000, (Response("y"),)) for n in range(4)])
    batches = 0
    while not all(task.done() for task in online):
        await served._batch(seat)
        await asyncio.sleep(0)
        batches += 1
    assert batches <= 8 and not bulk.done()  # of more than 16
    while not bulk.done():
        await served._batch(seat)
        await asyncio.sleep(0)
    assert bulk.result().values == [float(len(each.text)) for each in texts]


async def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path, monkeypatch):
    """Without descriptors, memory or processes the lane refuses with the reason, and goes on once there are some."""
    served, tries = lane(tmp_path), []

    async def refused(*command, **options):
        tries.append(command)
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
    served.start()
    try:
        await asyncio.wait_for(served.settled(), 5)
        with pytest.raises(Unavailable, match="temporarily unavailable"):
            await served.score(Group("g", "", (Response("x"),)), Context(math.inf))
        while len(tries) < 2:
            await asyncio.sleep(0.05)
        assert not served._task.done()
    finally:
        await served.aclose()


async def test_work_in_hand_is_answered_when_its_lane_ends(tmp_path, monkeypatch):
    """T21: what the worker has when the lane is closed is refused at once, as what waits is."""
    monkeypatch.setattr("rewardhub.scheduler.exchange.PING_S", 0.02)
    served, seat = lane(tmp_path), Mute()
    (task,) = await queued(served, [Group("g", "", (Response("x"),))])
    served._task = asyncio.create_task(served._batch(seat))
    while len(served._waiting):
        await asyncio.sleep(0.01)
    await served.aclose()
    assert (await asyncio.wait_for(task, 5)).statuses == [Status.UNAVAILABLE]


async def test_a_lane_that_ended_refuses_at_once(tmp_path, monkeypatch):
    """T23: a group that was opened before a reload and comes to its old model afterwards does not wait in vain."""
    monkeypatch.setattr("rewardhub.scheduler.device._spawned", no_process)
    served = lane(tmp_path)
    served.start()
    await served.aclose()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(served.score(Group("g", "p", (Response("x"),)), Context(math.inf)), 5)


async def no_process():
    raise OSError(24, "Too many open files")


async def test_what_no_message_holds_costs_itself_alone(tmp_path):
    """A response that cannot be written to the worker is invalid; its neighbours are scored and the lane goes on."""
    served, channel = lane(tmp_path), Scripted(most=100, longest=12_000)
    texts = (Response("good"), Response("bad \ud800"), Response("x", steps=((0, 2**40),)), Response("well"))
    tasks = await queued(served, [Group("g", "p", texts), Group("h", "p", (Response("also"),))])
    while not all(task.done() for task in tasks):
        await served._batch(channel)
        await asyncio.sleep(0)
    wrong, right = [Status.INVALID_INPUT], [Status.OK]
    assert [task.result().statuses for task in tasks] == [[*right, *wrong, *wrong, *right], right]
    (prompt,) = await queued(served, [Group("g", "half \udc00", (Response("a"), Response("b")))])
    assert (await prompt).statuses == wrong * 2


async def test_a_group_over_the_limit_of_the_queue_is_taken_alone(tmp_path):
    """A group with more responses than the queue takes is no answer for ever: an empty queue takes it."""
    card = Card(name="m", kind="scalar", path=tmp_path)
    served = ModelLane(card, queue_limit=2)
    (task,) = await queued(served, [Group("g", "p", tuple(Response(str(n)) for n in range(3)))])
    assert not task.done()
    (second,) = await queued(served, [Group("h", "p", (Response("x"),))])
    with pytest.raises(Unavailable, match="is full"):
        await second
    task.cancel()


async def test_a_device_short_of_memory_blames_no_response(tmp_path):
    """T19, law 1: without memory for what the card says a batch holds, whatever its length, it is our shortage."""
    served, seat = lane(tmp_path), Scripted(most=100, longest=400)
    groups = [Group(f"g{n}", "", (Response("x" * length),)) for n, length in enumerate((4, 600, 20_000))]
    tasks = await queued(served, groups)
    while not all(task.done() for task in tasks):
        await served._batch(seat)
        await asyncio.sleep(0)
    found = [task.result() for task in tasks]
    assert [column.statuses for column in found] == [[Status.OK], [Status.UNAVAILABLE], [Status.UNAVAILABLE]]
    assert found[1].details[0]["retry_after_s"] > 0


async def test_a_device_that_others_fill_blames_no_response(tmp_path):
    """T19, law 1: what is over the card's budget and would fit once others leave the device is no number."""
    served, seat = lane(tmp_path), Scripted(most=100, longest=12_000, never=False)
    (task,) = await queued(served, [Group("g", "", (Response("x" * 20_000),))])
    while not task.done():
        await served._batch(seat)
        await asyncio.sleep(0)
    assert task.result().statuses == [Status.UNAVAILABLE]
    seat._longest = 30_000
    (task,) = await queued(served, [Group("g", "", (Response("x" * 20_000),))])
    await served._batch(seat)
    assert (await task).values == [20_000.0]


async def test_a_verdict_about_memory_is_not_remembered(tmp_path):
    """T19: over the card's budget and without memory today, scored tomorrow, when the device has more."""
    served, seat = lane(tmp_path), Scripted(most=100, longest=12_000)
    scheduler = Scheduler(Pool(1, 100, 100), Cache(MemoryStore(1 << 20)), Quarantine(), figures=Figures())
    ask = Ask(ModelScorer(served, served.info), Group("g", "", (Response("x" * 20_000),)), [0])

    async def serve():
        while True:
            await served._batch(seat)

    serving = asyncio.create_task(serve())
    for longest, status in ((12_000, Status.OVER_LIMIT), (30_000, Status.OK), (12_000, Status.OK)):
        seat._longest = longest
        (column,) = await scheduler.known([ask], Context())
        column = column or await scheduler.compute(ask, Context())
        assert column.statuses == [status]
    serving.cancel()
    assert column.cached == [True]
    await scheduler.aclose()


class Mute(Scripted):
    """A worker that answers pings and begins with nothing."""

    spared = lost = False

    async def send(self, message) -> None:
        self._message = message

    async def receive(self):
        while not isinstance(self._message, Ping):
            await asyncio.sleep(0.005)
        self._message = None
        return Pong()

    async def lose(self) -> None:
        self.lost = True


async def test_a_worker_that_never_begins_is_found(tmp_path, monkeypatch):
    """T18: one whose thread that scores takes nothing in hand is lost after the time of a batch, and the work kept."""
    monkeypatch.setattr("rewardhub.scheduler.exchange.PING_S", 0.02)
    served, seat = ModelLane(Card(name="m", kind="scalar", path=tmp_path), run_s=0.3), Mute()
    (task,) = await queued(served, [Group("g", "", (Response("x"),))])
    with pytest.raises(WorkerLost, match="an end"):
        await asyncio.wait_for(served._batch(seat), 20)
    assert seat.lost
    await served._batch(Scripted())
    assert (await task).values == [1.0]


async def test_a_heartbeat_that_fails_is_a_loss(tmp_path):
    """T18: an idle worker that computes no more, as after an error of its device, is exchanged; one that merely has
    no memory at the moment is left alone."""
    served, seat = lane(tmp_path), Mute()
    await served._batch(Scripted(longest=0))
    served._heart = Heart()

    async def broken():
        return Failed(0, "CUDA error: an illegal memory access was encountered")

    seat.receive = broken
    with pytest.raises(WorkerLost, match="illegal memory"):
        await served._batch(seat)
    assert seat.lost
