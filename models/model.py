"""The reward model as the worker sees it, and what its kinds share: loading, limits, fingerprint."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

import rewardhub.media.decode as decoder
from rewardhub.errors import ConfigError, InvalidInput, ScoringError
from rewardhub.models.backbone import Backbone, load_backbone, pick_device
from rewardhub.models.card import Card
from rewardhub.models.chat import Control, Piece
from rewardhub.models.checkpoint import check_checkpoint, download
from rewardhub.models.digest import digest_as_loaded, tree_stamp
from rewardhub.models.families import FAMILIES
from rewardhub.models.gates import pad_gates
from rewardhub.models.inputs import Encoded, Encoder
from rewardhub.models.linear import pack_linears
from rewardhub.models.memory import memory_errors
from rewardhub.models.norms import replace_norms
from rewardhub.models.notes import note_template
from rewardhub.models.pictures import Pixels
from rewardhub.models.replay import replay_vision
from rewardhub.models.runner import Runner
from rewardhub.models.sample_image import check_images
from rewardhub.models.vision import join_spans
from rewardhub.raised import failure
from rewardhub.scorer import digest_of
from rewardhub.types import Column, Group, Score, Status

LIBRARIES = ("torch", "transformers", "tokenizers", "pillow", "safetensors")


class RewardModel(ABC):
    """Scores groups; not safe for use from several threads at once."""

    card: Card

    @property
    def cards(self) -> Sequence[Card]:
        """Its own, and those of its members."""
        return (self.card,)

    @property
    def runners(self) -> Sequence[Runner]:
        """All that run rows in this process for it."""
        return ()

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of all that can change a score."""

    @property
    def alive(self) -> bool:
        """False where another process that runs rows for it has ended, or hangs: this model scores no more."""
        return True

    def close(self) -> None:
        """Ends the processes that it started."""
        return

    @abstractmethod
    def score(self, groups: Sequence[Group]) -> list[Column]:
        """One column per group and one row per response; the bytes of all media are at hand.

        What is wrong with one response is the status of its row. Raises ``MemoryError`` where the
        device's memory does not suffice, so that the caller can split the work.
        """

    @abstractmethod
    def probe(self, tokens: int) -> int:
        """Makes a real score of one text of so many tokens of nothing, as many as fit the model.

        Returns how many were read, 0 where their number changes nothing. Raises ``MemoryError`` where there is no
        room, and whatever else keeps the model from scoring.
        """


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder with its encoder and the limits of its card, wherever its weights are loaded."""

    card: Card
    path: Path
    encoder: Encoder
    max_tokens: int

    def check_prompt(self, prompt: Encoded, least: int) -> Encoded:
        """Raises ``InvalidInput`` for a prompt that leaves no room for the ``least`` tokens of any response."""
        if len(prompt) + least > self.max_tokens:
            more = f" and {least} behind it" if least else ""
            raise InvalidInput(
                f"the prompt has {len(prompt)} tokens{more}, the model takes {self.max_tokens}", field="prompt"
            )
        return prompt

    def replies(self) -> list[int]:
        """The token ids of the card's two replies; raises ``ConfigError`` where one is not a single token."""
        space = " " if self._space_is_the_replies else ""
        return [self._reply(space + text) for text in self.card.replies]

    def reply_opening(self) -> list[Piece]:
        """The opening of a turn up to the place where a reply is read."""
        template = self.encoder.template
        space = " " if template.style.spaced and not self._space_is_the_replies else ""
        return [*template.opening(), template.style.before_reply + space]

    @cached_property
    def _space_is_the_replies(self) -> bool:
        """Whether the space that begins a turn is a token with each reply behind it, as digits never are.

        A process model's replies stand behind steps, not at the beginning of a turn.
        """
        if not self.encoder.template.style.spaced or self.card.kind == "process":
            return False
        return all(len(self._tokens(f" {text}")) == 1 for text in self.card.replies)

    def _reply(self, text: str) -> int:
        ids = self._tokens(text)
        if len(ids) != 1:
            raise ConfigError(f"{self.card.name}: the choice {text!r} is {len(ids)} tokens, not one", field="choices")
        return ids[0]

    def _tokens(self, reply: str) -> list[int]:
        """The ids of a reply where it stands: behind text, or behind a control token."""
        behind = Control(self.card.steps.token) if self.card.steps.token else self.encoder.template.opening()[-1]
        return self.encoder.tokenizer.encode(reply, joined=isinstance(behind, str))


@dataclass(frozen=True)
class Loaded(Checkpoint):
    """A checkpoint in the memory of this process; ``stamp`` is of its files before they were read."""

    backbone: Backbone
    stamp: tuple[str, ...]

    def runner(self) -> Runner:
        """Runs rows through the backbone as the card says."""
        card = self.card
        return Runner(
            self.backbone, self.encoder, card.token_budget,
            share_prefix=card.share_prefix, reproducible=card.reproducible,
            prefix_bytes=card.prefix_cache_mb * 1024 * 1024,
        )  # fmt: skip

    def fingerprint(self, attention: str) -> str:
        """Digest of all that can change a score: weights, files, card, device kind, attention, libraries.

        Raises ``ConfigError`` where the files are no longer those that were loaded.
        """
        return fingerprint_of("model", self.card, self.path, self.stamp, self.backbone.device.type, attention)


NOT_READ = {
    "name", "path", "repository", "revision", "device", "range", "token_budget", "prefix_cache_mb", "summary",
    "measured", "vllm",
}  # fmt: skip
"""Fields of a card that change no score, and those that other parts of the fingerprint stand for."""


def card_as_read(card: Card) -> str:
    """What of a card can change a score, for its fingerprint."""
    return card.model_dump_json(exclude=dict.fromkeys(NOT_READ, True) | {"implicit": {"reference"}})


SOURCES = tuple(sorted(Path(__file__).parent.glob("*.py")))


def sources() -> list[bytes]:
    """The files of this package and of the decoder of images, any of which may change a score."""
    return [path.read_bytes() for path in (*SOURCES, Path(decoder.__file__))]


def fingerprint_of(kind: str, card: Card, path: Path, stamp: tuple[str, ...], *more: str) -> str:
    """Digest of all that can change a score: the checkpoint as it was loaded, the card, libraries, our own source.

    ``more`` is what else the ``kind`` depends on. Raises ``ConfigError`` as ``digest_as_loaded``.
    """
    versions = [f"{name}=={metadata.version(name)}" for name in LIBRARIES]
    return digest_of(kind, digest_as_loaded(path, stamp), card_as_read(card), *more, *versions, *sources())


def open_checkpoint(card: Card, *, head: bool, language: bool = False) -> Loaded:
    """Loads what a card names; raises ``ConfigError`` where it cannot be."""
    path = folder_of(card)
    stamp = tree_stamp(path)
    with memory_errors():
        backbone = load_backbone(
            path, head=head, language=language, dtype=card.dtype, quantization=card.quantization,
            device=pick_device(card.device), activation=card.head.activation, head_prefix=card.head.prefix,
        )  # fmt: skip
    backbone.requires_grad_(False)
    for replace in (join_spans, replace_norms, pack_linears, pad_gates, replay_vision):
        replace(backbone.base)
    encoder = encoder_of(card, path)
    encoder.reader.check(backbone.base.config)
    check_images(path, backbone, encoder)
    check_ids(path, encoder.tokenizer.size, backbone.base.get_input_embeddings().num_embeddings)
    limit = min(card.max_tokens or backbone.max_length, backbone.max_length)
    return Loaded(card, path, encoder, limit, backbone, stamp)


def encoder_of(card: Card, path: Path) -> Encoder:
    """Prepares inputs for the checkpoint in ``path`` as the card says."""
    pixels = Pixels(card.min_pixels, card.max_pixels)
    encoder = Encoder(path, system=card.system, pixels=pixels, thinking=card.thinking)
    note_template(card, path, encoder.template)
    return encoder


def folder_of(card: Card, architectures: Sequence[str] = tuple(FAMILIES)) -> Path:
    """The folder of the card's checkpoint, which may be loaded; downloaded where it is a repository's."""
    path = card.path if card.path is not None else download(card.repository, card.revision)
    check_checkpoint(path, architectures, card.quantization)
    return path


def check_ids(path: Path, size: int, rows: int) -> None:
    """Raises ``ConfigError`` where a tokenizer has more ids than the model has embeddings."""
    if size > rows:
        raise ConfigError(f"{path}: {size} token ids for {rows} embeddings", field="path")


def attempt(make: Callable[[], Encoded]) -> Encoded | Score:
    """What ``make`` gives, or the score that says why it failed."""
    try:
        return make()
    except ScoringError as error:
        return failure(error)


def finite(value: float) -> Score:
    """The score of a computed number; NaN and infinities are ours to answer for, never a number."""
    if math.isfinite(value):
        return Score(value)
    return Score(None, Status.INTERNAL_ERROR, details={"reason": "the model computed a non-finite number"})
