"""Preference pairs: one JSON object per line, read with errors that name the line and the field."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardhub.errors import ConfigError, nearest
from rewardhub.types import Media, Message, Response

FIELDS = ("prompt", "chosen", "rejected", "media", "margin", "tie", "id")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt, the first preferred; ``margin`` is by how much, at least 0.

    A ``tie`` says that neither is preferred; ``place`` is the file and line it was read from.
    """

    prompt: str | tuple[Message, ...]
    chosen: Response
    rejected: Response
    images: tuple[Path, ...] = ()
    margin: float = 0.0
    tie: bool = False
    place: str = ""

    @property
    def media(self) -> tuple[Media, ...]:
        """The images, read from their files anew: a data set's images need not fit in memory."""
        return tuple(Media.from_bytes(image.read_bytes()) for image in self.images)


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a JSONL file; media paths are relative to it, and their files must be there.

    Raises ``ConfigError`` as ``file:line: field``.
    """
    if not path.is_file():
        raise ConfigError(f"{path} is not a file", field="data")
    reader = _Reader(path)
    pairs = list(reader.pairs())
    if not pairs:
        raise ConfigError(f"{path} holds no pair", field="data")
    return pairs


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0

    def pairs(self) -> Iterator[Pair]:
        with self.path.open("rb") as lines:
            for self.line, text in enumerate(lines, start=1):
                if text.strip():
                    yield self.pair(self.values(text))

    def values(self, text: bytes) -> dict[str, Any]:
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.error("", f"not JSON: {error}") from error
        if not isinstance(values, dict):
            raise self.error("", "not an object")
        for key in values:
            if key not in FIELDS:
                raise self.error(key, f"is unknown{nearest(key, FIELDS)}")
        return values

    def pair(self, values: dict[str, Any]) -> Pair:
        return Pair(
            self.prompt(values), self.response(values, "chosen"), self.response(values, "rejected"),
            self.images(values), self.margin(values), self.flag(values), f"{self.path}:{self.line}",
        )  # fmt: skip

    def prompt(self, values: dict[str, Any]) -> str | tuple[Message, ...]:
        prompt = values.get("prompt")
        if isinstance(prompt, str):
            return prompt
        return self.messages(prompt, "prompt")

    def response(self, values: dict[str, Any], field: str) -> Response:
        value = values.get(field)
        if isinstance(value, str):
            return Response(value)
        return Response(messages=self.messages(value, field))

    def messages(self, value: Any, field: str) -> tuple[Message, ...]:
        if value is None:
            raise self.error(field, "is missing")
        if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
            raise self.error(field, f"is {type(value).__name__}, expected text or a list of messages")
        return tuple(value)

    def images(self, values: dict[str, Any]) -> tuple[Path, ...]:
        listed = values.get("media", [])
        if not isinstance(listed, list):
            raise self.error("media", "is not a list")
        return tuple(self.image(index, each) for index, each in enumerate(listed))

    def image(self, index: int, value: Any) -> Path:
        name = value.get("path") if isinstance(value, dict) else None
        if not isinstance(name, str):
            raise self.error(f"media.{index}.path", "is missing")
        path = self.path.parent / name
        if not path.is_file():
            raise self.error(f"media.{index}.path", f"{name} is not a file")
        return path

    def margin(self, values: dict[str, Any]) -> float:
        value = values.get("margin", 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise self.error("margin", f"is {value!r}, expected a number of at least 0")
        return float(value)

    def flag(self, values: dict[str, Any]) -> bool:
        value = values.get("tie", False)
        if not isinstance(value, bool):
            raise self.error("tie", f"is {value!r}, expected true or false")
        return value

    def error(self, field: str, what: str) -> ConfigError:
        name = f"{field} " if field else ""
        return ConfigError(f"{self.path}:{self.line}: {name}{what}", field=field)
