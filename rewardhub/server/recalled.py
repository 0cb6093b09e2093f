"""Large requests that come again and again, as retries and evaluations do, are known by their bytes: their responses
are not read anew, and the cache keys of them are at hand.

A request is known by the SHA-256 of everything behind its options, which differ from call to call. It is kept when it
seems to come a second time, so that what comes once costs nothing. Each tenant knows its own only, so that no timing
tells what others have sent.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from rewardhub.server import intake
from rewardhub.server.settings import Limits
from rewardhub.types import Call, Group
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire.packed import options_field
from rewardhub.wire.plain import Kept, plain_texts

LEAST_BYTES = 64 * 2**10
CAPACITY = 32 * 2**20
_LOOKS = 4_096
_LOOK_BYTES = 1_024


class Recalled:
    """The plain responses of requests that came twice, which had at most ``capacity`` bytes in all."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._free = capacity
        self._looks: OrderedDict[int, None] = OrderedDict()
        self._requests: OrderedDict[bytes, tuple[int, list[Kept | None]]] = OrderedDict()

    def read(
        self, body: bytes, request: pb.ScoreRequest, tenant: str, limits: Limits
    ) -> tuple[Call, list[intake.Item]]:
        """As :func:`intake.from_proto`; ``body`` is what ``request`` was parsed from."""
        options = options_field(request.options)
        if len(body) < LEAST_BYTES or not body.startswith(options) or self._is_new(body, len(options), tenant):
            return intake.from_proto(request, limits)
        name = _name(memoryview(body)[len(options) :], tenant)
        if name in self._requests:
            self._requests.move_to_end(name)
            return intake.from_proto(request, limits, self._requests[name][1])
        call, items = intake.from_proto(request, limits)
        items = [_kept(item) for item in items]
        self._keep(name, len(body), items)
        return call, items

    def _is_new(self, body: bytes, start: int, tenant: str) -> bool:
        """Whether nothing of this size, beginning and end was looked at lately: a guess that costs a microsecond."""
        look = hash((tenant, len(body) - start, body[start : start + _LOOK_BYTES], body[-_LOOK_BYTES:]))
        new = look not in self._looks
        self._looks[look] = None
        self._looks.move_to_end(look)
        if len(self._looks) > _LOOKS:
            self._looks.popitem(last=False)
        return new

    def _keep(self, name: bytes, size: int, items: Sequence[intake.Item]) -> None:
        responses = [item.responses if isinstance(item, Group) else () for item in items]
        self._requests[name] = size, [each if isinstance(each, Kept) else None for each in responses]
        self._free -= size
        while self._free < 0:
            self._free += self._requests.popitem(last=False)[1][0]


def _name(groups: memoryview, tenant: str) -> bytes:
    digest = hashlib.sha256(hashlib.sha256(tenant.encode()).digest())
    digest.update(groups)
    return digest.digest()


def _kept(item: intake.Item) -> intake.Item:
    """The item; a group of plain responses with its responses as such that are kept."""
    if not isinstance(item, Group) or plain_texts(item.responses) is None:
        return item
    return replace(item, responses=Kept(item.responses))
