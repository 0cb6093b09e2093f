"""Many callers of all kinds at once, over sockets: every score is of its own input."""

import asyncio
import random
import sys
from pathlib import Path

import pytest

from rewardhub.client import AsyncClient
from rewardhub.types import Call, Group, Response

sys.path.append(str(Path(__file__).parents[1] / "chaos"))
from chaos_verifiers import oracle

POOLED = "name: pooled\nterms: {{t: {{scorer: pooled_nonce, with: {{wait_ms: {}}}}}}}\nvalue: t"
MIXED = "name: mixed\nterms: {a: {scorer: nonce}, b: {scorer: pooled_nonce}}\nvalue: a - b / 2 + g_max(a) * 0"
CALLS = [
    (Call(recipe="nonce"), 1.0),
    (Call(recipe_text=MIXED), 0.5),
    *((Call(recipe_text=POOLED.format(wait_ms), priority=priority), 1.0)
      for wait_ms, priority in ((0, "online"), (1, "bulk"), (4, "online"))),
]  # fmt: skip


@pytest.mark.slow
async def test_two_thousand_mixed_groups_at_once(serve):
    """T01: 2,000 groups of two to five responses at once, by both doors, inline and on the pool with delays of their
    own, whole and member by member: each is answered once, in its order, with the value of its own input."""
    rng = random.Random(1)
    answered = []

    async def one(client, n):
        call, share = rng.choice(CALLS)
        texts = [f"{n}/{rng.random()}" for _ in range(rng.randint(2, 5))]
        await asyncio.sleep(rng.random())
        if n % 5 == 0:
            members = [Group(f"g{n}", f"prompt {n}", (Response(text),), expected=len(texts)) for text in texts]
            found = await asyncio.gather(*(client.score([member], call) for member in members))
            values = [scores.values for (scores,) in found]
            assert values == [[share * oracle(f"prompt {n}", text)] for text in texts]
        else:
            (scores,) = await client.score([Group(f"g{n}", f"prompt {n}", tuple(map(Response, texts)))], call)
            assert scores.id == f"g{n}"
            assert scores.values == [share * oracle(f"prompt {n}", text) for text in texts]
        answered.append(n)

    with serve() as hub:
        async with AsyncClient(hub.url) as rest, AsyncClient(f"grpc://{hub.grpc}") as grpc:
            await asyncio.gather(*(one(grpc if n % 4 else rest, n) for n in range(2_000)))
    assert sorted(answered) == list(range(2_000))
