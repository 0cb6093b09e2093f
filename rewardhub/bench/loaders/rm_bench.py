"""RM-Bench: three right and three wrong responses in three styles each (THU-KEG/RM-Bench)."""

from collections.abc import Iterator
from pathlib import Path

from rewardhub.bench.items import Comparison, Item
from rewardhub.bench.rows import Row, data_files, read_rows

STYLES = ("concise", "detailed", "markdown")
LEVELS = ("easy", "normal", "hard")


def level(right: int, wrong: int) -> str:
    """Hard where the wrong response has the more elaborate style, easy where the right one has."""
    return "normal" if right == wrong else "hard" if wrong > right else "easy"


_COMPARISONS = tuple(
    Comparison(right, len(STYLES) + wrong, level(right, wrong))
    for right in range(len(STYLES))
    for wrong in range(len(STYLES))
)


def load(data: Path) -> Iterator[Item]:
    """Items whose first three responses are right, in the order of ``STYLES``, the last three wrong."""
    for path in data_files(data):
        for row in read_rows(path):
            yield Item(
                id=row.name("id"),
                prompt=row.text("prompt"),
                responses=(*row.texts("chosen", len(STYLES)), *row.texts("rejected", len(STYLES))),
                comparisons=_COMPARISONS,
                category=_domain(row),
                labels={"subset": row.name("subset")},
            )


def _domain(row: Row) -> str:
    """``safety-refuse`` and ``safety-response`` are one domain; files of one domain may not state it."""
    return row.name("domain", row.path.stem).replace("_", "-").split("-")[0]
