"""Laying rows out one behind another, with what a family of rows has in common written once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from rewardhub.models.inputs import Encoded

MIN_SHARED = 8
"""Sharing fewer tokens than this saves less than the second part of the attention costs."""


@dataclass(frozen=True, slots=True)
class Family:
    """Rows that start alike: ``shared`` tokens once, then each row's ``own`` tokens.

    ``past`` tokens come before them and are not written out: their keys and values are known.
    """

    shared: int
    own: tuple[int, ...]
    past: int = 0

    @property
    def tokens(self) -> int:
        return self.shared + sum(self.own)


@dataclass(frozen=True, slots=True)
class Pack:
    """One sequence that holds families of rows; ``starts`` are the places of the families' first tokens.

    ``ends`` are the places of the rows' last tokens.
    """

    sequence: Encoded
    families: tuple[Family, ...]
    rows: tuple[int, ...]
    ends: tuple[int, ...]
    starts: tuple[int, ...]

    @property
    def firsts(self) -> tuple[int, ...]:
        """The first row of each family."""
        counts = accumulate((len(family.own) for family in self.families[:-1]), initial=0)
        return tuple(self.rows[count] for count in counts)

    def places(self, wanted: Sequence[Sequence[int]]) -> list[list[int]]:
        """Where the wanted tokens of all rows stand, row by row in the order of ``rows``."""
        found: list[list[int]] = []
        ends = iter(self.ends)
        for family, start in zip(self.families, self.starts, strict=True):
            for own in family.own:
                first = next(ends) - own + 1
                split = family.past + family.shared
                row = wanted[self.rows[len(found)]]
                found.append([start + at - family.past if at < split else first + at - split for at in row])
        return found


@dataclass(frozen=True, slots=True)
class _Part:
    family: Family
    rows: tuple[int, ...]


def packs(
    rows: Sequence[Encoded],
    kin: Iterable[Sequence[int]],
    token_budget: int,
    join_budget: int,
    known: Callable[[Sequence[int]], int] = lambda _members: 0,
) -> Iterator[Pack]:
    """All rows in packs; ``kin`` says which rows may start alike.

    ``known`` tells how many of the first tokens of such rows need not be written out. Families
    share a pack up to ``join_budget`` tokens. A family over ``token_budget`` is cut, its shared
    tokens repeated; a row over it is alone.
    """
    waiting: list[_Part] = []
    tokens = 0
    for members in kin:
        for part in _parts(rows, members, token_budget, known(members)):
            if waiting and tokens + part.family.tokens > join_budget:
                yield _pack(rows, waiting)
                waiting, tokens = [], 0
            waiting.append(part)
            tokens += part.family.tokens
    if waiting:
        yield _pack(rows, waiting)


def shared_length(rows: Sequence[Encoded]) -> int:
    """Tokens that all rows begin with, ids, positions and images alike; every row keeps one of its own.

    Never ends within an image.
    """
    first = rows[0]
    length = min(len(row) for row in rows) - 1
    for row in rows[1:]:
        alike = (row.ids[:length] == first.ids[:length]) & (
            row.positions[:, :length] == first.positions[:, :length]
        ).all(0)
        length = length if alike.all() else int(alike.argmin())
        pairs = zip(first.images, row.images, first.spans, strict=False)
        length = next((min(length, start) for ours, theirs, (start, _) in pairs if ours is not theirs), length)
    return next((start for start, stop in first.spans if start < length < stop), length)


def _parts(rows: Sequence[Encoded], members: Sequence[int], token_budget: int, past: int) -> Iterator[_Part]:
    shared = shared_length([rows[index] for index in members]) - past if len(members) > 1 else 0
    shared = shared if shared >= MIN_SHARED else 0
    part: list[int] = []
    tokens = shared
    for index in members:
        own = len(rows[index]) - past - shared
        if part and tokens + own > token_budget:
            yield _part(rows, part, past, shared)
            part, tokens = [], shared
        part.append(index)
        tokens += own
    yield _part(rows, part, past, shared)


def _part(rows: Sequence[Encoded], members: Sequence[int], past: int, shared: int) -> _Part:
    own = tuple(len(rows[index]) - past - shared for index in members)
    return _Part(Family(shared, own, past), tuple(members))


def _pack(rows: Sequence[Encoded], parts: Sequence[_Part]) -> Pack:
    pieces: list[Encoded] = []
    ends: list[int] = []
    starts: list[int] = []
    at = 0
    for part in parts:
        past, own_from = part.family.past, part.family.past + part.family.shared
        starts.append(at)
        pieces.append(cut(rows[part.rows[0]], past, own_from))
        at += part.family.shared
        for index, own in zip(part.rows, part.family.own, strict=True):
            pieces.append(cut(rows[index], own_from, len(rows[index])))
            at += own
            ends.append(at - 1)
    order = tuple(index for part in parts for index in part.rows)
    return Pack(_joined(pieces), tuple(part.family for part in parts), order, tuple(ends), tuple(starts))


def cut(row: Encoded, start: int, stop: int) -> Encoded:
    """The tokens of ``row`` from start to stop, at the positions they have in it."""
    kept = [index for index, (first, _) in enumerate(row.spans) if start <= first < stop]
    spans = tuple((row.spans[index][0] - start, row.spans[index][1] - start) for index in kept)
    images = tuple(row.images[index] for index in kept)
    return Encoded(row.ids[start:stop], row.positions[:, start:stop], images, spans, 0)


def _joined(pieces: Sequence[Encoded]) -> Encoded:
    ids = np.concatenate([piece.ids for piece in pieces])
    positions = np.concatenate([piece.positions for piece in pieces], axis=1)
    offsets = np.cumsum([0, *map(len, pieces)])
    spans = tuple(
        (start + int(offset), stop + int(offset))
        for piece, offset in zip(pieces, offsets, strict=False)
        for start, stop in piece.spans
    )
    return Encoded(ids, positions, tuple(image for piece in pieces for image in piece.images), spans, 0)
