"""Similarity of a response and its prompt in the space of a dual encoder: CLIP (arXiv 2103.00020), SigLIP (2303.15343).

A response that brings images is compared with the prompt's images where there are any, else with the
prompt's text; a response of text is compared with the prompt's images.
"""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rewardhub.errors import ConfigError, InvalidInput, OverLimit, ScoringError
from rewardhub.models.backbone import load_encoder
from rewardhub.models.card import Card
from rewardhub.models.chat import flat
from rewardhub.models.checkpoint import named_token, read_config
from rewardhub.models.digest import tree_stamp
from rewardhub.models.memory import memory_errors
from rewardhub.models.model import RewardModel, check_ids, fingerprint_of, finite, folder_of
from rewardhub.models.pictures import decoded
from rewardhub.models.progress import progress
from rewardhub.models.text import TextTokenizer
from rewardhub.raised import failure
from rewardhub.types import Column, Group, Media, Response, Score

ARCHITECTURES = ("clip", "siglip")


class SimilarityModel(RewardModel):
    """The value is the cosine in [-1, 1], a mean over images where there are several, by the card's calibration."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.path = folder_of(card, ARCHITECTURES)
        self.stamp = tree_stamp(self.path)
        self.kind = str(read_config(self.path)["model_type"])
        with memory_errors():
            self.model, self.processor = _load(self.path, self.kind, card)
        self.tokenizer = TextTokenizer(self.path)
        rows = int(self.model.config.text_config.vocab_size)
        self.limit = int(self.model.config.text_config.max_position_embeddings)
        check_ids(self.path, self.tokenizer.size, rows)
        self.before, self.behind, self.pad = self._ends()
        check_ids(self.path, 1 + max(*self.before, *self.behind, self.pad), rows)
        self._known: dict[str | bytes, Tensor | ScoringError] = {}

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of("similarity", self.card, self.path, self.stamp, self.model.device.type)

    def score(self, groups: Sequence[Group]) -> list[Column]:
        """One column per group; an image or prompt is encoded once per call."""
        self._known = {}
        with memory_errors(), torch.inference_mode():
            return [
                Column.of([self._one(group, each) for each in group.responses], self.fingerprint) for group in groups
            ]

    def probe(self, tokens: int) -> int:
        """See :class:`~rewardhub.models.model.RewardModel`: a white picture and a word, whatever is asked for."""
        with memory_errors(), torch.inference_mode():
            for found in (self._encode_picture(Image.new("RGB", (8, 8), "white")), self._encode_text("a")):
                found.pooler_output[0].float().norm().item()
        return 0

    def _one(self, group: Group, response: Response) -> Score:
        try:
            return finite(self.card.calibration(self._cosine(group, response)))
        except ScoringError as error:
            return failure(error)

    def _cosine(self, group: Group, response: Response) -> float:
        if not group.media and not response.media:
            raise InvalidInput("neither the prompt nor the response has an image", field="media")
        theirs = [self._image(media) for media in group.media]
        if not response.media:
            ours = [self._text(response.text or _words(response.messages, 0))]
        else:
            ours = [self._image(media) for media in response.media]
            theirs = theirs or [self._prompt(_words(group.prompt, 0))]
        return float((torch.stack(ours) @ torch.stack(theirs).T).mean())

    def _image(self, media: Media) -> Tensor:
        if media.kind != "image" or media.data is None:
            raise InvalidInput("the bytes of an image are needed", field="media")
        data = media.data
        return self._remember(data, lambda: self._encode_picture(decoded(data)))

    def _encode_picture(self, picture: Image.Image) -> Any:
        pixels = self.processor(images=[picture], return_tensors="pt")["pixel_values"]
        progress.step()
        return self.model.get_image_features(pixels.to(self.model.device, self.model.dtype), return_dict=True)

    def _prompt(self, text: str) -> Tensor:
        try:
            return self._text(text)
        except OverLimit as error:  # no response has a part in this
            raise InvalidInput(f"the prompt has {error.message}", field="prompt") from None

    def _text(self, text: str) -> Tensor:
        return self._remember(text, partial(self._encode_text, text))

    def _encode_text(self, text: str) -> Any:
        ids = self.tokenizer.encode(text)
        ids = [*self.before, *ids, *self.behind]
        if len(ids) > self.limit:
            raise OverLimit(f"{len(ids)} tokens, over the model's limit of {self.limit}")
        if self.kind == "siglip":
            ids += [self.pad] * (self.limit - len(ids))
        return self.model.get_text_features(torch.tensor([ids], device=self.model.device), return_dict=True)

    def _ends(self) -> tuple[list[int], list[int], int]:
        """The ids before a text and behind it, and that of padding, as the tokenizer has them.

        Published configurations name others: CLIP's those of before its tokenizer was converted, SigLIP's CLIP's.
        """
        before, behind = self.tokenizer.ends()
        behind = behind or [self._named("eos_token")]
        # A text of SigLIP has no beginning, whatever its tokenizer puts before others.
        before = (before or [self._named("bos_token")]) if self.kind == "clip" else []
        pad = named_token(self.path, "pad_token")
        return before, behind, self.tokenizer.control(pad) if pad else behind[-1]

    def _named(self, name: str) -> int:
        token = named_token(self.path, name)
        if not token:
            raise ConfigError(f"{self.path}: neither the tokenizer nor its configuration has an {name}", field="path")
        return self.tokenizer.control(token)

    def _remember(self, key: str | bytes, encode: Any) -> Tensor:
        """The unit vector of what ``encode`` gives for a text or for the bytes of an image, in fp32."""
        if key not in self._known:
            try:
                features: Tensor = encode().pooler_output[0].float()
                self._known[key] = features / features.norm()
            except ScoringError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, ScoringError):
            raise type(found)(found.message, field=found.field)
        return found


def _words(content: Any, media_count: int) -> str:
    return "".join(piece for piece in flat(content, media_count) if isinstance(piece, str))


def _load(path: Path, kind: str, card: Card) -> tuple[Any, Any]:
    from transformers import CLIPModel, SiglipModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    model_class, processor_class = {
        "clip": (CLIPModel, CLIPImageProcessorPil),
        "siglip": (SiglipModel, SiglipImageProcessorPil),
    }[kind]
    model = load_encoder(path, model_class, card)
    try:
        return model, processor_class.from_pretrained(str(path), local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: no usable image processor: {error}", field="path") from error
