"""Cache keys: the scorer's fingerprint and a digest of everything in its input.

The run, the deadline, the priority and the group's id are not input; of a verifier that does not take the group,
nothing of it is but the reference. What a scorer declares that it never reads has been taken from the group before
(:func:`rewardhub.scorer.given`). A tenant salts its keys, so that no timing tells one tenant what another has scored.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rewardhub.scorer import Bound, BoundVerifier
from rewardhub.types import Group, Media, Response
from rewardhub.wire.plain import is_plain, plain_texts

SCHEMA = "3"
_PLAIN = b"t"


def _object(value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):  # dict() makes one of a set of pairs too
        raise TypeError(f"{type(value).__name__} is not JSON")
    return dict(value)


_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_object, ensure_ascii=False)


def row_keys(bound: Bound, group: Group, rows: Sequence[int], tenant: str) -> list[bytes]:
    """One SHA-256 per row for response scope; for pair and group scope every row has the whole group in it.

    Raises ``TypeError``, ``ValueError`` or ``RecursionError`` for a group that is not JSON.
    """
    sha256 = hashlib.sha256
    shared = sha256(_shared(bound, group, tenant)).digest()
    responses = [group.responses[row] for row in rows]
    alone = bound.info.scope == "response"
    if alone and (texts := plain_texts(responses)) is not None:
        before = shared + _PLAIN
        return [sha256(before + text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    inputs = [_response(each) for each in responses]
    if alone:
        return [sha256(shared + data).digest() for data in inputs]
    whole = sha256(shared)
    for data in inputs:
        whole.update(b"%d:%b" % (len(data), data))
    digest = whole.digest()
    return [sha256(digest + b"%d" % position).digest() for position in range(len(rows))]


def _shared(bound: Bound, group: Group, tenant: str) -> bytes:
    seen: list[Any] = [SCHEMA, tenant, bound.fingerprint, group.reference]
    if not isinstance(bound, BoundVerifier) or bound.verifier.takes_group:
        seen += [group.prompt, group.metadata, group.problem_type, *map(_media, group.media)]
    return _canonical(seen)


def _response(response: Response) -> bytes:
    """A plain text, or canonical JSON of anything else; the first byte tells them apart."""
    text = response.text
    if is_plain(response):
        return _PLAIN + text.encode("utf-8", "surrogatepass")
    media = [_media(each) for each in response.media]
    fields = [text, response.messages, response.tokens, response.signals, response.steps, media]
    return b"j" + _canonical(fields)


def _media(media: Media) -> list[Any]:
    return [media.sha256, media.kind, media.width, media.height, str(media.space), media.frames, media.fps]


def _canonical(value: Any) -> bytes:
    # as it is, not escaped: two halves of a surrogate pair are another text than the character that they would make
    return _encoder.encode(value).encode("utf-8", "surrogatepass")
