"""Score requests as bytes: responses that are nothing but a text go from the text straight to the bytes.

Message objects copy each text twice on the way, which for a thousand of them takes longer than to send them.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import chain

from google.protobuf.descriptor import Descriptor

from rewardhub.types import Group
from rewardhub.v1 import reward_service_pb2 as service
from rewardhub.v1 import types_pb2 as pb
from rewardhub.wire.plain import plain_texts
from rewardhub.wire.proto import group_to_proto

_LENGTH_DELIMITED = 2


def _tag(message: Descriptor, field: str) -> bytes:
    return _varint(message.fields_by_name[field].number << 3 | _LENGTH_DELIMITED)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    more = []
    while value > 0x7F:
        more.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*more, value])


_OPTIONS = _tag(service.ScoreRequest.DESCRIPTOR, "options")
_GROUPS = _tag(service.ScoreRequest.DESCRIPTOR, "groups")
_RESPONSES = _tag(pb.Group.DESCRIPTOR, "responses")
_TEXT = _tag(pb.Response.DESCRIPTOR, "text")


@lru_cache(4_096)
def _before(size: int) -> bytes:
    """What stands before the ``size`` bytes of the text of a plain response."""
    text = _TEXT + _varint(size)
    return _RESPONSES + _varint(len(text) + size) + text


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """A group message of ``size`` bytes: ``front``, then the ``texts``, each after its bytes of ``before``."""

    size: int
    front: bytes
    before: Sequence[bytes] = ()
    texts: Sequence[str] = ()

    def write(self, out: BytesIO) -> None:
        out.write(self.front)
        pieces: Iterable[bytes] = chain.from_iterable(zip(self.before, map(str.encode, self.texts), strict=True))
        deque(map(out.write, pieces), maxlen=0)


def packed(group: Group) -> PackedGroup:
    """Raises ``TypeError``, ``ValueError`` or ``AttributeError`` for what cannot be sent."""
    texts = plain_texts(group.responses)
    front = group_to_proto(group, with_responses=texts is None).SerializeToString()
    sizes = [len(text) if text.isascii() else len(text.encode()) for text in texts or ()]
    before = list(map(_before, sizes))
    return PackedGroup(len(front) + sum(map(len, before)) + sum(sizes), front, before, texts or ())


def score_request(options: pb.CallOptions, groups: Iterable[PackedGroup]) -> bytes:
    """A ``ScoreRequest``."""
    out, content = BytesIO(), options.SerializeToString()
    out.write(_OPTIONS + _varint(len(content)) + content)
    for group in groups:
        out.write(_GROUPS + _varint(group.size))
        group.write(out)
    return out.getvalue()
