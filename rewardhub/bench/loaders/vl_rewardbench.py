"""VL-RewardBench: pairs about images from five sources (MMInstruction/VL-RewardBench).

Groups follow from the id. The official rule is case-sensitive; a widely copied script looks for
``rlhf`` and ``rlaif`` in lower case, which ids never have, and so counts 301 pairs of the group
hallucination as general. That grouping is kept as the label ``lower-case groups``.
"""

from collections.abc import Iterator
from pathlib import Path

from rewardhub.bench.items import Comparison, Item
from rewardhub.bench.rows import Row, data_files, read_rows

_HALLUCINATION = ("RLAIF", "RLHF", "hallucination")
_REASONING = ("mathverse", "mmmu")


def load(data: Path) -> Iterator[Item]:
    """The first response is the chosen one. Ids repeat, so pairs of one id are one cluster."""
    for path in data_files(data):
        for row in read_rows(path):
            yield _item(row)


def _item(row: Row) -> Item:
    name = row.name("id")
    image = row.path.parent / row.get("image", str, "")
    return Item(
        id=name,
        prompt=row.text("prompt"),
        responses=(row.text("chosen"), row.text("rejected")),
        comparisons=(Comparison(0, 1),),
        category=group(name),
        cluster=name,
        labels={"lower-case groups": "general" if name.startswith(("RLAIF", "RLHF")) else group(name)},
        media=(image,) if image.is_file() else (),
        without_media=not image.is_file(),
    )


def group(name: str) -> str:
    """The official group of an id."""
    if name.startswith(_HALLUCINATION):
        return "hallucination"
    return "reasoning" if name.startswith(_REASONING) else "general"
