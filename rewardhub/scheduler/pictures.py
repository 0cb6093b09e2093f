"""The bytes of images and frames on their way to a model's worker: each once per batch, however often it is named.

A few megabytes that a thousand media name would be gigabytes if each brought its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from rewardhub.scheduler.messages import Picture
from rewardhub.types import Group, Media


def pictures_of(groups: Iterable[Group]) -> Iterator[Picture]:
    """What the media of groups and of their responses show."""
    shown = {sha256: data for group in groups for media in _media_of(group) for sha256, data in _named(media)}
    return (Picture(sha256, data) for sha256, data in shown.items())


def with_pictures(group: Group, pictures: Mapping[str, bytes]) -> Group:
    """The group with the bytes at hand that its media name; those that ``pictures`` lack stay away."""

    def shown(media: Iterable[Media]) -> tuple[Media, ...]:
        return tuple(_shown(each, pictures) for each in media)

    if not pictures:
        return group
    responses = tuple(replace(each, media=shown(each.media)) if each.media else each for each in group.responses)
    return replace(group, media=shown(group.media), responses=responses)


def _shown(media: Media, pictures: Mapping[str, bytes]) -> Media:
    if not media.frames:
        return replace(media, data=pictures.get(media.sha256))
    return replace(media, frame_data=tuple(pictures[each] for each in media.frames if each in pictures))


def _media_of(group: Group) -> Iterator[Media]:
    yield from group.media
    for response in group.responses:
        yield from response.media


def _named(media: Media) -> Iterator[tuple[str, bytes]]:
    if media.frames:
        yield from zip(media.frames, media.frame_data, strict=False)
    elif media.data is not None:
        yield media.sha256, media.data
