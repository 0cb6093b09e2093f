"""One client, many threads, loops and processes."""

import asyncio
import gc
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

from rewardhub.client import AsyncClient, Client
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


def test_a_forked_child_connects_anew(url, fake):
    """A child of fork() scores over a connection of its own while the parent keeps its own."""
    with Client(url) as client:
        client.score([group("parent")], CALL)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                (scores,) = client.score([group("child")], CALL)
                os.write(write, pickle.dumps(scores.values))
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            assert pickle.loads(pipe.read()) == values(fake, "child")
        os.waitpid(child, 0)
        assert client.score([group("again")], CALL)[0].values == values(fake, "again")
    assert len(fake.peers) == 2


def test_a_client_travels_by_pickle(url, fake):
    """A pickled client, as Ray and process pools send it, connects anew with the same settings."""
    with Client(url, api_key="k", on_failure=0.5, timeout_s=9.0) as client:
        copy = pickle.loads(pickle.dumps(client))
    with copy:
        assert copy._home.settings == client._home.settings
        assert copy.score([group("a")], CALL)[0].values == values(fake, "a")
    assert fake.keys == {"Bearer k"}


def test_a_forgotten_client_leaves_no_thread(url):
    """Without close the garbage collector ends the loop thread."""
    before = threading.active_count()
    client = Client(url)
    client.score([group("a")], CALL)
    assert threading.active_count() > before
    del client
    gc.collect()
    assert sum(thread.name == "rewardhub-client" for thread in threading.enumerate()) == 0
