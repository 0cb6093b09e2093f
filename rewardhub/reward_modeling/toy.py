"""A whole training problem in miniature: a tiny base, colour pairs, and the configuration to train on them."""

import json
import random
from itertools import islice
from pathlib import Path

from rewardhub.models.colours import ColourItem, answer, colour_items
from rewardhub.models.tiny import build_tiny

CONFIG = """\
name = "colour-rm"
base = "base"
data = "train.jsonl"
eval_data = "eval.jsonl"
system = ""
steps = {steps}
batch = 32
rate = 0.001
warmup = 5
eval_every = 40
seed = {seed}
"""


def write_toy(folder: Path, *, pairs: int = 1024, eval_pairs: int = 256, steps: int = 200, seed: int = 0) -> Path:
    """Writes the base model, both pair files with their images, and ``config.toml``; returns its path.

    The same arguments write the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    build_tiny(folder / "base", seed)
    write_pairs(folder / "train.jsonl", pairs, seed)
    write_pairs(folder / "eval.jsonl", eval_pairs, seed + 1_000_003)
    config = folder / "config.toml"
    config.write_text(CONFIG.format(steps=steps, seed=seed))
    return config


def write_pairs(path: Path, count: int, seed: int) -> None:
    """Writes ``count`` pairs, right colour against wrong colour, with the images in a folder beside."""
    images = path.with_suffix("")
    images.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as lines:
        for index, item in enumerate(islice(colour_items(seed), count)):
            file = images / f"{index:05d}.png"
            file.write_bytes(item.image)
            lines.write(json.dumps(pair_line(item, f"{images.name}/{file.name}", rng)) + "\n")


def pair_line(item: ColourItem, image: str, rng: random.Random) -> dict[str, object]:
    """One line of a pair file."""
    return {
        "prompt": item.question,
        "media": [{"path": image}],
        "chosen": answer(item.colour),
        "rejected": answer(item.wrong(rng)),
    }
