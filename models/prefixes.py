"""What a later call does not compute again: the keys and values of prompts, and what a model sees in images."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from rewardhub.models.inputs import Encoded
from rewardhub.models.pictures import Patches


@dataclass(slots=True)
class Prefix:
    """Keys and values of a sequence's first tokens, [P, key heads, D] per layer."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(each.numel() * each.element_size() for each in (*self.keys, *self.values))


class PrefixMemory:
    """The prompts seen last, up to ``budget`` bytes; 0 remembers none.

    Causal attention makes a prompt's keys and values the same whatever follows it, so scores do not
    depend on what is remembered.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._known: OrderedDict[bytes, Prefix] = OrderedDict()

    def get(self, key: bytes) -> Prefix | None:
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def put(self, key: bytes, prefix: Prefix) -> None:
        """Remembers a prefix that is complete; one over the whole budget is not kept."""
        if prefix.bytes > self.budget or key in self._known:
            return
        self._known[key] = prefix
        self.bytes += prefix.bytes
        while self.bytes > self.budget:
            self.bytes -= self._known.popitem(last=False)[1].bytes


def prompt_key(row: Encoded) -> bytes:
    """Digest of the row's prompt: its token ids, and the images shown in it with their places."""
    digest = hashlib.sha256(row.ids[: row.prompt].tobytes())
    for image, (start, stop) in zip(row.images, row.spans, strict=True):
        if stop <= row.prompt:
            digest.update(image.digest + start.to_bytes(8, "big"))
    return digest.digest()


class ImageMemory:
    """The features of the images seen last, up to ``budget`` bytes; 0 remembers none.

    They are known by what the image was cut from: under another prompt an image is encoded no more than under its own.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    def of(self, rows: Iterable[Encoded]) -> dict[Patches, Tensor]:
        """What is known of the images of rows."""
        known: dict[Patches, Tensor] = {}
        for image in (image for row in rows for image in row.images):
            if image.digest in self._known:
                self._known.move_to_end(image.digest)
                known[image] = self._known[image.digest]
        return known

    def keep(self, found: dict[Patches, Tensor]) -> None:
        """Remembers features; those over the whole budget are not kept."""
        for image, features in found.items():
            if features.nbytes > self.budget or image.digest in self._known:
                continue
            # A part of what a batch gave would keep the whole of it.
            self._known[image.digest] = features.clone()
            self.bytes += features.nbytes
            while self.bytes > self.budget:
                self.bytes -= self._known.popitem(last=False)[1].nbytes
