"""What a verifier does to its worker costs nobody else a score, and leaves nothing behind."""

import asyncio
import time
from pathlib import Path

import pytest

from rewardhub.registry import Registry
from rewardhub.scheduler.pool import Pool
from rewardhub.scorer import Context
from rewardhub.types import Group, Response, Status

PLUGIN = Path(__file__).parent / "rude_verifiers.py"


@pytest.fixture
async def pool():
    pool = Pool(1, queue_limit=1000, memory_mb=1536, plugins=[PLUGIN])
    await pool.start()
    yield pool
    await pool.aclose()


async def score(pool, name, *texts, **params):
    registry = Registry()
    registry.load_file(PLUGIN)
    group = Group("g", "p", tuple(map(Response, texts)))
    return await pool.run(registry.get(name).bind(params), group, range(len(texts)), Context(time.monotonic() + 60))


async def test_a_forked_process_says_nothing(pool):
    """Law 2: a child that comes back from the verifier answers no row, of this group or of a later one."""
    lengths = ("a", "fork", "abc", "fork", "abcde")
    for _ in range(3):
        column = await score(pool, "rude", *lengths)
        assert column.values == [len(each) / 100 for each in lengths]


async def test_an_answer_to_another_row_is_none(pool, monkeypatch):
    """Law 2: a worker whose answers are not those that were asked for is lost, and its rows are scored by another."""
    await score(pool, "rude", "warm")
    from rewardhub.scheduler.pool_worker import PoolWorker

    real, wrong = PoolWorker.answer, iter(["row", "id"])

    async def answer(self, *given):
        found = await real(self, *given)
        if found is not None and (field := next(wrong, None)):
            setattr(found, field, getattr(found, field) + 1)
        return found

    monkeypatch.setattr(PoolWorker, "answer", answer)
    for texts in (("a", "ab"), ("abc",)):
        column = await score(pool, "rude", *texts)
        assert column.values == [len(each) / 100 for each in texts]


@pytest.mark.parametrize("ends", ["limit", "close"])
async def test_programs_end_with_their_worker(pool, tmp_path, ends):
    """T21: what a verifier started goes with the worker that is ended at a time limit, or with the pool."""
    log = tmp_path / "pid"
    scoring = asyncio.create_task(score(pool, "rude", "program", log=str(log)))
    if ends == "limit":
        assert (await scoring).statuses == [Status.OVER_LIMIT]
    else:
        while not (log.exists() and log.read_text()):
            await asyncio.sleep(0.02)
        await pool.aclose()
        await scoring
    pid = int(log.read_text())
    until = time.monotonic() + 5
    while _runs(pid) and time.monotonic() < until:
        await asyncio.sleep(0.02)
    assert not _runs(pid)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_a_worker_is_as_it_was(pool):
    """Law 7: what a verifier changes of its process is put back: the next score does not depend on it."""
    before = await score(pool, "state", "x")
    pids = set(pool.pids)
    await score(pool, "rude", "change")
    assert (await score(pool, "state", "x")).values == before.values
    assert pool.pids == pids


async def test_a_timer_ends_nobody_else(pool):
    """T16: a timer that a verifier left running does not end the worker during another's response."""
    await score(pool, "rude", "alarm")
    pids = set(pool.pids)
    assert (await score(pool, "state", "wait")).statuses == [Status.OK]
    assert pool.pids == pids


async def test_a_verifier_that_keeps_memory_takes_none_of_others(pool):
    """T16, law 9: a worker that is half full of what a verifier left there is replaced before others lack it."""
    for _ in range(4):
        assert (await score(pool, "rude", "keep")).statuses == [Status.OK]
        assert (await score(pool, "roomy", "x")).values == [1.0]


async def test_a_response_that_stops_workers_ends(pool):
    """T18: a worker that is stopped proves nothing, one after another at the same response does; neighbours are scored."""
    column = await score(pool, "rude", "a", "stop", "abc")
    assert column.values == [0.01, None, 0.03]
    assert column.statuses[1] is Status.INTERNAL_ERROR


async def test_a_directory_that_was_removed_ends_no_worker(tmp_path, monkeypatch):
    """T16: a hub whose working directory is gone scores as before."""
    place = tmp_path / "gone"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    pool = Pool(1, queue_limit=1000, memory_mb=1536, plugins=[PLUGIN])
    await pool.start()
    try:
        assert (await score(pool, "rude", "a", "change", "abc")).values == [0.01, 0.06, 0.03]
    finally:
        await pool.aclose()


async def test_threads_that_were_left_take_no_time_of_others(pool):
    """Law 1: what runs on behind a verifier's own time limit makes no other response over the limit."""
    for _ in range(2):
        assert (await score(pool, "rude", "thread")).values == [0.06]
        assert (await score(pool, "threads", "x")).values == [1.0]
