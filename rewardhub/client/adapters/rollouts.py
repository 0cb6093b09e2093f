"""Batches of rollouts as trainers hold them: rows of prompt, completion and columns, made into groups."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, cast

from rewardhub.client.parts import as_media
from rewardhub.errors import InvalidInput
from rewardhub.types import Group, GroupScores, Json, Media, Message, Response
from rewardhub.wire.lines import dumps

Chat = str | Sequence[Mapping[str, Any]]


@dataclass(slots=True)
class Batch:
    """Rows in the order of the trainer; rows with equal prompt, media and reference form one group."""

    groups: dict[str, Group] = field(default_factory=dict)
    places: list[tuple[str, int]] = field(default_factory=list)
    _media: dict[int, tuple[Any, Media]] = field(default_factory=dict)

    def add(
        self, prompt: Chat, completion: Chat, reference: Json, images: Iterable[Any] | None, **signals: Any
    ) -> None:
        """One row. ``tokens`` is its token count, other keywords are fields of the group."""
        media: list[Media] = [self._media_of(image) for image in (() if images is None else images)]
        told = prompt if isinstance(prompt, str) else self._messages(prompt, media)
        tokens = signals.pop("tokens", None)
        group = Group("", told, (), reference, tuple(media), **signals)
        name = _digest(group)
        known = self.groups.setdefault(name, replace(group, id=name))
        self.places.append((name, len(known.responses)))
        response = replace(self._response(completion), tokens=tokens)
        self.groups[name] = replace(known, responses=(*known.responses, response))

    def values(self, answers: Iterable[GroupScores]) -> list[float | None]:
        """One value per row, in the order of the rows."""
        found = {scores.id: scores for scores in answers}
        return [found[name].values[index] for name, index in self.places]

    def _media_of(self, image: Any) -> Media:
        # Trainers repeat one image object per completion: it is encoded once.
        known = self._media.get(id(image))
        if known is None:
            known = self._media[id(image)] = image, as_media(image)
        return known[1]

    def _messages(self, messages: Chat, media: list[Media]) -> tuple[Message, ...]:
        """Messages whose image parts index ``media``; images that stand in a part join it."""
        places = count()  # parts without an image take those of the column in order
        return tuple(self._message(_plain(each), media, places) for each in messages)

    def _message(self, message: Mapping[str, Any], media: list[Media], places: Iterator[int]) -> Message:
        content = message.get("content")
        if not isinstance(content, list | tuple):
            return {**message, "content": "" if content is None else content}
        return {**message, "content": [self._part(_plain(part), media, places) for part in content]}

    def _part(self, part: Mapping[str, Any], media: list[Media], places: Iterator[int]) -> Mapping[str, Any]:
        if part.get("type") not in {"image", "image_url"}:
            return part
        image = _image_of(part)
        if image is None:
            index = int(part.get("media", next(places)))
        else:
            held = self._media_of(image)
            if held not in media:
                media.append(held)
            index = media.index(held)
        if not 0 <= index < len(media):
            raise InvalidInput(f"image part {index} of {len(media)} images", field="prompt")
        return {"type": "image", "media": index}

    def _response(self, completion: Chat) -> Response:
        if isinstance(completion, str):
            return Response(completion)
        media: list[Media] = []
        messages = self._messages(completion, media)
        if not messages:
            return Response("")
        plain = len(messages) == 1 and isinstance(messages[0]["content"], str) and not messages[0].get("tool_calls")
        text = text_of(messages[-1])
        return Response(text) if plain else Response(text, messages, media=tuple(media))


def _plain(message: Any) -> Mapping[str, Any]:
    """A message or part as a mapping, where a trainer has a pydantic model in its place."""
    return cast(Mapping[str, Any], message.model_dump(exclude_none=True) if hasattr(message, "model_dump") else message)


def _image_of(part: Mapping[str, Any]) -> Any:
    """The image that stands in a part, as chat templates or as OpenAI's requests write it."""
    url = part.get("image_url")
    return part.get("image") if url is None else url["url"] if isinstance(url, Mapping) else url


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message's content, parts joined."""
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(str(part.get("text") or "") for part in content if part.get("type") == "text")


def column(columns: Mapping[str, Any], names: Sequence[str], rows: int) -> list[Any]:
    """The first of the named columns that is there, else ``None`` for every row."""
    for name in names:
        if columns.get(name) is not None:
            return list(columns[name])
    return [None] * rows


def _digest(group: Group) -> str:
    media = [each.sha256 for each in group.media]
    prompt = group.prompt if isinstance(group.prompt, str) else list(group.prompt)
    text = dumps([prompt, media, dict(group.reference), group.recipe, group.problem_type, dict(group.metadata)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]
