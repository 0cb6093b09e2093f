"""Cache keys: the scorer's fingerprint and a digest of everything in its input.

The run, the deadline, the priority and the group's id are not input. A tenant salts its keys, so that
no timing tells one tenant what another has scored.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from rewardhub.scorer import Bound, digest_of
from rewardhub.types import Group, Media, Response

SCHEMA = "1"
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=dict)


def row_keys(bound: Bound, group: Group, rows: Sequence[int], tenant: str) -> list[str]:
    """One key per row for response scope; for pair and group scope every row has the whole group in it."""
    shared = hashlib.sha256(_shared(bound, group, tenant).encode())
    if bound.info.scope != "response":
        for row in rows:
            shared.update(_response(group.responses[row]))
        whole = shared.hexdigest()
        return [digest_of(whole, str(position)) for position in range(len(rows))]
    keys = []
    for row in rows:
        digest = shared.copy()
        digest.update(_response(group.responses[row]))
        keys.append(digest.hexdigest())
    return keys


def _shared(bound: Bound, group: Group, tenant: str) -> str:
    return _canonical(
        [SCHEMA, tenant, bound.fingerprint, group.prompt, group.reference, group.metadata, group.problem_type]
        + [_media(media) for media in group.media]
    )


def _response(response: Response) -> bytes:
    """A plain text under its length, anything else as canonical JSON; the first byte tells them apart."""
    text = response.text
    if not (response.messages or response.signals or response.steps or response.media) and response.tokens is None:
        data = text.encode("utf-8", "surrogatepass")
        return b"t%d:%b" % (len(data), data)
    media = [_media(each) for each in response.media]
    fields = [text, response.messages, response.tokens, response.signals, response.steps, media]
    return b"j" + _canonical(fields).encode()


def _media(media: Media) -> list[Any]:
    return [media.sha256, media.kind, media.width, media.height, str(media.space), media.frames, media.fps]


def _canonical(value: Any) -> str:
    return _encoder.encode(value)
