"""Quotas per tenant."""

import hashlib

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewardhub.errors import QuotaExceeded
from rewardhub.server.quota import Bucket, Quotas
from rewardhub.server.settings import ApiKey, Quota, ServerSettings
from rewardhub.types import Call, Group, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire import proto


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


async def test_a_tenant_over_its_quota_disturbs_no_other(service):
    """T07: 429 or RESOURCE_EXHAUSTED naming the quota with a retry-after; the other tenant is scored."""
    keys = {name: f"key-of-{name}-0123456789" for name in ("greedy", "modest")}
    settings = ServerSettings(
        keys=tuple(
            ApiKey(key_sha256=hashlib.sha256(key.encode()).hexdigest(), tenant=name) for name, key in keys.items()
        ),
        quotas={"greedy": Quota(responses_per_s=1)},
    )
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
