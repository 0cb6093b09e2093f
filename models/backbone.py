"""The backbone, of text or of text and images: load it, and run it on padded batches."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewardhub.errors import ConfigError
from rewardhub.models.attention import Plan
from rewardhub.models.capped import CAPPED
from rewardhub.models.card import Card
from rewardhub.models.checkpoint import check_checkpoint, check_computed, weight_files
from rewardhub.models.complete import check_complete
from rewardhub.models.decoder import decode
from rewardhub.models.families import FAMILIES, Family
from rewardhub.models.head import Activation, RewardHead, read_head, softcapped
from rewardhub.models.inputs import Inputs
from rewardhub.models.memory import own_weights
from rewardhub.models.pictures import Patches
from rewardhub.models.progress import progress
from rewardhub.models.quantization import quantize_linears

Features = dict[Patches, Tensor]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

BARE_NAMES = {r"^model\.visual\.": "visual."}
"""Names that trainers since transformers 4.52 write, which the bare classes of Qwen2-VL and Qwen2.5-VL do not read."""


class Backbone(nn.Module):
    """A model with its language head, or with a reward head (None until one is set).

    ``model`` is the model class of transformers: the whole one with ``generate`` where it was loaded
    with its language head, else the bare one.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.head: RewardHead | None = None
        self.family: Family = FAMILIES[model.config.model_type]

    @property
    def base(self) -> Any:
        """The bare model: its vision encoder and its language model."""
        return getattr(self.model, "model", self.model)

    @property
    def language_model(self) -> Any:
        """The decoder; a model of text is one itself."""
        base = self.base
        return getattr(base, "language_model", None) or getattr(base, "text_model", base)

    @property
    def text_config(self) -> Any:
        return self.language_model.config

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def hidden_size(self) -> int:
        return int(self.text_config.hidden_size)

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens, that the model's positions were made for; YaRN (arXiv 2309.00071) stretches
        the first ones, and repositories leave their number as it was.
        """
        most = int(self.text_config.max_position_embeddings)
        rope = getattr(self.text_config, "rope_parameters", None)
        if rope and rope.get("rope_type") == "yarn":
            most = max(most, int(rope["factor"] * (rope.get("original_max_position_embeddings") or most)))
        return most

    def embed(self, inputs: Inputs) -> Tensor:
        """Input embeddings [B, L, H] with the image features in place; see :meth:`embedded`."""
        embeds: Tensor = self.embedded(inputs)["inputs_embeds"]
        return embeds

    def embedded(self, inputs: Inputs, known: Features | None = None) -> dict[str, Any]:
        """What the language model reads: embeddings [B, L, H], and what later layers add to images (deepstack).

        Each image is encoded once; ``known`` holds the features of images seen before, as the family's
        reader gives them, and is added to.
        """
        embeds: Tensor = self.base.get_input_embeddings()(inputs.embedded_ids)
        if not inputs.images:
            return {"inputs_embeds": embeds}
        known = {} if known is None else known
        fresh = [image for image in inputs.images if image not in known]
        if fresh:
            progress.holds(sum(len(image.pixels) for image in fresh))
            found = inputs.reader.features(self.base, fresh, inputs.input_ids.device, self.dtype)
            known.update(zip(fresh, found, strict=True))
        features = torch.cat([known[inputs.images[index]] for index in inputs.image_order]).to(embeds.dtype)
        shown, *deeper = features.split(embeds.shape[-1], -1)
        mask = inputs.mm_token_type_ids.bool()
        embeds = embeds.masked_scatter(mask.unsqueeze(-1).expand_as(embeds), shown)
        if not deeper:
            return {"inputs_embeds": embeds}
        return {"inputs_embeds": embeds, "visual_pos_masks": mask, "deepstack_visual_embeds": deeper}

    def hidden(self, inputs: Inputs, known: Features | None = None, **more: Any) -> Tensor:
        """The last hidden states [B, L, H] of right-padded rows, after the final norm.

        Nothing masks the padding: it lies behind every valid token, where causal attention does not look.
        ``more`` goes to the model: a cache of what stands before the rows.
        """
        return self.run(self.embedded(inputs, known), inputs, **{"use_cache": False, **more})

    def run(self, embedded: dict[str, Any], inputs: Inputs, **more: Any) -> Tensor:
        """The states of embedded inputs at their positions."""
        positions = self._positions(inputs)
        if self.family.whole_forward:
            types = inputs.mm_token_type_ids if inputs.mm_token_type_ids.any() else None
            return self.base(**embedded, position_ids=positions, token_type_ids=types, **more).last_hidden_state
        return self.language_model(**embedded, position_ids=positions, **more).last_hidden_state

    def packed(self, inputs: Inputs, known: Features, plan: Plan) -> Tensor:
        """The states [K, H] of packed rows at the K places that the plan reads, after the final norm."""
        return decode(self.language_model, self.embedded(inputs, known), self._positions(inputs), plan)

    def _positions(self, inputs: Inputs) -> Tensor:
        return inputs.position_ids if self.family.grid_positions else inputs.position_ids[0]

    def last_hidden(self, inputs: Inputs) -> Tensor:
        """The hidden state [B, H] of each row's last valid token."""
        states = self.hidden(inputs)
        rows = torch.arange(len(states), device=states.device)
        return states[rows, inputs.lengths - 1]

    def scores(self, inputs: Inputs) -> Tensor:
        """The reward head's scores [B] in fp32."""
        if self.head is None:
            raise RuntimeError("this backbone has no reward head")
        return self.head(self.last_hidden(inputs))

    def logits(self, states: Tensor) -> Tensor:
        """The language head's logits [..., V] in fp32."""
        head = self.model.lm_head
        return self._capped(head(states.to(head.weight.dtype)).float())

    def logits_of(self, states: Tensor, ids: list[int]) -> Tensor:
        """The language head's logits [..., len(ids)] of these tokens alone, computed in fp32."""
        return self._capped(states.float() @ self.model.lm_head.weight[ids].float().T)

    def _capped(self, logits: Tensor) -> Tensor:
        return softcapped(logits, getattr(self.text_config, "final_logit_softcapping", None))


def load_backbone(
    path: Path,
    *,
    head: bool,
    language: bool = False,
    dtype: str = "float32",
    quantization: str = "none",
    device: str = "cpu",
    activation: Activation = "none",
    head_prefix: str = "",
) -> Backbone:
    """The backbone of a checkpoint folder, in ``eval`` mode, with its reward head or its language head.

    With ``language`` it has both. ``quantization`` "int8" is that of :mod:`rewardhub.models.quantization`.

    Raises ``ConfigError`` where the folder may not be loaded (see ``check_checkpoint``), misses
    tensors, or holds no reward head though one was asked for.
    """
    backbone = _load(path, dtype, whole=language or not head, head_prefix=head_prefix)
    if quantization == "int8":
        quantize_linears(backbone.language_model.layers)
    backbone = backbone.to(device)
    own_weights(backbone)
    if head:
        backbone.head = read_head(path, backbone.hidden_size, activation, head_prefix).to(device)
    return backbone.eval()


def pick_device(name: str) -> str:
    """The device of this name; "auto" is a GPU where torch finds one, else the CPU.

    Raises ``ConfigError`` for a GPU that is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} is asked for, and torch finds none", field="device")
    return name


def same_device(name: str) -> str:
    """One name for all that a device goes by: "cuda" is the first GPU, "auto" that or the CPU."""
    found = pick_device(name) if name == "auto" else name
    return "cuda:0" if found == "cuda" else found


def load_headless(path: Path, *, device: str = "cpu") -> Backbone:
    """The bare backbone in fp32, for a head that is yet to be trained."""
    backbone = _load(path, "float32", whole=False).to(device)
    own_weights(backbone)
    return backbone


def _load(path: Path, dtype: str, *, whole: bool, head_prefix: str = "") -> Backbone:
    kind = _class(check_checkpoint(path)["model_type"], whole=whole)
    check_computed(path)
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        config = check_size(path, partial(kind.from_config, trust_remote_code=False))
        model, report = kind.from_pretrained(
            str(path), dtype=DTYPES[dtype], attn_implementation=_attention(config), use_safetensors=True,
            local_files_only=True, trust_remote_code=False, output_loading_info=True,
            **({} if whole else {"key_mapping": BARE_NAMES}),
        )  # fmt: skip
    except (ConfigError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}", field="path") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    check_complete(path, model, report, head_prefix)
    if dtype == "float32":
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]  # cuDNN's own default is TF32
    return Backbone(model).eval()


def load_encoder(path: Path, kind: Any, card: Card, **more: Any) -> Any:
    """A model of the class ``kind`` of transformers, for inference on the card's device; ``more`` goes to the class.

    Raises ``ConfigError`` where the weights cannot fill it, or are not all of it.
    """
    try:
        check_size(path, partial(kind, **more))
        model, report = kind.from_pretrained(
            str(path), dtype=DTYPES[card.dtype], use_safetensors=True, local_files_only=True,
            trust_remote_code=False, output_loading_info=True, **more,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}", field="path") from error
    check_complete(path, model, report)
    model = model.to(pick_device(card.device)).eval().requires_grad_(False)
    own_weights(model)
    return model


def check_size(path: Path, build: Callable[[Any], nn.Module]) -> Any:
    """The configuration; refuses one of a model that the weights cannot fill, before memory is taken for it.

    ``build`` makes the model of a configuration; it is called without memory for weights.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = build(config)
    described = sum(each.numel() for each in model.parameters())
    held = sum(file.stat().st_size for file in weight_files(path))
    if described > held:  # not even a byte for each
        reason = f"{path}: config.json describes {described:,} parameters, the weights are {held:,} bytes"
        raise ConfigError(reason, field="path")
    return config


def _attention(config: Any) -> str:
    """The attention that computes what is configured: torch's own holds no logits within a bound."""
    capped = FAMILIES[config.model_type].capped or getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return CAPPED if capped else "sdpa"


def _class(model_type: str, *, whole: bool) -> Any:
    """The model class of transformers itself: code of the checkpoint is never looked for."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText

    if not whole:
        return AutoModel
    return AutoModelForImageTextToText if FAMILIES[model_type].image else AutoModelForCausalLM
