"""The verifier pool: killable workers, bounded queues, no neighbour lost."""

import asyncio
import math
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rewardhub.errors import Unavailable
from rewardhub.registry import Registry
from rewardhub.scheduler import beginnings
from rewardhub.scheduler.pool import Pool
from rewardhub.scheduler.zygote import Zygote
from rewardhub.scorer import Context
from rewardhub.types import Group, Response, Status

PLUGIN = Path(__file__).parent / "pool_verifiers.py"


@pytest.fixture
def bound():
    registry = Registry()
    registry.load_file(PLUGIN)
    return registry.get("obedient").bind({})


@pytest.fixture
async def pool():
    pool = Pool(2, queue_limit=1000, memory_mb=1024, plugins=[PLUGIN])
    await pool.start()
    yield pool
    await pool.aclose()


def group(*texts):
    return Group("g", "p", tuple(Response(text) for text in texts), {"answer": 2**70})


async def score(pool, bound, *texts, seconds=20.0):
    context = Context(deadline=time.monotonic() + seconds)
    return await pool.run(bound, group(*texts), range(len(texts)), context)


async def test_rows_come_back_in_order(pool, bound):
    """Forty responses in chunks, each with its own value."""
    texts = ["x" * n for n in range(40)]
    column = await score(pool, bound, *texts)
    assert column.values == [n / 100 for n in range(40)]
    assert column.fingerprint == bound.fingerprint


@pytest.mark.parametrize(
    ("poison", "status"),
    [
        ("loop", Status.OVER_LIMIT),
        ("sleep", Status.OVER_LIMIT),
        ("die", Status.INTERNAL_ERROR),
        ("eat", Status.INTERNAL_ERROR),
        ("raise", Status.INTERNAL_ERROR),
    ],
)
async def test_a_poisoned_response_costs_only_itself(pool, bound, poison, status):
    """T16, T44: what hangs, dies or overeats gets its status; its neighbours are scored."""
    column = await score(pool, bound, "a", poison, "abc")
    assert column.values == [0.01, None, 0.03]
    assert column.statuses == [Status.OK, status, Status.OK]


async def test_a_killed_worker_is_invisible(pool, bound, tmp_path):
    """T16: kill -9 of every worker while it runs a row: no error, and the workers are back within 5 s."""
    registry = Registry()
    registry.load_file(PLUGIN)
    log = tmp_path / "begun"
    scorer = registry.get("diary").bind({"log": str(log)})
    running = asyncio.create_task(pool.run(scorer, group(*["0.1"] * 30), range(30), Context(time.monotonic() + 60)))
    while not log.exists() or len(log.read_text().splitlines()) < 5:
        await asyncio.sleep(0.01)
    killed = set(pool.pids)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    while len(pool.pids - killed) < 2:
        await asyncio.sleep(0.01)
        assert time.monotonic() - started < 5
    assert set((await running).statuses) == {Status.OK}


async def test_a_stopped_worker_is_replaced(pool, bound):
    """T18: SIGSTOP looks like a hang; the rows are scored by another worker."""
    await score(pool, bound, "warm")
    for pid in list(pool.pids):
        os.kill(pid, signal.SIGSTOP)
    column = await score(pool, bound, "a", "ab")
    assert column.values == [0.01, 0.02]


async def test_a_stopped_worker_does_not_keep_a_large_task(pool, bound):
    """T18: a worker that was stopped before it had read a task of many kilobytes is replaced in seconds."""
    await score(pool, bound, "warm")
    for pid in list(pool.pids):
        os.kill(pid, signal.SIGSTOP)
    column = await score(pool, bound, "x" * 900_000, seconds=15.0)
    assert column.values == [9_000.0]


async def test_a_zygote_that_ended_has_one_successor(bound, monkeypatch):
    """T16: all workers end with their zygote, which no row is blamed for; they share one started in its place."""
    begun = []
    monkeypatch.setattr("rewardhub.scheduler.pool.Zygote", lambda *given: begun.append(Zygote(*given)) or begun[-1])
    pool = Pool(4, queue_limit=1000, memory_mb=1024, plugins=[PLUGIN])
    await pool.start()
    try:
        await score(pool, bound, "warm")
        scoring = [asyncio.create_task(score(pool, bound, "a")) for _ in range(200)]
        await scoring[0]
        os.kill(begun[0]._process.pid, signal.SIGKILL)
        columns = await asyncio.gather(*scoring)
        assert [column.values for column in columns] == [[0.01]] * 200
        assert len(begun) == 2
    finally:
        await pool.aclose()


async def test_a_zygote_that_hangs_holds_up_nobody(bound, monkeypatch):
    """T18: a worker that is lost while the zygote is stopped costs the event loop nothing; the zygote is replaced."""
    monkeypatch.setattr("rewardhub.scheduler.zygote.FORK_S", 1.0)
    pool = Pool(2, queue_limit=1000, memory_mb=1024, plugins=[PLUGIN])
    await pool.start()
    try:
        while len(pool.pids) < 2:
            await asyncio.sleep(0.01)
        stopped = pool._zygote
        os.kill(stopped._process.pid, signal.SIGSTOP)
        dying = asyncio.create_task(score(pool, bound, "die", "a"))
        longest, before = 0.0, time.monotonic()
        while not dying.done():
            await asyncio.sleep(0.01)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        assert longest < 0.5
        assert dying.result().values == [None, 0.01]
        assert (await score(pool, bound, "ab")).values == [0.02]
        assert not stopped.alive
    finally:
        await pool.aclose()


async def test_the_queue_is_bounded(pool, bound):
    """T05: more than the limit is refused at once, with a time to come back."""
    with pytest.raises(Unavailable) as caught:
        await score(pool, bound, *["x"] * 1001)
    assert caught.value.retry_after_s > 0


async def test_expired_work_is_not_run(pool, bound):
    """T03: rows whose deadline passes in the queue are timeouts."""
    blockers = [asyncio.create_task(score(pool, bound, "loop")) for _ in range(2)]
    await asyncio.sleep(0.1)
    column = await score(pool, bound, "a", seconds=0.05)
    assert column.statuses == [Status.TIMEOUT]
    assert column.values == [None]
    await asyncio.gather(*blockers)


async def test_cancelled_work_leaves_the_pool_usable(pool, bound):
    """T04: callers that go away do not hold workers."""
    tasks = [asyncio.create_task(score(pool, bound, *["x"] * 20)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(set(answer.statuses) == {Status.OK} for answer in answers[1::2])
    assert pool.queued == 0


async def test_nothing_is_left_behind():
    """T21: when the pool closes no worker lives on."""
    pool = Pool(2, queue_limit=10, memory_mb=1024)
    await pool.start()
    while len(pool.pids) < 2:
        await asyncio.sleep(0.01)
    pids = set(pool.pids)
    await pool.aclose()
    deadline = time.monotonic() + 2
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert not [pid for pid in pids if _alive(pid)]


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_the_fast_path_spares_the_pool():
    """What `fast` decides never leaves the process; the rest does."""
    from rewardhub.assembly import make_hub
    from rewardhub.config import HubConfig
    from rewardhub.types import Call

    hub = make_hub(HubConfig(workers=1, plugins=(PLUGIN,)))
    await hub.start()
    try:
        (scores,) = await hub.score([group("1", "a", "2", "a", "b")], Call(recipe="hybrid"))
    finally:
        await hub.aclose()
    assert scores.values[0] == scores.values[2] == 0.5
    assert scores.values[1] == scores.values[3] == scores.values[4] != os.getpid()
    assert math.isfinite(scores.values[4])


async def test_a_scorer_that_was_never_run_takes_large_groups(pool, bound):
    """The first rows tell how many make a task: sixteen thousand quick ones are not as many tasks."""
    tasks = 0
    attempt = pool._attempt

    def counted(worker, job):
        nonlocal tasks
        tasks += 1
        return attempt(worker, job)

    pool._attempt, pool._limit = counted, 20_000
    texts = [str(n) for n in range(4_000)]
    column = await score(pool, bound, *texts)
    assert column.values == [len(text) / 100 for text in texts]
    assert tasks < 1_500


async def test_no_descriptor_ends_no_worker(pool, bound, monkeypatch):
    """Workers that die while no descriptor is free come back once there is."""
    import socket

    await score(pool, bound, "warm")
    real, refusals = socket.socketpair, [OSError(24, "Too many open files")] * 3
    monkeypatch.setattr(
        socket, "socketpair", lambda *args: (_ for _ in ()).throw(refusals.pop()) if refusals else real(*args)
    )
    for pid in list(pool.pids):
        os.kill(pid, signal.SIGKILL)
    assert (await score(pool, bound, "a")).values == [0.01]
    while len(pool.pids) < 2:
        await asyncio.sleep(0.01)
    assert not refusals


async def test_tenants_share_the_time_and_not_the_rows():
    """T06: a tenant whose responses take 20 ms each does not get twenty times the pool of one whose take 1 ms."""
    from rewardhub.assembly import make_hub
    from rewardhub.config import HubConfig
    from rewardhub.types import Call

    chaos = PLUGIN.parent.parent / "chaos" / "chaos_verifiers.py"
    hub = make_hub(HubConfig(workers=1, plugins=(chaos,)))
    await hub.start()

    def call(wait_ms):
        text = f"name: r\nterms: {{t: {{scorer: pooled_nonce, with: {{wait_ms: {wait_ms}}}}}}}\nvalue: t"
        return Call(recipe_text=text, deadline_ms=60_000)

    def group(name, count):
        return Group(name, "p", tuple(Response(f"{name} {n}") for n in range(count)))

    ended: list[str] = []

    async def score(tenant, wait_ms, count):
        (scores,) = await hub.score([group(tenant, count)], call(wait_ms), tenant=tenant)
        ended.append(tenant)
        return set(scores.total.statuses)

    try:
        await score("slow", 20, 2)
        await score("quick", 1, 20)  # how long a response of each takes is known now
        ended.clear()
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(score("slow", 20, 120)), tasks.create_task(score("quick", 1, 300))]
        assert [task.result() for task in both] == [{Status.OK}] * 2
        assert ended == ["quick", "slow"]
    finally:
        await hub.aclose()


async def test_what_runs_out_of_time_is_dear(tmp_path):
    """T06: a tenant whose responses are ended at their time limit pays for that time: it gets no turn for each of
    another's tasks of milliseconds."""
    registry = Registry()
    registry.load_file(PLUGIN)
    log = tmp_path / "stuck"
    stuck, quick = (registry.get("mortal_alone").bind({"log": str(path)}) for path in (log, tmp_path / "quick"))
    pool = Pool(1, queue_limit=2000, memory_mb=1024, plugins=[PLUGIN])
    await pool.start()

    async def run(bound, tenant, texts):
        context = Context(time.monotonic() + 60, tenant=tenant)
        return await pool.run(bound, group(*texts), range(len(texts)), context)

    try:
        await run(stuck, "stuck", ["loop before"])
        await run(quick, "quick", ["x"] * 20)  # how long a response of each takes is known now
        log.unlink()
        flood = asyncio.create_task(run(stuck, "stuck", [f"loop {n}" for n in range(20)]))
        await asyncio.sleep(0)
        await run(quick, "quick", ["x"] * 200)
        flood.cancel()
        await asyncio.gather(flood, return_exceptions=True)
        assert len({line.split(maxsplit=1)[1] for line in log.read_text().splitlines()}) <= 2
    finally:
        await pool.aclose()


async def test_what_no_message_holds_costs_its_response_alone(pool, bound):
    """Half of a surrogate pair, or a count of tokens beyond any message, from a hub in process is ``invalid_input`` of
    its response, of all where they are scored together; no worker ends for it."""
    registry = Registry()
    registry.load_file(PLUGIN)
    whole = registry.get("mortal_whole").bind({})
    while len(pool.pids) < 2:
        await asyncio.sleep(0.01)
    pids = set(pool.pids)
    for bad in (Response("a\ud83d"), Response("b", tokens=2**70)):
        three = Group("g", "p", (Response("xx"), bad, Response("yy")))
        context = Context(deadline=time.monotonic() + 20)
        column = await pool.run(bound, three, range(3), context)
        assert column.statuses == [Status.OK, Status.INVALID_INPUT, Status.OK]
        column = await pool.run(whole, three, range(3), context)
        assert column.statuses == [Status.INVALID_INPUT] * 3
    column = await pool.run(whole, Group("g", "p\udc00", (Response("x"),)), [0], context)
    assert column.statuses == [Status.INVALID_INPUT]
    assert pool.pids == pids


@pytest.fixture
async def diary(tmp_path):
    """A pool of one worker, its scorer that writes down what it begins, taught that a response takes no time."""
    registry = Registry()
    registry.load_file(PLUGIN)
    log = tmp_path / "diary"
    scorer = registry.get("diary").bind({"log": str(log)})
    pool = Pool(1, queue_limit=2000, memory_mb=1024, plugins=[PLUGIN])
    await pool.start()
    await pool.run(scorer, group(*["0"] * 300), range(300), Context(time.monotonic() + 60))
    log.unlink()
    yield pool, scorer, log
    await pool.aclose()


async def test_no_row_begins_after_its_deadline(diary):
    """T03: of a task of many rows that turn out slow none begins once the call's time is over."""
    pool, scorer, log = diary
    deadline = time.monotonic() + 0.5
    column = await pool.run(scorer, group(*["0.2"] * 30), range(30), Context(deadline))
    assert set(column.statuses) == {Status.OK, Status.TIMEOUT}
    await asyncio.sleep(0.5)
    begun = [float(line.split()[0]) for line in log.read_text().splitlines()]
    assert 1 <= len(begun) <= 3
    assert max(begun) <= deadline


async def test_nobody_waits_for_the_end_of_a_slow_task(diary):
    """T04, T06: a task that takes longer than was thought makes way after its slice; what was called off is not begun."""
    pool, scorer, log = diary
    slow = asyncio.create_task(pool.run(scorer, group(*["0.1"] * 60), range(60), Context(priority="bulk")))
    while not log.exists():
        await asyncio.sleep(0.01)
    column = await pool.run(scorer, group("0.01"), [0], Context(time.monotonic() + 60))
    assert column.statuses == [Status.OK]
    begun = [line.split()[1] for line in log.read_text().splitlines()]
    assert begun.index("0.01") <= 3
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    await asyncio.sleep(0.3)
    ended = len(log.read_text().splitlines())
    await asyncio.sleep(0.3)
    assert len(log.read_text().splitlines()) == ended <= len(begun) + 3


async def test_a_reference_that_no_message_may_hold_costs_no_worker(pool, bound):
    """A reference of more objects than messages may hold is ``invalid_input``; the workers go on."""
    while len(pool.pids) < 2:
        await asyncio.sleep(0.01)
    pids = set(pool.pids)
    full = Group("g", "p", (Response("xx"), Response("y")), {"lists": [[]] * 250_000})
    column = await pool.run(bound, full, range(2), Context(time.monotonic() + 60))
    assert column.statuses == [Status.INVALID_INPUT] * 2
    assert pool.pids == pids


@pytest.fixture
def whole():
    """A verifier of groups, which has a minute for a group of 200."""
    registry = Registry()
    registry.load_file(PLUGIN)
    return registry.get("mortal_whole")


async def test_nobody_is_worked_for(bound, whole, tmp_path):
    """T18: a worker that is at a group for longer than its call lasts is free for others long before its limit."""
    pool = Pool(1, queue_limit=1000, memory_mb=1024, plugins=[PLUGIN])
    await pool.start()
    try:
        await score(pool, bound, "warm")
        late = pool.run(whole.bind({"log": str(tmp_path / "log")}), group("loop", *["x"] * 199), range(200),
                        Context(time.monotonic() + 1.0))  # fmt: skip
        column = await asyncio.wait_for(late, 25)
        assert set(column.statuses) == {Status.TIMEOUT}
        assert (await asyncio.wait_for(score(pool, bound, "a"), 25)).values == [0.01]
        assert len((tmp_path / "log").read_text().splitlines()) == 1
    finally:
        await pool.aclose()


async def test_a_worker_that_is_stopped_in_a_long_task(pool, whole, tmp_path):
    """T18, R6: SIGSTOP is found within a second, however long the task may take; another worker does it."""
    log = tmp_path / "log"
    context = Context(time.monotonic() + 60)
    running = asyncio.create_task(
        pool.run(whole.bind({"log": str(log)}), group("loop", *["x"] * 199), range(200), context)
    )
    while not log.exists():
        await asyncio.sleep(0.01)
    stopped = int(log.read_text().split()[0])
    os.kill(stopped, signal.SIGSTOP)
    started = time.monotonic()
    while len(log.read_text().splitlines()) < 2:
        await asyncio.sleep(0.01)
    assert time.monotonic() - started < 5
    running.cancel()


@pytest.fixture
def long():
    """A group whose reference takes longer to read than ``obedient`` may take for a response."""
    return Group("g", "p", tuple(Response("x" * n) for n in range(48)), {"lists": [[n] for n in range(190_000)]})


async def test_a_long_reference_is_written_once(pool, bound, long, monkeypatch):
    """Law 6: for all rows of all terms at once, and not by the thread of the event loop; reading it is no row's time."""
    written, write = [], beginnings._sent_apart

    def sent_apart(group, key):
        written.append(threading.current_thread())
        return write(group, key)

    monkeypatch.setattr(beginnings, "_sent_apart", sent_apart)
    context = Context(time.monotonic() + 60)
    again = replace(long, media=())
    columns = await asyncio.gather(*(pool.run(bound, each, range(48), context) for each in (long, again)))
    for column in columns:
        assert column.values == [n / 100 for n in range(48)]
    assert len(written) == 1
    assert written[0] is not threading.current_thread()
    assert len(pool._beginnings) == 0


async def test_a_long_reference_survives_its_workers(pool, bound, long):
    """T16: what begins a task is sent to the worker that comes in another's place, and with other groups between."""
    dying = replace(long, responses=(Response("die"), Response("xy"), Response("loop")))
    other = replace(long, reference={"lists": "z" * 100_000}, responses=(Response("abc"),) * 3)
    context = Context(time.monotonic() + 60)
    columns = await asyncio.gather(*(pool.run(bound, each, range(3), context) for each in (dying, other)))
    assert columns[0].statuses == [Status.INTERNAL_ERROR, Status.OK, Status.OVER_LIMIT]
    assert columns[1].values == [0.03] * 3


async def test_numbers_of_any_type(pool):
    """A plugin's numbers of NumPy are floats; details that no message holds are its fault; no worker ends."""
    registry = Registry()
    registry.load_file(PLUGIN)
    while len(pool.pids) < 2:
        await asyncio.sleep(0.01)
    pids = set(pool.pids)
    column = await score(pool, registry.get("numbers").bind({}), "a", "endless", "b")
    assert column.statuses == [Status.OK, Status.INTERNAL_ERROR, Status.OK]
    for row in (column.row(0), column.row(2)):
        assert (row.value, row.confidence, row.steps) == (0.5, 1.0, (0.25, 1.0))
    assert pool.pids == pids
