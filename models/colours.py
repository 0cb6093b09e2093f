"""The colour task: synthetic images of one coloured shape, and the question which colour it has."""

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image, ImageDraw

from rewardhub.types import Media

SIDE = 56
"""Width and height of the images in pixels."""

COLOURS = {
    "red": (214, 40, 40),
    "orange": (243, 146, 30),
    "yellow": (240, 222, 50),
    "green": (46, 160, 67),
    "blue": (33, 86, 214),
    "purple": (128, 52, 178),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "square", "triangle")
QUESTION = "What colour is the {shape}?"
GREY = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class ColourItem:
    """One image with its question and the one right answer."""

    image: bytes
    shape: str
    colour: str

    @property
    def question(self) -> str:
        return QUESTION.format(shape=self.shape)

    @property
    def media(self) -> Media:
        return Media.from_bytes(self.image)

    def wrong(self, rng: random.Random) -> str:
        """Another colour, drawn evenly."""
        return rng.choice([name for name in COLOURS if name != self.colour])


def answer(colour: str) -> str:
    """The reply that names ``colour``."""
    return f"<answer>{colour}</answer>"


def colour_items(seed: int) -> Iterator[ColourItem]:
    """An endless stream of items, the same for the same seed."""
    rng = random.Random(seed)
    while True:
        colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
        yield ColourItem(draw(colour, shape, rng), shape, colour)


def draw(colour: str, shape: str, rng: random.Random) -> bytes:
    """A PNG of one shape on grey; place, size and every channel's shade vary."""
    size = rng.randint(26, 44)
    left, top = rng.randint(2, SIDE - size - 2), rng.randint(2, SIDE - size - 2)
    fill = tuple(min(255, max(0, channel + rng.randint(-12, 12))) for channel in COLOURS[colour])
    image = Image.new("RGB", (SIDE, SIDE), GREY)
    pen = ImageDraw.Draw(image)
    box = (left, top, left + size, top + size)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle(box, fill=fill)
    else:
        pen.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], fill=fill)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
