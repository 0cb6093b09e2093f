"""MM-RLHF-RewardBench: pairs about images and videos, several of them per id (yfzhang114/r1_reward)."""

from collections.abc import Iterator
from pathlib import Path

from rewardhub.bench.items import Comparison, Item
from rewardhub.bench.rows import data_files, read_rows


def load(data: Path) -> Iterator[Item]:
    """The first response is the chosen one; the category is the first folder of the media's path.

    An image is sent where its file is at hand, a video never.
    """
    for path in data_files(data):
        for row in read_rows(path):
            field = "video" if row.get("video", str, "") else "image"
            name = row.text(field)
            image = row.path.parent / name
            found = field == "image" and image.is_file()
            yield Item(
                id=row.name("id"),
                prompt=row.text("prompt"),
                responses=(row.text("chosen"), row.text("rejected")),
                comparisons=(Comparison(0, 1),),
                category=name.split("/")[0],
                cluster=row.name("id"),
                media=(image,) if found else (),
                without_media=not found,
            )
