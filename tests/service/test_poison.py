"""Poison that comes back through the other door, under another key, while honest callers go on."""

import asyncio
import hashlib
from pathlib import Path

import httpx
import pytest

from rewardhub.client import AsyncClient
from rewardhub.types import Call, Group, Response

PLUGIN = Path(__file__).parents[1] / "scheduler" / "pool_verifiers.py"


def key_of(name):
    digest = hashlib.sha256(name.encode()).hexdigest()
    scopes = '["score", "media", "metrics", "admin"]'
    return f'[[server.keys]]\nkey_sha256 = "{digest}"\ntenant = "{name}"\nscopes = {scopes}\n'


@pytest.mark.slow
async def test_poison_costs_two_workers_whatever_its_way_in(serve, tmp_path):
    """T16: REST under one key, then gRPC under another, many at once: two workers in all, honest neighbours are
    scored, the hub stays ready, its metrics say so, and a reload lets it try again."""
    log, config = tmp_path / "log", tmp_path / "hub.toml"
    config.write_text(key_of("alice") + key_of("bob"))
    text = f"name: m\nterms: {{t: {{scorer: mortal_alone, with: {{log: {log}}}}}}}\nvalue: t"
    with serve("--plugin", str(PLUGIN), "--config", str(config), REWARDHUB_WORKERS="2") as hub:
        urls = {"alice": hub.url, "bob": f"grpc://{hub.grpc}"}
        for round_ in (1, 2):
            for name, url in urls.items():
                async with AsyncClient(url, api_key=name, on_failure="none", retries=0) as client:
                    groups = [Group(f"g{n}", f"p{n}", (Response("ab"), Response("die"))) for n in range(20)]
                    first = (await client.score(groups[:1], Call(recipe_text=text)))[0]
                    answers = await asyncio.gather(*(client.score([each], Call(recipe_text=text)) for each in groups))
                    for scores in (first, *(each[0] for each in answers)):
                        assert scores.values == [0.02, None]
                        assert str(scores[1].status) == "internal_error"
                        assert "in quarantine" in scores[1].parts["t"].details["reason"]
                    assert len(log.read_text().splitlines()) == 2 * round_
            async with httpx.AsyncClient(base_url=hub.url, headers={"authorization": "Bearer alice"}) as http:
                assert (await http.get("/readyz")).status_code == 200
                shown = (await http.get("/metrics")).text
                assert "rewardhub_quarantined 1.0" in shown
                assert 'rewardhub_quarantine_refusals_total{scorer="mortal_alone"}' in shown
                assert (await http.post("/v1/reload", timeout=60)).status_code == 200
                assert "rewardhub_quarantined 0.0" in (await http.get("/metrics")).text
