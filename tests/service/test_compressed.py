"""Compressed messages of gRPC, against a hub of its own process."""

import gzip

import grpc
import pytest

from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import reward_service_pb2_grpc as stubs
from rewardhub.wire import proto

PEAK_KB = 64 * 1024


def peak_kb(pid: int) -> int:
    """The most memory that a process has held, in kilobytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def request(texts: list[str]) -> pb.ScoreRequest:
    group = Group("g", "p", tuple(map(Response, texts)))
    return pb.ScoreRequest(options=proto.call_to_proto(Call(recipe="nonce")), groups=[proto.group_to_proto(group)])


def test_a_compressed_bomb_is_refused_before_it_is_large(serve):
    """T64, R17: a message that is small on the wire and 200 MB decompressed is refused with at most 64 MB more, and the
    hub goes on; one of a common size is scored."""
    bomb, common = request(["a" * 200_000_000]), request(["a" * 1_000_000, "b"])
    assert len(gzip.compress(bomb.SerializeToString())) < 1_000_000
    with serve() as hub, grpc.insecure_channel(hub.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = stubs.RewardServiceStub(channel)
        (good,) = stub.Score(common, timeout=60).groups
        before = peak_kb(hub.pid)
        for kind in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Score(bomb, compression=kind, timeout=60)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert peak_kb(hub.pid) - before <= PEAK_KB
            (again,) = stub.Score(common, compression=kind, timeout=60).groups
            assert list(again.total.values) == list(good.total.values)
