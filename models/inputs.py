"""From prompts, media and responses to token ids, positions and image patches, and to padded batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rewardhub.models.chat import ChatTemplate, Control, Joined, Piece
from rewardhub.models.checkpoint import chat_template, read_config
from rewardhub.models.families import FAMILIES
from rewardhub.models.pictures import NO_BOUNDS, ImageReader, Pads, Patches, Pixels, as_tensors
from rewardhub.models.text import TextTokenizer
from rewardhub.types import Media, Message, Response

Ints = npt.NDArray[np.int64]
Shown = tuple[Patches, ...]
"""What one media shows: an image, or the frames of a video."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One sequence: ids [L], rope positions [3, L] and the images its placeholders stand for, in order.

    ``spans`` are the first and the past-the-last token of each image's placeholders; ``next_position``
    is the position of the token that would follow. The first ``prompt`` tokens are worth remembering:
    other sequences are likely to begin with them.
    """

    ids: Ints
    positions: Ints
    images: tuple[Patches, ...]
    spans: tuple[tuple[int, int], ...]
    next_position: int
    prompt: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: "Encoded") -> "Encoded":
        """The sequence continued by ``other``, whose positions are moved behind it."""
        return Encoded(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.positions, other.positions + self.next_position], axis=1),
            self.images + other.images,
            self.spans + tuple((start + len(self), stop + len(self)) for start, stop in other.spans),
            self.next_position + other.next_position,
            self.prompt,
        )

    def until(self, end: int) -> "Encoded":
        """The first ``end`` tokens, which do not end within an image; nothing may follow them."""
        kept = sum(stop <= end for _, stop in self.spans)
        images, spans = self.images[:kept], self.spans[:kept]
        return Encoded(self.ids[:end], self.positions[:, :end], images, spans, self.next_position, self.prompt)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A sequence and the places of the tokens that are read; ``truncated`` tokens of its prompt were left out."""

    encoded: Encoded
    places: tuple[int, ...]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Inputs:
    """A padded batch of B sequences of up to L tokens.

    ``images`` are the distinct images of the batch, for ``reader`` to encode, and ``image_order`` says
    which of them each placeholder span shows, row by row. All ids are int64; ``attention_mask`` is 1 on valid tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    mm_token_type_ids: Tensor
    images: tuple[Patches, ...]
    image_order: tuple[int, ...]
    reader: ImageReader

    def to(self, device: torch.device | str) -> "Inputs":
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            position_ids=self.position_ids.to(device),
            mm_token_type_ids=self.mm_token_type_ids.to(device),
        )

    @property
    def embedded_ids(self) -> Tensor:
        """The ids with 0 for image placeholders, which may lie outside the vocabulary."""
        return self.input_ids.masked_fill(self.mm_token_type_ids.bool(), 0)

    @property
    def lengths(self) -> Tensor:
        """Valid tokens per row [B]."""
        return self.attention_mask.sum(-1)

    def model_kwargs(self) -> dict[str, Tensor]:
        """The keyword arguments that the model's own ``forward`` and ``generate`` of transformers take."""
        kwargs = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "mm_token_type_ids": self.mm_token_type_ids,
        }
        if self.images:
            pixels, grids = as_tensors([self.images[index] for index in self.image_order])
            device = self.input_ids.device
            kwargs |= {"pixel_values": pixels.to(device), "image_grid_thw": grids.to(device)}
        return kwargs


class Encoder:
    """Prepares inputs for one checkpoint: its tokenizer, its image processor, its family's way to write turns.

    Text is tokenised plainly, so that no prompt and no response can spell a control token.
    """

    def __init__(
        self, path: Path, *, system: str | None = None, pixels: Pixels = NO_BOUNDS, thinking: bool | None = None
    ) -> None:
        self.path = Path(path)
        config = read_config(self.path)
        family = FAMILIES[config["model_type"]]
        self.tokenizer = TextTokenizer(self.path, family.tokens, (*family.begins, *family.optional), begun=True)
        self.family = family.begun_by(self.tokenizer).written_by(chat_template(self.path), self.tokenizer)
        style = self.family.style.with_thinking(thinking)
        self.template = ChatTemplate((family.system or style.lead) if system is None else system, style)
        self.reader = family.reader(self.path, config, pixels)
        self.image_id = self.tokenizer.control(self.family.image) if self.family.image else -1

    def encode(
        self,
        prompt: str | Sequence[Message],
        media: Sequence[Media] = (),
        response: Response | None = None,
        *,
        asked: bool = False,
    ) -> Encoded:
        """The prompt with the answer's turn opened, or with ``response`` as its answer, see :meth:`answer`.

        Raises ``InvalidInput`` for bad media, roles or parts.
        """
        if response is None:
            return self.prefix(prompt, media) + self.pieces(self.template.opening(), ())
        return self.prefix(prompt, media, len(response.media)) + self.answer(response, len(media), asked=asked)

    def prefix(
        self, prompt: str | Sequence[Message], media: Sequence[Media] = (), beside: int = 0, without: int = 0
    ) -> Encoded:
        """What all responses to a prompt share that bring ``beside`` images, see :meth:`shown`.

        ``without`` characters of its oldest text are left out.
        """
        shared = self.pieces(self.template.prompt(prompt, len(media), without), self.shown(media, beside))
        return replace(shared, prompt=len(shared))

    def answer(self, response: Response, media_offset: int = 0, beside: int = 0, *, asked: bool = False) -> Encoded:
        """What follows the prefix for this response, with positions counted from 0.

        ``asked`` says that a user's turn follows.
        """
        own = dict(enumerate(self.shown(response.media, media_offset + beside), media_offset))
        return self.pieces(self.template.answer(response, media_offset, asked=asked), own)

    def shown(self, media: Sequence[Media], beside: int = 0) -> list[Shown]:
        """What each media shows in a conversation with ``beside`` further ones: some families cut one otherwise."""
        found = [self.patches(each) for each in media]
        if not self.reader.several_differ or sum(map(len, found)) + beside < 2:
            return found
        return [self.reader.patches(each, several=True) for each in media]

    def patches(self, media: Media) -> Shown:
        """The image cut into patches, or a video's frames; raises ``InvalidInput`` where it cannot be decoded."""
        return self.reader.patches(media)

    def pieces(self, pieces: Sequence[Piece], images: Sequence[Shown] | Mapping[int, Shown]) -> Encoded:
        """The pieces as one sequence; neighbouring texts are tokenised together, as in one string."""
        builder = _Builder(self, images)
        for piece in pieces:
            builder.add(piece)
        return builder.finish()

    def collate(self, rows: Sequence[Encoded], *, side: Literal["right", "left"] = "right", width: int = 0) -> Inputs:
        """The rows padded on ``side`` to the longest, or to ``width``; images that rows share appear once."""
        count, width = len(rows), max(width, *map(len, rows))
        ids, mask = np.zeros((count, width), np.int64), np.zeros((count, width), np.int64)
        positions = np.zeros((3, count, width), np.int64)
        distinct: dict[int, int] = {}
        images: list[Patches] = []
        order: list[int] = []
        for index, row in enumerate(rows):
            span = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
            ids[index, span], mask[index, span], positions[:, index, span] = row.ids, 1, row.positions
            for image in row.images:
                if id(image) not in distinct:
                    distinct[id(image)] = len(images)
                    images.append(image)
                order.append(distinct[id(image)])
        types = (ids == self.image_id) & (mask == 1)
        return Inputs(
            torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(positions),
            torch.from_numpy(types.astype(np.int64)), tuple(images), tuple(order), self.reader,
        )  # fmt: skip


class _Builder:
    """Collects pieces; text waits until it ends, so that tokens may span neighbouring pieces."""

    def __init__(self, encoder: Encoder, images: Sequence[Shown] | Mapping[int, Shown]) -> None:
        self.encoder = encoder
        self.images = images
        self.text: list[str] = []
        self.joined = False
        self.ids: list[int] = []
        self.positions: list[Ints] = []
        self.next = 0
        self.shown: list[Patches] = []
        self.spans: list[tuple[int, int]] = []

    def add(self, piece: Piece) -> None:
        if isinstance(piece, str):
            self.joined = self.joined or (isinstance(piece, Joined) and not self.text)
            self.text.append(piece)
        elif isinstance(piece, Control):
            if piece.or_text and piece.token not in self.encoder.tokenizer:
                self.text.append(piece.token)
                return
            self._flush()
            self._plain([self.encoder.tokenizer.control(piece.token)])
        else:
            for image in self.images[piece.media]:
                self._picture(image)

    def finish(self) -> Encoded:
        self._flush()
        empty = np.zeros((3, 0), np.int64)
        positions = np.concatenate([empty, *self.positions], axis=1)
        return Encoded(np.array(self.ids, np.int64), positions, tuple(self.shown), tuple(self.spans), self.next)

    def _flush(self) -> None:
        if self.text:
            self._plain(self.encoder.tokenizer.encode("".join(self.text), joined=self.joined))
            self.text, self.joined = [], False

    def _plain(self, ids: Sequence[int]) -> None:
        self.ids.extend(ids)
        self.positions.append(np.broadcast_to(np.arange(self.next, self.next + len(ids)), (3, len(ids))))
        self.next += len(ids)

    def _picture(self, image: Patches) -> None:
        first = len(self.shown)
        for piece in self.encoder.reader.layout(image):
            if not isinstance(piece, Pads):
                self.add(piece)
                continue
            self._flush()
            span = (len(self.ids), len(self.ids) + piece.count)
            # All placeholders of one image are one span, that what is shared never ends within it.
            if len(self.shown) == first:
                self.shown.append(image)
                self.spans.append(span)
            else:
                self.spans[-1] = (self.spans[-1][0], span[1])
            self._pads(piece)

    def _pads(self, pads: Pads) -> None:
        self.ids.extend([self.encoder.image_id] * pads.count)
        if pads.grid is None or not self.encoder.family.grid_positions:
            self.positions.append(np.tile(np.arange(self.next, self.next + pads.count), (3, 1)))
            self.next += pads.count
            return
        self.positions.append(np.indices(pads.grid).reshape(3, -1) + self.next)
        # Qwen2-VL: the text behind an image goes on after the image's longest side.
        self.next += max(pads.grid[1:])
