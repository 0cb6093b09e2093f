"""The vision-language backbone: load it, and run it on padded batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewardhub.errors import ConfigError
from rewardhub.models.checkpoint import check_checkpoint, tensors_under
from rewardhub.models.head import PREFIXES, Activation, RewardHead, head_from
from rewardhub.models.inputs import Inputs
from rewardhub.models.pictures import Patches, as_tensors

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Backbone(nn.Module):
    """A Qwen2.5-VL model with its language head, or with a reward head (None until one is set).

    ``model`` is the model class of transformers: the whole one with ``generate`` where it was loaded
    with its language head, else the bare one.
    """

    def __init__(self, model: Any, head: RewardHead | None = None) -> None:
        super().__init__()
        self.model = model
        self.head = head

    @property
    def base(self) -> Any:
        """The bare model: ``visual`` and ``language_model``."""
        return getattr(self.model, "model", self.model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def hidden_size(self) -> int:
        return int(self.base.config.text_config.hidden_size)

    @property
    def max_length(self) -> int:
        """The longest sequence, in tokens, that the model's positions were made for."""
        return int(self.base.config.text_config.max_position_embeddings)

    def embed(self, inputs: Inputs, known: dict[Patches, Tensor] | None = None) -> Tensor:
        """Input embeddings [B, L, H] with the image features in place.

        Each image is encoded once; ``known`` holds the features [N, H] of images seen before and is
        added to.
        """
        embeds: Tensor = self.base.get_input_embeddings()(inputs.input_ids)
        if not inputs.images:
            return embeds
        known = {} if known is None else known
        fresh = [image for image in inputs.images if image not in known]
        if fresh:
            known.update(zip(fresh, self.image_features(fresh, inputs), strict=True))
        shown = torch.cat([known[inputs.images[index]] for index in inputs.image_order]).to(embeds.dtype)
        mask = inputs.mm_token_type_ids.bool().unsqueeze(-1)
        return embeds.masked_scatter(mask.expand_as(embeds), shown)

    def image_features(self, images: Sequence[Patches], inputs: Inputs) -> Sequence[Tensor]:
        """One tensor [N, H] per image, on the device of ``inputs``."""
        pixels, grids = (each.to(inputs.input_ids.device) for each in as_tensors(images))
        output = self.base.get_image_features(pixels.to(self.dtype), grids, return_dict=True)
        return tuple(output.pooler_output)

    def hidden(self, inputs: Inputs, known: dict[Patches, Tensor] | None = None) -> Tensor:
        """The last hidden states [B, L, H] of right-padded rows, after the final norm.

        No attention mask is built: padding on the right lies behind every valid token, where causal
        attention does not look.
        """
        output = self.base.language_model(
            inputs_embeds=self.embed(inputs, known), position_ids=inputs.position_ids, use_cache=False
        )
        return output.last_hidden_state

    def last_hidden(self, inputs: Inputs, known: dict[Patches, Tensor] | None = None) -> Tensor:
        """The hidden state [B, H] of each row's last valid token."""
        states = self.hidden(inputs, known)
        rows = torch.arange(len(states), device=states.device)
        return states[rows, inputs.lengths - 1]

    def scores(self, inputs: Inputs) -> Tensor:
        """The reward head's scores [B] in fp32."""
        if self.head is None:
            raise RuntimeError("this backbone has no reward head")
        return self.head(self.last_hidden(inputs))

    def logits(self, states: Tensor) -> Tensor:
        """The language head's logits [..., V] in fp32."""
        return self.model.lm_head(states).float()


def load_backbone(
    path: Path,
    *,
    head: bool,
    dtype: str = "float32",
    device: str = "cpu",
    activation: Activation = "none",
    head_prefix: str = "",
) -> Backbone:
    """The backbone of a checkpoint folder, in ``eval`` mode, with its reward head or its language head.

    Raises ``ConfigError`` where the folder may not be loaded (see ``check_checkpoint``), misses
    tensors, or holds no reward head though one was asked for.
    """
    backbone = load_headless(path, dtype=dtype, device=device) if head else _load(path, dtype, device, whole=True)
    if head:
        found = tensors_under(path, (head_prefix,) if head_prefix else PREFIXES)
        backbone.head = head_from(found, activation, head_prefix).to(device)
        if backbone.head.inputs != backbone.hidden_size:
            raise ConfigError(
                f"{path}: the head takes {backbone.head.inputs} inputs, the model gives {backbone.hidden_size}",
                field="head",
            )
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


def load_headless(path: Path, *, dtype: str = "float32", device: str = "cpu") -> Backbone:
    """The bare backbone, for a head that is yet to be trained."""
    return _load(path, dtype, device, whole=False)


def _load(path: Path, dtype: str, device: str, *, whole: bool) -> Backbone:
    check_checkpoint(path)
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel
    from transformers.utils import logging

    kind = Qwen2_5_VLForConditionalGeneration if whole else Qwen2_5_VLModel
    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        model, report = kind.from_pretrained(
            str(path), dtype=DTYPES[dtype], attn_implementation="sdpa", use_safetensors=True,
            local_files_only=True, trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}", field="path") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
    absent = sorted({*report["missing_keys"], *report["mismatched_keys"]})
    if absent:
        raise ConfigError(f"{path} misses {len(absent)} tensors, first {absent[0]!r}", field="path")
    return Backbone(model.to(device)).eval()
