"""From media to the patches a vision encoder reads; an image seen lately is not decoded again."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rewardhub.errors import ConfigError, InvalidInput, TooLarge
from rewardhub.media.decode import decode
from rewardhub.types import Media

MAX_RATIO = 200
"""The longest side of an image, in lengths of its shortest, that the patch grid takes."""

REMEMBERED_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """One image as flat patches [N, D] in [-3, 3] with its grid (time, height, width) in patches.

    ``digest`` is the SHA-256 of the bytes that the image was decoded from.
    """

    pixels: npt.NDArray[np.float32]
    grid: tuple[int, int, int]
    digest: bytes


def as_tensors(images: Sequence[Patches]) -> tuple[Tensor, Tensor]:
    """The patches of all images behind one another [N, D], and the grids [I, 3]."""
    pixels = torch.from_numpy(np.concatenate([image.pixels for image in images]))
    return pixels, torch.tensor([image.grid for image in images])


class ImagePatcher:
    """The image processor of a checkpoint; ``max_pixels`` lowers its limit on the resized image."""

    def __init__(self, path: Path, max_pixels: int | None = None) -> None:
        self.path = path
        self.max_pixels = max_pixels
        self._recent: OrderedDict[bytes, Patches] = OrderedDict()
        self._bytes = 0

    @cached_property
    def processor(self) -> Any:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        try:
            processor = Qwen2VLImageProcessorPil.from_pretrained(str(self.path), local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{self.path}: no usable image processor: {error}", field="path") from error
        if self.max_pixels is not None:
            processor.size["longest_edge"] = min(self.max_pixels, processor.size["longest_edge"])
        return processor

    @property
    def merge(self) -> int:
        """Patches per side that make one token."""
        return int(self.processor.merge_size)

    def check(self, vision: Any) -> None:
        """Raises ``ConfigError`` where there is no image processor, or it cuts other patches than ``vision`` reads."""
        ours = (self.processor.patch_size, self.merge, self.processor.temporal_patch_size)
        theirs = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
        if ours != theirs:
            raise ConfigError(f"{self.path}: images are cut as {ours}, the model reads {theirs}", field="path")

    def patches(self, media: Media) -> Patches:
        """Raises ``InvalidInput`` where the bytes are missing or are no image that can be decoded.

        The same bytes give the same object while they are remembered.
        """
        if media.kind != "image" or media.frames:
            raise InvalidInput("this model takes images, not videos", field="media")
        if media.data is None:
            raise InvalidInput(f"the bytes of media {media.sha256} are missing", field="media")
        key = hashlib.sha256(media.data).digest()
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        return self._remember(key, self._cut(media.data, key))

    def _cut(self, data: bytes, digest: bytes) -> Patches:
        try:
            image = decode(data)
        except TooLarge as error:
            raise InvalidInput(error.message, field="media") from error
        if max(image.size) > MAX_RATIO * min(image.size):
            raise InvalidInput(f"an image of {image.width} x {image.height} pixels is too narrow", field="media")
        out = self.processor(images=[image], return_tensors="np")
        time, height, width = (int(side) for side in out["image_grid_thw"][0])
        return Patches(np.ascontiguousarray(out["pixel_values"], dtype=np.float32), (time, height, width), digest)

    def _remember(self, key: bytes, patches: Patches) -> Patches:
        self._recent[key] = patches
        self._bytes += patches.pixels.nbytes
        while self._bytes > REMEMBERED_BYTES:
            self._bytes -= self._recent.popitem(last=False)[1].pixels.nbytes
        return patches
