"""One image through a model that was just loaded: what its processor cuts has to be what its encoder reads."""

from pathlib import Path

import torch
from PIL import Image

from rewardhub.errors import ConfigError
from rewardhub.models.backbone import Backbone
from rewardhub.models.inputs import Encoder
from rewardhub.models.memory import memory_errors
from rewardhub.models.pictures import Pads

SIDE = 64


@torch.inference_mode()
def check_images(path: Path, backbone: Backbone, encoder: Encoder) -> None:
    """Raises ``ConfigError`` where an image gives another number of features than it has placeholders.

    Tiles of another size than the model was made for are found so, once and not at every request. Raises
    ``MemoryError`` where there is none left for the image.
    """
    if not encoder.family.image:
        return
    reader = encoder.reader
    patches = reader.cut(Image.new("RGB", (SIDE, SIDE), "grey"), b"sample")
    places = sum(piece.count for piece in reader.layout(patches) if isinstance(piece, Pads))
    try:
        with memory_errors():
            (features,) = reader.features(backbone.base, [patches], backbone.device, backbone.dtype)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path}: the model cannot read what its processor cuts: {error}", field="path") from error
    if len(features) != places or features.shape[-1] % backbone.hidden_size:
        found = f"{len(features)} features of {features.shape[-1]} numbers"
        reason = f"an image gives {found} for {places} placeholders of {backbone.hidden_size}"
        raise ConfigError(f"{path}: {reason}", field="path")
