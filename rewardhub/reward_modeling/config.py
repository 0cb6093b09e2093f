"""The configuration of a training run, from a TOML file."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rewardhub.errors import ConfigError, nearest
from rewardhub.models.chat import SYSTEM
from rewardhub.registry import NAME

PATHS = ("base", "data", "eval_data")


class TrainConfig(BaseModel):
    """How a scalar reward model is trained. Paths of a file are relative to it.

    The base is a folder, or a ``repository`` with its ``revision``. ``batch`` counts pairs,
    ``warmup`` and ``steps`` optimiser steps; the rate rises linearly and falls as a cosine to 0.
    ``centre`` and ``tie_weight`` weigh the losses of that name. Without ``eval_data`` the last
    ``eval_fraction`` of the shuffled pairs is kept from training. bfloat16 runs the backbone under
    autocast; weights, head and loss stay in fp32. ``micro_batch`` pairs run at a time (0: the whole
    batch) and ``checkpointing`` recomputes activations, both to save memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="reward-model", pattern=NAME)
    base: Path | None = None
    repository: str = ""
    revision: str = ""
    data: Path
    eval_data: Path | None = None
    eval_fraction: float = Field(default=0.1, gt=0, lt=1)
    system: str = SYSTEM
    activation: Literal["none", "silu", "tanh"] = "none"
    steps: int = Field(default=200, ge=1)
    batch: int = Field(default=32, ge=1)
    micro_batch: int = Field(default=0, ge=0)
    checkpointing: bool = False
    rate: float = Field(default=1e-5, gt=0)
    warmup: int = Field(default=10, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_norm: float = Field(default=1.0, gt=0)
    centre: float = Field(default=0.01, ge=0)
    tie_weight: float = Field(default=1.0, ge=0)
    max_tokens: int = Field(default=0, ge=0)
    max_pixels: int | None = Field(default=None, ge=784)
    eval_every: int = Field(default=50, ge=1)
    device: str = Field(default="cpu", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        if (self.base is None) == (not self.repository):
            raise ValueError("name the base by either base or repository")
        if self.repository and not self.revision:
            raise ValueError("a repository needs a revision")
        return self


def load_config(path: Path) -> TrainConfig:
    """The configuration of a TOML file; raises ``ConfigError`` that names the file and the field."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError.of_file(path, error, "config") from error
    try:
        config = TrainConfig.model_validate(values)
    except ValidationError as error:
        raise _error(path, error) from None
    resolved = {key: (path.parent / value).resolve() for key in PATHS if (value := getattr(config, key))}
    return config.model_copy(update=resolved)


def _error(path: Path, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{path}: unknown field {field!r}{nearest(field, TrainConfig.model_fields)}", field=field)
    what = f"field {field!r}: " if field else ""
    return ConfigError(f"{path}: {what}{first['msg'].removeprefix('Value error, ')}", field=field)
