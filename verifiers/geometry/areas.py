"""Areas bounded by polygons of any shape, compared on the faces that all their edges cut the plane into."""

from collections.abc import Sequence

import numpy as np
import shapely

from rewardhub.verifiers.geometry.reading import Wrong
from rewardhub.verifiers.geometry.space import Flags, Floats

MAX_MEETINGS = 10_000
"""Pairs of edges that may touch or cross, neighbours included: faces, and so the time, grow with them."""

Rings = Sequence[Floats]


def area_of(rings: Rings) -> float:
    """The area that the rings cover, each even-odd, united."""
    areas, covered = _faces(rings)
    return float(areas[np.any(covered, axis=0)].sum())


def area_overlap(ones: Rings, others: Rings) -> float:
    """Intersection over union of two united areas, in [0, 1]; 0.0 where both are empty.

    A ring (n, 2) covers what an odd number of its turns encloses. Raises ``Wrong`` above
    ``MAX_MEETINGS``.
    """
    areas, covered = _faces([*ones, *others])
    one, other = covered[: len(ones)].any(axis=0), covered[len(ones) :].any(axis=0)
    union = float(areas[one | other].sum())
    return float(areas[one & other].sum()) / union if union > 0.0 else 0.0


def _faces(rings: Rings) -> tuple[Floats, Flags]:
    """The areas of all faces (f), and which ring covers which (r, f)."""
    edges = np.concatenate([np.stack((ring, np.roll(ring, -1, axis=0)), axis=1) for ring in rings])
    lines = shapely.linestrings(edges[(edges[:, 0] != edges[:, 1]).any(axis=1)])
    meetings = (shapely.STRtree(lines).query(lines, predicate="intersects").shape[1] - len(lines)) // 2
    if meetings > MAX_MEETINGS:
        raise Wrong(f"edges meet more than {MAX_MEETINGS} times")
    # Coordinates of very different sizes raise floating-point flags inside GEOS, which recovers by itself.
    with np.errstate(all="ignore"):
        pieces = shapely.get_parts(shapely.union_all(lines))
        faces = shapely.get_parts(shapely.polygonize(pieces))
        spots = shapely.get_coordinates(shapely.point_on_surface(faces))
    covered = np.array([_turns_odd(spots, ring) for ring in rings], dtype=bool).reshape(len(rings), len(faces))
    return shapely.area(faces), covered


def _turns_odd(spots: Floats, ring: Floats) -> Flags:
    """Which spots (f, 2), none of them on an edge, see an odd number of the ring's edges to their right."""
    x, y = spots[:, :1], spots[:, 1:]
    start, end = ring, np.roll(ring, -1, axis=0)
    passes = (start[:, 1] > y) != (end[:, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        at = start[:, 0] + (y - start[:, 1]) * ((end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1]))
        odd: Flags = (passes & (x < at)).sum(axis=1) % 2 == 1
    return odd
