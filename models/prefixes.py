"""A memory of prompts: the keys and values of their tokens, so that a later call does not compute them again."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor

from rewardhub.models.inputs import Encoded


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
