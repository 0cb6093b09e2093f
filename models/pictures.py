"""From media to what a vision encoder reads; an image seen lately is not decoded again."""

import hashlib
import io
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from rewardhub.errors import ConfigError, InvalidInput, TooLarge
from rewardhub.media.decode import decode, encoded, inspect
from rewardhub.models.chat import VISION_END, VISION_START, Control
from rewardhub.models.progress import progress
from rewardhub.types import Media

MAX_RATIO = 200
"""The longest side of an image, in lengths of its shortest, that the patch grid takes."""

REMEMBERED_BYTES = 256 * 1024 * 1024

UNUSABLE = 4_096
"""Images that are remembered as damaged or of no usable shape, so that a thousand responses cost one decode."""

PIXEL_S = 5e-7
"""Seconds that a pixel of an image may take to be decoded, or to be cut: far more than on a slow CPU."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """Bounds on the pixels of a resized image: ``least`` raises the checkpoint's own, ``most`` lowers it."""

    least: int | None = None
    most: int | None = None


NO_BOUNDS = Pixels()


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """One image, cut for its vision encoder: flat patches [N, D] or tiles [T, C, H, W], in about [-3, 3].

    ``grid`` is (time, height, width) in patches, or as the family counts its tiles; ``size`` is the
    image's own (height, width). ``digest`` stands for the bytes that it was decoded from, and how it was cut.
    """

    pixels: npt.NDArray[np.float32]
    grid: tuple[int, int, int]
    digest: bytes
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Pads:
    """Placeholders of ``count`` image features; ``grid`` where their rope positions are a grid of tokens."""

    count: int
    grid: tuple[int, int, int] | None = None


def as_tensors(images: Sequence[Patches]) -> tuple[Tensor, Tensor]:
    """The patches of all images behind one another [N, D], and the grids [I, 3]."""
    pixels = torch.from_numpy(np.concatenate([image.pixels for image in images]))
    return pixels, torch.tensor([image.grid for image in images])


def decoded(data: bytes) -> Image.Image:
    """The image, which may take long, as may what is done with it next; raises ``InvalidInput``."""
    try:
        header = inspect(data)
        progress.allow(PIXEL_S * header.width * header.height)
        image = decode(data)
    except TooLarge as error:
        raise InvalidInput(error.message, field="media") from error
    progress.allow(PIXEL_S * header.width * header.height)
    return image


class ImageReader(ABC):
    """The image processor of a checkpoint; ``pixels`` bounds the resized image further, see :class:`Pixels`.

    Raises ``ConfigError`` for bounds where the family does not resize by the number of pixels, and for those that leave
    no size beside the checkpoint's own.
    """

    several_differ = False
    """Whether an image is cut otherwise where a conversation shows several."""
    bounded = False
    """Whether images are resized to a number of pixels between bounds."""

    def __init__(self, path: Path, config: Mapping[str, Any], pixels: Pixels = NO_BOUNDS) -> None:
        if pixels != NO_BOUNDS and not self.bounded:
            reason = f"{path}: images of {config.get('model_type')} are not resized by their number of pixels"
            raise ConfigError(reason, field="max_pixels" if pixels.most is not None else "min_pixels")
        self.path = path
        self.config = config
        self.pixels = pixels
        self._recent: OrderedDict[bytes, Patches] = OrderedDict()
        self._unusable: OrderedDict[bytes, str] = OrderedDict()
        self._bytes = 0

    @abstractmethod
    def make(self) -> Any:
        """The image processor of transformers, without torchvision."""

    @abstractmethod
    def cut(self, image: Image.Image, digest: bytes) -> Patches: ...

    def cut_among(self, image: Image.Image, digest: bytes) -> Patches:
        """The image cut for a conversation that shows several."""
        return self.cut(image, digest)

    @abstractmethod
    def layout(self, image: Patches) -> list[str | Control | Pads]:
        """What stands for the image in the prompt."""

    @abstractmethod
    def features(self, base: Any, images: Sequence[Patches], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        """One tensor [N, H] per image, N being its placeholders; what later layers add is behind, [N, H * (1 + D)]."""

    def check(self, config: Any) -> None:
        """Raises ``ConfigError`` where there is no image processor, or not the one the model was trained with."""
        self.processor  # noqa: B018

    @cached_property
    def processor(self) -> Any:
        try:
            return self.make()
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{self.path}: no usable image processor: {error}", field="path") from error

    def patches(self, media: Media, *, several: bool = False) -> tuple[Patches, ...]:
        """An image, or each frame of a video; raises ``InvalidInput`` where the bytes are missing or no image.

        ``several`` says that the conversation shows more than one. The same bytes give the same object while they
        are remembered.
        """
        return tuple(self._one(data, several and self.several_differ) for data in encoded(media))

    def _one(self, data: bytes, several: bool) -> Patches:
        progress.step()
        key = hashlib.sha256(data).digest()
        key = hashlib.sha256(key + b" among several").digest() if several else key
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        try:
            if key in self._unusable:
                raise InvalidInput(self._unusable[key], field="media")
            image = decoded(data)
            if max(image.size) > MAX_RATIO * min(image.size):
                raise InvalidInput(f"an image of {image.width} x {image.height} pixels is too narrow", field="media")
        except InvalidInput as error:
            self._unusable[key] = error.message
            while len(self._unusable) > UNUSABLE:
                self._unusable.popitem(last=False)
            raise
        patches = (self.cut_among if several else self.cut)(image, key)
        progress.step()
        return self._remember(key, patches)

    def _remember(self, key: bytes, patches: Patches) -> Patches:
        self._recent[key] = patches
        self._bytes += patches.pixels.nbytes
        while self._bytes > REMEMBERED_BYTES:
            self._bytes -= self._recent.popitem(last=False)[1].pixels.nbytes
        return patches


def cutting(reader: ImageReader) -> dict[str, Any]:
    """The settings of an image processor that change what it gives; none of a model of text."""
    processor = reader.processor
    return (
        {}
        if processor is None
        else {name: value for name, value in processor.to_dict().items() if not name.endswith(("_type", "_class"))}
    )


class QwenImages(ImageReader):
    """Qwen2-VL and its successors: flat patches, one token per square of them, rope positions of the grid."""

    bounded = True

    def make(self) -> Any:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        processor = Qwen2VLImageProcessorPil.from_pretrained(str(self.path), local_files_only=True)
        size, pixels = processor.size, self.pixels
        # The names are transformers' own; they hold numbers of pixels.
        if pixels.most is not None:
            size["longest_edge"] = min(pixels.most, size["longest_edge"])
        if pixels.least is not None:
            size["shortest_edge"] = max(pixels.least, size["shortest_edge"])
        if pixels != NO_BOUNDS and size["shortest_edge"] > size["longest_edge"]:
            reason = f"images would have {size['shortest_edge']} pixels at least and {size['longest_edge']} at most"
            raise ConfigError(f"{self.path}: {reason}", field="max_pixels" if pixels.least is None else "min_pixels")
        return processor

    def check(self, config: Any) -> None:
        processor, vision = self.processor, config.vision_config
        ours = (processor.patch_size, processor.merge_size, processor.temporal_patch_size)
        theirs = (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size)
        if ours != theirs:
            raise ConfigError(f"{self.path}: images are cut as {ours}, the model reads {theirs}", field="path")

    def cut(self, image: Image.Image, digest: bytes) -> Patches:
        out = self.processor(images=[image], return_tensors="np")
        time, height, width = (int(side) for side in out["image_grid_thw"][0])
        return Patches(np.ascontiguousarray(out["pixel_values"], dtype=np.float32), (time, height, width), digest)

    def resized(self, data: bytes, image: Patches) -> bytes:
        """The picture of these bytes as PNG in the size that it was cut in: cutting it again resizes nothing."""
        patch = int(self.processor.patch_size)
        size = image.grid[2] * patch, image.grid[1] * patch
        buffer = io.BytesIO()
        decode(data).resize(size, self.processor.resample).save(buffer, format="PNG", compress_level=1)
        return buffer.getvalue()

    def layout(self, image: Patches) -> list[str | Control | Pads]:
        merge = int(self.processor.merge_size)
        time, height, width = image.grid[0], image.grid[1] // merge, image.grid[2] // merge
        return [Control(VISION_START), Pads(time * height * width, (time, height, width)), Control(VISION_END)]

    def features(self, base: Any, images: Sequence[Patches], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        pixels, grids = (each.to(device) for each in as_tensors(images))
        output = base.get_image_features(pixels.to(dtype), grids, return_dict=True)
        counts = [len(each) for each in output.pooler_output]
        # transformers 5.17 gives what deeper layers add for all images in one tensor.
        deeper = [
            each.split(counts) if isinstance(each, Tensor) else each
            for each in getattr(output, "deepstack_features", None) or []
        ]
        return [torch.cat(each, -1) for each in zip(output.pooler_output, *deeper, strict=True)]


class NoImages(ImageReader):
    """A model of text."""

    def make(self) -> Any:
        return None

    def patches(self, media: Media, *, several: bool = False) -> tuple[Patches, ...]:
        raise InvalidInput("this model reads text, not images", field="media")

    def cut(self, image: Image.Image, digest: bytes) -> Patches:
        raise NotImplementedError

    def layout(self, image: Patches) -> list[str | Control | Pads]:
        raise NotImplementedError

    def features(self, base: Any, images: Sequence[Patches], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        raise NotImplementedError
