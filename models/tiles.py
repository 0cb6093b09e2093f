"""Image readers of families that cut an image into square tiles, each of a fixed number of tokens."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rewardhub.models.chat import Control
from rewardhub.models.pictures import ImageReader, Pads, Patches

Layout = list[str | Control | Pads]


class TileImages(ImageReader):
    """What they share: the vision encoder reads all tiles of all images in one batch."""

    def _tensor(self, images: Sequence[Patches], device: torch.device, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.concatenate([image.pixels for image in images])).to(device, dtype)


class InternImages(TileImages):
    """InternVL: as many tiles as fit the image's shape, and a thumbnail where there are several."""

    def make(self) -> Any:
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

        return GotOcr2ImageProcessorPil.from_pretrained(str(self.path), local_files_only=True)

    def cut(self, image: Image.Image, digest: bytes) -> Patches:
        out = self.processor(images=[image], crop_to_patches=True, return_tensors="np")
        return Patches(np.asarray(out["pixel_values"], np.float32), (int(out["num_patches"][0]), 0, 0), digest)

    def layout(self, image: Patches) -> Layout:
        vision = self.config["vision_config"]
        side, patch = (_side(vision[name]) for name in ("image_size", "patch_size"))
        tokens = round((side // patch * float(self.config.get("downsample_ratio", 0.5))) ** 2)
        return [Control("<img>"), Pads(image.grid[0] * tokens), Control("</img>"), "\n"]

    def features(self, base: Any, images: Sequence[Patches], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        config = base.config
        output = base.get_image_features(
            self._tensor(images, device, dtype), vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy, return_dict=True,
        )  # fmt: skip
        split = output.pooler_output.split([image.grid[0] for image in images])
        return [each.flatten(0, 1) for each in split]


class GemmaImages(TileImages):
    """Gemma 3: one square image of 256 tokens, which attend to one another in both directions."""

    def make(self) -> Any:
        from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

        return Gemma3ImageProcessorPil.from_pretrained(str(self.path), local_files_only=True)

    def cut(self, image: Image.Image, digest: bytes) -> Patches:
        out = self.processor(images=[image], do_pan_and_scan=False, return_tensors="np")
        return Patches(np.asarray(out["pixel_values"], np.float32), (1, 0, 0), digest)

    def layout(self, image: Patches) -> Layout:
        tokens = int(self.config.get("mm_tokens_per_image", 256))
        return ["\n\n", Control("<start_of_image>"), Pads(tokens), Control("<end_of_image>"), "\n\n"]

    def features(self, base: Any, images: Sequence[Patches], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        output = base.get_image_features(self._tensor(images, device, dtype), return_dict=True)
        return list(output.pooler_output)


class IdeficsImages(TileImages):
    """Idefics3 and SmolVLM: rows and columns of tiles, each named, and the whole image behind them.

    Tokenizers of the smaller ones have a token for each name; others read it as text.
    """

    def make(self) -> Any:
        if self.config["model_type"] == "smolvlm":
            from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil as Processor
        else:
            from transformers.models.idefics3.image_processing_pil_idefics3 import (
                Idefics3ImageProcessorPil as Processor,
            )
        return Processor.from_pretrained(str(self.path), local_files_only=True)

    def cut(self, image: Image.Image, digest: bytes) -> Patches:
        out = self.processor(images=[[image]], return_row_col_info=True, return_tensors="np")
        rows, columns = int(out["rows"][0][0]), int(out["cols"][0][0])
        return Patches(np.asarray(out["pixel_values"][0], np.float32), (rows * columns + 1, rows, columns), digest)

    def layout(self, image: Patches) -> Layout:
        vision = self.config["vision_config"]
        side, patch = (_side(vision[name]) for name in ("image_size", "patch_size"))
        tokens = Pads((side // patch // int(self.config.get("scale_factor", 2))) ** 2)
        fake = Control("<fake_token_around_image>")
        found: Layout = []
        for row in range(image.grid[1]):
            for column in range(image.grid[2]):
                found += [fake, Control(f"<row_{row + 1}_col_{column + 1}>", or_text=True), tokens]
            found.append("\n")
        return [*found, *(["\n"] if found else []), fake, Control("<global-img>", or_text=True), tokens, fake]

    def features(self, base: Any, images: Sequence[Patches], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        pixels = self._tensor(images, device, dtype)
        output = base.get_image_features(pixels.unsqueeze(0), return_dict=True)
        joined = torch.cat(list(output.pooler_output))
        return list(joined.split([len(joined) // len(pixels) * image.grid[0] for image in images]))


class LlavaImages(TileImages):
    """LLaVA-OneVision: the whole image, then tiles of the best grid less their padding, a token behind each row.

    Several images of a conversation are shown whole, each padded to a square, with one token behind it.
    """

    several_differ = True

    def make(self) -> Any:
        from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
            LlavaOnevisionImageProcessorPil,
        )

        return LlavaOnevisionImageProcessorPil.from_pretrained(str(self.path), local_files_only=True)

    def cut(self, image: Image.Image, digest: bytes) -> Patches:
        out = self.processor(images=[image], return_tensors="np")
        pixels = np.asarray(out["pixel_values"][0], np.float32)
        return Patches(pixels, (len(pixels), 0, 0), digest, (image.height, image.width))

    def cut_among(self, image: Image.Image, digest: bytes) -> Patches:
        out = self.processor(images=[[image, Image.new("RGB", (1, 1))]], return_tensors="np")
        return Patches(np.asarray(out["pixel_values"][0], np.float32), (1, 0, 0), digest, (image.height, image.width))

    def layout(self, image: Patches) -> Layout:
        vision = self.config["vision_config"]
        side = _side(vision["image_size"])
        base = side // _side(vision["patch_size"])
        if image.grid[0] == 1:
            return [Pads(base * base + 1), "\n"]
        return [Pads(base * base + self._tile_tokens(image.size, side, base)), "\n"]

    def _tile_tokens(self, size: tuple[int, int], side: int, base: int) -> int:
        """Tokens of the tiles: the grid of patches without the padding, shrunk to the most that is allowed."""
        from transformers.image_processing_utils import select_best_resolution

        best = select_best_resolution(list(size), self.config["image_grid_pinpoints"])
        height, width = best[0] // side * base, best[1] // side * base
        if size[1] / size[0] > width / height:
            height -= (height - int(round(size[0] * width / size[1], 7))) // 2 * 2
        else:
            width -= (width - int(round(size[1] * height / size[0], 7))) // 2 * 2
        most = int(str(self.config.get("vision_aspect_ratio", "anyres_max_9")).removeprefix("anyres_max_"))
        ratio = math.sqrt(height * width / (most * base**2))
        if ratio > 1.1:
            height, width = int(height // ratio), int(width // ratio)
        return height * width + height

    def features(self, base: Any, images: Sequence[Patches], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        config, found = base.config, []
        for image in images:
            output = base.get_image_features(
                self._tensor([image], device, dtype), torch.tensor([image.size], device=device),
                vision_feature_layer=config.vision_feature_layer,
                vision_feature_select_strategy=config.vision_feature_select_strategy,
                vision_aspect_ratio=config.vision_aspect_ratio, return_dict=True,
                batch_num_images=[2] if image.grid[0] == 1 else None,  # More than one: shown whole.
            )  # fmt: skip
            found += list(output.pooler_output)
        return found


def _side(value: Any) -> int:
    return int(value if isinstance(value, int) else value[0])
