"""The trainer's configuration: one flat TOML file, every field below, no other."""

import math
import re
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rewardhub.errors import ConfigError, nearest
from rewardhub.grpo.advantages import ESTIMATORS
from rewardhub.grpo.losses import LOSSES, Aggregation


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoConfig:
    """What one training run does. A prompt's responses are a group; a wave is generated together."""

    # the policy; an empty model is a tiny one, built with the seed
    model: str = ""
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    # the warm start and its control: supervised steps on the right answers
    warmup_steps: int = 55
    warmup_batch: int = 32
    warmup_learning_rate: float = 2e-3
    control: bool = True
    # rollouts
    steps: int = 120
    prompts: int = 16
    group_size: int = 8
    wave: int = 4
    max_tokens: int = 6
    temperature: float = 1.0
    resample_rounds: int = 0
    # rewards
    recipe: str = "demo_colour"
    run: str = ""
    deadline_ms: int = 30_000
    part_weights: dict[str, float] = field(default_factory=dict)
    # the update; cispo and sapo read the clips in their own way (see losses)
    advantage: str = "grpo"
    loss: str = "ppo"
    aggregation: Aggregation = "dapo"
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl: float = 0.0
    updates: int = 1
    learning_rate: float = 1e-3
    max_grad_norm: float = 1.0
    mask_truncated: bool = False
    # evaluation on images that are never trained on
    reserved: int = 256

    def __post_init__(self) -> None:
        _known("advantage", self.advantage, ESTIMATORS)
        _known("loss", self.loss, LOSSES)
        _known("aggregation", self.aggregation, get_args(Aggregation))
        for name in ("threads", "prompts", "group_size", "wave", "max_tokens", "updates", "reserved", "warmup_batch"):
            _at_least(name, getattr(self, name), 1)
        for name in ("steps", "warmup_steps", "resample_rounds", "deadline_ms", "kl", "clip_low", "clip_high"):
            _at_least(name, getattr(self, name), 0)
        for name in ("temperature", "learning_rate", "warmup_learning_rate", "max_grad_norm"):
            _at_least(name, getattr(self, name), 1e-9)
        if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", self.device):
            raise ConfigError(f"device is {self.device!r}, expected cpu, cuda or cuda:N", field="device")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_config(path: Path, **overrides: Any) -> GrpoConfig:
    """The configuration in a TOML file; ``overrides`` win over it.

    Raises ``ConfigError`` that names the file and the field, and for an unknown field the nearest known.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError.of_file(path, error, "config") from error
    try:
        return config_of({**values, **overrides})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", field=error.field) from None


def config_of(values: dict[str, Any]) -> GrpoConfig:
    """The configuration with these fields, the rest default; raises ``ConfigError`` that names the field."""
    hints = get_type_hints(GrpoConfig)
    known = [each.name for each in fields(GrpoConfig)]
    checked = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown field {name!r}{nearest(name, known)}", field=name)
        checked[name] = _typed(name, value, hints[name])
    return GrpoConfig(**checked)


def _typed(name: str, value: Any, kind: Any) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{name} is {type(value).__name__}, expected a table of numbers", field=name)
        return {key: _typed(f"{name}.{key}", each, float) for key, each in value.items()}
    wanted = str if get_origin(kind) is Literal else kind
    if type(value) is not wanted:
        raise ConfigError(f"{name} is {type(value).__name__}, expected {wanted.__name__}", field=name)
    return value


def _known(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}{nearest(value, known)}", field=name)


def _at_least(name: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise ConfigError(f"{name} is {value}, expected at least {least:g} and finite", field=name)
