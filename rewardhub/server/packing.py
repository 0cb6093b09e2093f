"""Answers as reply messages under the message limit: many small ones in one reply, a large one in pieces."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from rewardhub.errors import TooLarge
from rewardhub.server.session import Answer, Notice
from rewardhub.types import GroupScores
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import types_pb2
from rewardhub.wire import proto

_MARGIN = 16 * 2**10
"""Room for the fingerprints and the framing of a reply."""


def score_response(answers: Iterable[GroupScores], *, details: bool, limit: int) -> pb.ScoreResponse:
    """The whole answer in one message; raises ``TooLarge`` where it passes the limit."""
    table = proto.Fingerprints()
    groups = [proto.scores_to_proto(scores, table, details=details) for scores in answers]
    response = pb.ScoreResponse(groups=groups, fingerprints=table.table())
    if response.ByteSize() > limit:
        size = response.ByteSize()
        raise TooLarge(f"the answer has {size} bytes, over the limit of {limit}; use ScoreStream, or no details")
    return response


def stream_responses(batch: Iterable[Answer | Notice], limit: int) -> Iterator[pb.ScoreStreamResponse]:
    """As few replies as the limit allows; each holds at most one error."""
    packer = _Packer(limit - _MARGIN)
    for each in batch:
        if isinstance(each, Notice):
            yield from packer.notice(each)
        else:
            yield from packer.answer(each)
    yield from packer.flush()


class _Packer:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._start()

    def _start(self) -> None:
        self._reply = pb.ScoreStreamResponse()
        self._table = proto.Fingerprints()
        self._size = 0

    def flush(self) -> Iterator[pb.ScoreStreamResponse]:
        reply = self._reply
        if reply.groups or reply.missing_media or reply.HasField("error"):
            reply.fingerprints.extend(self._table.table())
            self._start()
            yield reply

    def notice(self, notice: Notice) -> Iterator[pb.ScoreStreamResponse]:
        if notice.error is not None:
            if self._reply.HasField("error"):
                yield from self.flush()
            self._reply.error.CopyFrom(proto.error_to_proto(notice.error))
            self._size += self._reply.error.ByteSize()
        for sha256 in notice.missing:
            if self._size > self._limit:
                yield from self.flush()
            self._reply.missing_media.append(sha256)
            self._size += 66

    def answer(self, answer: Answer) -> Iterator[pb.ScoreStreamResponse]:
        message = self._encode(answer)
        size = message.ByteSize() + 6
        if self._size + size > self._limit and self._size:
            yield from self.flush()
            message = self._encode(answer)  # its fingerprints go to the table of the new reply
        if size <= self._limit:
            self._reply.groups.append(message)
            self._size += size
        elif len(answer.scores) > 1:
            self._start()
            for half in _halves(answer.scores):
                yield from self.answer(replace(answer, scores=half))
        else:
            # One row over the limit can only be its details.
            self._start()
            yield from self.answer(replace(answer, details=False))

    def _encode(self, answer: Answer) -> types_pb2.GroupScores:
        message = proto.scores_to_proto(answer.scores, self._table, details=answer.details)
        if answer.error is not None:
            message.error.CopyFrom(proto.error_to_proto(answer.error))
        return message


def _halves(scores: GroupScores) -> tuple[GroupScores, GroupScores]:
    middle = len(scores) // 2
    first, second = scores.take(range(middle)), scores.take(range(middle, len(scores)))
    first.complete = False
    return first, second
