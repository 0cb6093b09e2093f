"""Quotas per tenant."""

import asyncio
import hashlib

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewardhub.client import AsyncClient
from rewardhub.errors import QuotaExceeded, ScoringFailed
from rewardhub.server.quota import Bucket, Quotas
from rewardhub.server.settings import ApiKey, Quota, ServerSettings
from rewardhub.types import Call, Group, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire import proto

TRAJECTORY = (
    {"role": "assistant", "content": "x" * 20, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "content": [{"type": "text", "text": "x" * 24}, {"type": "image", "media": 0}]},
    {"role": "assistant", "content": None},
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("quota", "spent", "name"),
    [
        (Quota(requests_per_s=2), [Response("r")], "requests_per_s"),
        (Quota(responses_per_s=8), [Response("r")] * 4, "responses_per_s"),
        (Quota(tokens_per_s=20), [Response("r", tokens=5), Response("x" * 16)], "tokens_per_s"),
        (Quota(tokens_per_s=20), [Response(messages=TRAJECTORY)], "tokens_per_s"),
    ],
)
def test_a_quota_lets_in_its_rate(quota, spent, name):
    """Two requests pass at once, the third is refused naming the quota, and passes when it told to retry."""
    clock = Clock()
    quotas = Quotas({"a": quota}, clock)
    quotas.charge("a", spent)
    quotas.charge("a", spent)
    with pytest.raises(QuotaExceeded, match="per second is used up") as caught:
        quotas.charge("a", spent)
    assert caught.value.field == name
    quotas.charge("b", spent)
    clock.now += caught.value.retry_after_s + 1e-9
    quotas.charge("a", spent)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 500)), min_size=1, max_size=50))
def test_the_average_holds(steps):
    """Whatever comes when: what was let in before the last work is at most the rate times the time, plus one burst."""
    bucket, now, let_in, last = Bucket(100.0, 0.0), 0.0, 0.0, 0.0
    for pause, units in steps:
        now += pause
        if not bucket.wait_s(now):
            assert let_in <= 100.0 * now + 100.0 + 1e-6
            bucket.spend(units)
            let_in, last = let_in + units, units
    assert let_in - last <= 100.0 * now + 100.0 + 1e-6


def two_tenants(quota: Quota) -> tuple[dict[str, str], ServerSettings]:
    """The keys of two tenants, of which the greedy one has this quota, and the settings with both."""
    keys = {name: f"key-of-{name}-0123456789" for name in ("greedy", "modest")}
    held = (ApiKey(key_sha256=hashlib.sha256(key.encode()).hexdigest(), tenant=name) for name, key in keys.items())
    return keys, ServerSettings(keys=tuple(held), quotas={"greedy": quota})


async def test_a_tenant_over_its_quota_disturbs_no_other(service):
    """T07: 429 or RESOURCE_EXHAUSTED naming the quota with a retry-after; the other tenant is scored."""
    keys, settings = two_tenants(Quota(responses_per_s=1))
    group = Group("g", responses=(Response("r"),) * 10)
    request = pb.ScoreRequest(options=proto.call_to_proto(Call("digest")), groups=[proto.group_to_proto(group)])
    body = {"recipe": "digest", "groups": [{"id": "g", "responses": ["r"] * 10}]}
    async with service(settings) as running, running.http() as http, running.stub() as stub:
        for name, codes in {"greedy": [200, 429], "modest": [200, 200]}.items():
            replies = [await http.post("/v1/score", json=body, headers={"x-api-key": keys[name]}) for _ in range(2)]
            assert [reply.status_code for reply in replies] == codes
            if codes[1] == 429:
                assert "responses per second" in replies[1].json()["error"]["message"]
                assert 5 <= int(replies[1].headers["retry-after"]) <= 9
        metadata = (("x-api-key", keys["greedy"]),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Score(request, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        events = [
            pb.ScoreStreamRequest(options=request.options),
            pb.ScoreStreamRequest(group=request.groups[0]),
            pb.ScoreStreamRequest(open=pb.Open(group=proto.group_to_proto(Group("o")))),
        ]
        replies = [each async for each in stub.ScoreStream(iter(events), metadata=metadata)]
        answers = [each for reply in replies for each in reply.groups]
        assert sorted(each.id for each in answers) == ["g", "o"]
        assert {each.error.code for each in answers} == {"quota_exceeded"}
        assert proto.scores_from_proto(answers[0], []).total.statuses[:1] in ([Status.UNAVAILABLE], [])


def test_a_quota_of_nobody_is_refused():
    """A quota whose tenant has no key is a mistake in the configuration."""
    with pytest.raises(ValidationError, match="ghost"):
        ServerSettings(quotas={"ghost": Quota(requests_per_s=1)})


async def test_a_group_that_was_let_in_may_be_filled(service):
    """A group of several messages passes a quota where one of a single message would, and leaves it in debt as that
    does."""
    key = "key-of-greedy-0123456789"
    settings = ServerSettings(
        keys=(ApiKey(key_sha256=hashlib.sha256(key.encode()).hexdigest(), tenant="greedy"),),
        quotas={"greedy": Quota(responses_per_s=2)},
    )
    big = Group("big", responses=tuple(Response(str(index) * 900_000) for index in range(8)))
    async with service(settings) as running:
        async with AsyncClient(f"grpc://{running.grpc_addr}", api_key=key, retries=0) as client:
            (scores,) = await client.score([big], Call(recipe="digest"))
            assert scores.total.statuses == [Status.OK] * 8
            with pytest.raises(ScoringFailed, match="quota of 2 responses per second"):
                await client.score([big], Call(recipe="digest"))


async def test_what_is_not_let_in_is_not_decoded(service):
    """A full hub and a tenant over its quota answer 503 and 429 to bodies that are no JSON and to broken messages."""
    key = "key-of-greedy-0123456789"
    settings = ServerSettings(
        keys=(ApiKey(key_sha256=hashlib.sha256(key.encode()).hexdigest(), tenant="greedy"),),
        quotas={"greedy": Quota(requests_per_s=0.1)},
    )
    body = {"recipe": "digest", "groups": [{"id": "g", "responses": ["r"]}]}
    metadata = (("x-api-key", key),)
    async with service(settings) as running, running.http(headers={"x-api-key": key}) as http:
        async with grpc.aio.insecure_channel(running.grpc_addr) as channel:
            score = channel.unary_unary("/rewardhub.v1.RewardService/Score")

            async def refusals():
                replies = [await http.post(path, content=b"{no json") for path in ("/v1/score", "/v1/score/stream", "/v1/chat/completions")]  # fmt: skip
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await score(b"\xff\xff no message", metadata=metadata)
                return {reply.status_code for reply in replies}, caught.value.code()

            assert await refusals() == ({400}, grpc.StatusCode.INVALID_ARGUMENT)
            running.hub.full = True
            assert await refusals() == ({503}, grpc.StatusCode.UNAVAILABLE)
            running.hub.full = False
            assert (await http.post("/v1/score", json=body)).status_code == 200
            assert await refusals() == ({429}, grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_programs_at_once_are_a_quota(service):
    """T07: a tenant with one sandbox is refused, naming the quota for a second program beside a running one."""
    keys, settings = two_tenants(Quota(sandboxes=1))
    program = {"code": "import time; time.sleep(1)", "language": "python", "run_timeout": 5}
    async with service(settings) as running, running.http() as http:

        def run(name):
            return http.post("/run_code", json=program, headers={"x-api-key": keys[name]})

        replies = await asyncio.gather(run("greedy"), run("greedy"), run("modest"), run("modest"))
        assert sorted(reply.status_code for reply in replies[:2]) == [200, 504]
        assert [reply.status_code for reply in replies[2:]] == [200, 200]
        refused = next(reply for reply in replies if reply.status_code == 504)
        assert refused.json()["error"]["field"] == "sandboxes"
        assert (await run("greedy")).status_code == 200
        running.hub.programs.tenants.enter("greedy")  # a program of a recipe is counted with them
        assert (await run("greedy")).status_code == 504


async def test_programs_of_a_recipe_are_counted_too():
    """T07: in the lane of the sandbox the same quota holds, as a status that says when to come back."""
    from rewardhub.assembly import make_hub
    from rewardhub.config import HubConfig
    from rewardhub.scheduler.tenant_slots import TenantSlots

    hub = make_hub(HubConfig(workers=1))
    hub.programs.tenants = TenantSlots({"greedy": 1})
    await hub.start()
    try:
        text = "```python\nimport time\ntime.sleep(0.5)\nprint(1)\n```"
        group = Group(
            "g", responses=(Response(text),), reference={"language": "python", "cases": [{"stdin": "", "stdout": "1"}]}
        )
        call = Call(recipe="code", cache="bypass")
        answers = await asyncio.gather(
            *(hub.score([group], call, tenant=name) for name in ("greedy", "greedy", "modest"))
        )
        first, second, other = (scores[0] for (scores,) in answers)
        assert second.status is Status.UNAVAILABLE
        assert "1 sandboxes" in second.details["reason"]
        assert second.details["retry_after_s"] > 0
        assert {first.status, other.status} == {Status.OK}
    finally:
        await hub.aclose()


async def test_a_hub_with_its_hands_full_takes_no_call():
    """T05: responses in hand are bounded over all lanes; what comes beyond is refused as a whole, with a retry-after."""
    from rewardhub.assembly import make_hub
    from rewardhub.config import HubConfig
    from rewardhub.errors import Unavailable
    from rewardhub.registry import Registry, verifier

    registry = Registry()
    registry.add(verifier("digest")(lambda response, reference: 1.0))
    hub = make_hub(HubConfig(workers=1, in_hand=1), registry)
    hub._responses = 1
    with pytest.raises(Unavailable) as caught:
        await hub.score([Group("g", responses=(Response("r"),))], Call(recipe="digest"))
    assert caught.value.retry_after_s > 0


async def test_quotas_are_exchanged_by_a_reload(service, fake_hub):
    """A tenant is held to the new quotas from then on; a debt is not forgiven, and programs in hand are counted."""
    keys = tuple(
        ApiKey(key_sha256=hashlib.sha256(name.encode()).hexdigest(), tenant=name, scopes=scopes)
        for name, scopes in (("a", {"score"}), ("root", {"admin"}))
    )

    def settings(**quota) -> ServerSettings:
        return ServerSettings(keys=keys, quotas={"a": Quota(**quota)} if quota else {})

    hub = fake_hub()
    body = {"recipe": "digest", "groups": [{"id": "g", "responses": ["r"] * 100}]}
    async with service(settings(), hub) as running, running.http() as http:

        async def post() -> int:
            return (await http.post("/v1/score", json=body, headers={"x-api-key": "a"})).status_code

        async def reload(**quota) -> None:
            running.doors.reread(lambda: settings(**quota))
            assert (await http.post("/v1/reload", headers={"x-api-key": "root"})).status_code == 200

        assert [await post(), await post()] == [200, 200]
        await reload(responses_per_s=1)
        assert [await post(), await post()] == [200, 429]
        await reload(responses_per_s=2)
        assert await post() == 429
        hub.programs.tenants.enter("a")
        await reload(sandboxes=1)
        assert await post() == 200
        with pytest.raises(QuotaExceeded):
            hub.programs.tenants.enter("a")
        hub.programs.tenants.leave("a")
        hub.programs.tenants.enter("a")
        await reload()
        assert [await post(), await post()] == [200, 200]
