"""One client, many threads, loops and processes."""

import asyncio
import gc
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest

from rewardhub.client import AsyncClient, Client
from rewardhub.client.settings import Settings
from rewardhub.errors import Cancelled, InvalidInput
from rewardhub.types import Call, Group, Response

CALL = Call(recipe="math")


def group(name: str) -> Group:
    return Group(name, "p", tuple(Response(f"{name}{k}") for k in range(4)))


def values(fake, name: str) -> list[float]:
    return [fake.value("p", response) for response in group(name).responses]


def test_threads_share_a_connection(url, fake):
    """Thirty-two threads with 320 calls get their own answers, over few connections."""
    with Client(url) as client, ThreadPoolExecutor(32) as pool:
        names = [f"g{n}" for n in range(320)]
        for name, (scores,) in zip(names, pool.map(lambda name: client.score([group(name)], CALL), names), strict=True):
            assert scores.id == name and scores.values == values(fake, name)
    assert len(fake.peers) <= (1 if url.startswith("grpc") else 33)


def test_one_async_client_serves_one_loop_after_another(url, fake):
    """``asyncio.run`` again and again with one client, as trainers do it, reuses the connection."""
    client = AsyncClient(url)
    for n in range(5):
        ((scores,),) = asyncio.run(_several(client, [f"g{n}"]))
        assert scores.values == values(fake, f"g{n}")
    asyncio.run(client.close())
    assert len(fake.peers) == 1


async def _several(client, names):
    return await asyncio.gather(*(client.score([group(name)], CALL) for name in names))


def test_one_async_client_serves_loops_at_once(url, fake):
    """Four loops on four threads share one client."""
    client = AsyncClient(url)
    results = {}

    def work(number):
        names = [f"g{number}-{k}" for k in range(20)]
        results[number] = asyncio.run(_several(client, names))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    asyncio.run(client.close())
    for number in range(4):
        assert [scores.values for (scores,) in results[number]] == [values(fake, f"g{number}-{k}") for k in range(20)]


FORKING = """
import os, sys
from rewardhub.client import Client
from rewardhub.client.settings import Settings
from rewardhub.errors import Cancelled, HubUnreachable, InvalidInput
from rewardhub.types import Call, Group, Response

def ask(name):
    (scores,) = client.score([Group(name, "p", (Response(name),))], Call(recipe="math"))
    (same,) = client.stream([Group(name, "p", (Response(name),))], Call(recipe="math"))
    assert scores.values == same.values
    print(name, scores.values[0], flush=True)

client = Client(sys.argv[1], timeout_s=20)
ask("parent")
for number in range(5):
    child = os.fork()
    if child == 0:
        try:
            ask(f"child{number}")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, number
    ask(f"again{number}")
"""


def test_a_forked_child_connects_anew(url, fake):
    """Children of fork() score over connections of their own while the parent keeps its own."""
    done = subprocess.run([sys.executable, "-c", FORKING, url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    names = ["parent", *(f"{who}{number}" for number in range(5) for who in ("child", "again"))]
    assert dict(line.split() for line in done.stdout.splitlines()) == {
        name: str(fake.value("p", Response(name))) for name in names
    }
    assert len(fake.peers) == 6


FORKING_MIDWAY = """
import os, sys, threading
from rewardhub.client import Client
from rewardhub.client.settings import Settings
from rewardhub.errors import Cancelled, HubUnreachable, InvalidInput
from rewardhub.types import Call, Group, Response

client, call, forked = Client(sys.argv[1], timeout_s=20), Call(recipe="math"), threading.Event()

def source():
    yield Group("a", "p", (Response("r"),))
    assert forked.wait(20)
    yield Group("b", "p", (Response("r"),))

answers = client.stream(source(), call)
print(next(answers).id)
child = os.fork()
if child == 0:
    try:
        client.score([Group("child", "p", (Response("r"),))], call)
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
forked.set()
print(next(answers).id)
"""


def test_a_stream_survives_a_fork(url, fake):
    """A fork in the middle of a stream hurts neither the child nor the stream."""
    done = subprocess.run([sys.executable, "-c", FORKING_MIDWAY, url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["a", "b"] and fake.seen == {"a": 1, "b": 1, "child": 1}


FORKING_A_GROUP = """
import os, sys
from rewardhub.client import Client
from rewardhub.errors import Cancelled
from rewardhub.types import Call, Group, Response

client, call = Client(sys.argv[1], timeout_s=20), Call(recipe="math")
opened, answers = client.open(Group("o", "p", (Response("r"),)), call), client.stream([Group("s", "p")], call)
next(answers)
child = os.fork()
if child == 0:
    try:
        for use in (lambda: opened.add("x"), lambda: next(answers)):
            try:
                use()
            except Cancelled as error:
                print(error, flush=True)
        answers.close()
        opened.close()
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
opened.add("x")
print(len(opened.result()), list(answers))
"""


def test_what_was_under_way_stays_with_its_process(doors):
    """A forked child that uses a stream or an open group of its parent is told so: it waited for ever."""
    command = [sys.executable, "-c", FORKING_A_GROUP, doors.url("grpc")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    told = "this stream or open group is of the process that began it"
    assert done.stdout.splitlines() == [told, told, "2 []"]


FORKING_WHILE_CALLING = """
import os, sys, threading
from rewardhub.client import Client
from rewardhub.types import Call, Group, Response

client, call, over = Client(sys.argv[1], timeout_s=20), Call(recipe="math"), threading.Event()

def ask():
    client.score([Group("g", "p", (Response("r"),))], call)

def keep_asking():
    while not over.is_set():
        ask()

threads = [threading.Thread(target=keep_asking) for _ in range(4)]
for thread in threads:
    thread.start()
ask()
for number in range(20):
    child = os.fork()
    if child == 0:
        try:
            ask()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, number
over.set()
for thread in threads:
    thread.join()
"""


def test_a_fork_beside_calling_threads(url, fake):
    """Children of a process whose other threads are within calls score, and so do those threads."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING_WHILE_CALLING, url], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_client_travels_by_pickle(url, fake):
    """A pickled client, as Ray and process pools send it, connects anew with the same settings."""
    with Client(url, api_key="k", on_failure=0.5, timeout_s=9.0) as client:
        copy = pickle.loads(pickle.dumps(client))
    with copy:
        assert copy._home.settings == client._home.settings
        assert copy.score([group("a")], CALL)[0].values == values(fake, "a")
    assert fake.keys == {"Bearer k"}


def test_closing_ends_calls_under_way(url, fake):
    """A call that waits on another thread ends with an error when the client is closed, and later ones say why."""
    fake.delays = {"slow": 30.0}
    client = Client(url)
    client.score([group("first")], CALL)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.score, [group("slow")], CALL)
        time.sleep(0.3)
        client.close()
        assert isinstance(waiting.exception(10), Cancelled)
    with pytest.raises(InvalidInput, match="closed"):
        client.score([group("late")], CALL)


async def test_closing_is_no_cancellation_of_the_caller(url, fake):
    """A task of a group whose client is closed fails: one that ends as cancelled would leave the group without a word."""
    fake.delays = {"slow": 30.0}
    client = AsyncClient(url)
    await client.score([group("first")], CALL)

    async def streamed():
        return [scores async for scores in client.stream([group("slow")], CALL)]

    for ask in (lambda: client.score([group("slow")], CALL), streamed):
        client = AsyncClient(url)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(ask())
                await asyncio.sleep(0.3)
                await client.close()
        assert [type(each) for each in caught.value.exceptions] == [Cancelled]


def test_a_stream_under_way_ends_with_its_client(url, fake):
    """Groups that come while the client is closed meet no half-closed connection: one error says what happened."""
    for _ in range(5):
        client = Client(url)
        answers = client.stream((group(f"g{n}") for n in range(10**9)), CALL)
        next(answers)
        threading.Timer(0.05, client.close).start()
        with pytest.raises(Cancelled, match="client is closed"):
            deque(answers, maxlen=0)


def test_a_client_that_its_own_thread_collects_ends(url):
    """The garbage collector runs where it runs: on the client's thread it must not wait for that thread."""
    client = Client(url)
    client.score([group("a")], CALL)
    thread, _ = client._home.get()
    client.itself = client
    del client
    thread._loop.call_soon_threadsafe(gc.collect)
    thread._thread.join(10)
    assert not thread._thread.is_alive()


struck = threading.Event()


class Striking(Settings):
    """Sends a signal to the process, once, while a client is made of it on the client's own thread."""

    def __getattribute__(self, name):
        if name == "url" and threading.current_thread().name == "rewardhub-client" and not struck.is_set():
            struck.set()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            time.sleep(0.1)
        return super().__getattribute__(name)


def test_a_signal_while_a_client_begins_leaves_no_thread(url):
    """A handler that raises, as those of trainers' own time limits do; the client can still be used."""

    class Late(Exception):
        pass

    def late(*_):
        raise Late

    def others():
        return [each for each in threading.enumerate() if each.name == "rewardhub-client"]

    struck.clear()
    before, old = len(others()), signal.signal(signal.SIGUSR1, late)
    client = Client(url)
    try:
        client._home.settings = Striking(url)
        with pytest.raises(Late):
            client.score([group("a")], CALL)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert len(others()) == before
    client._home.settings = Settings(url)
    assert client.score([group("b")], CALL)
    client.close()


def test_a_forgotten_client_leaves_no_thread(url):
    """Without close the garbage collector ends the loop thread."""
    before = set(threading.enumerate())
    client = Client(url)
    client.score([group("a")], CALL)
    (thread,) = {each for each in threading.enumerate() if each.name == "rewardhub-client"} - before
    del client
    gc.collect()
    assert not thread.is_alive()
