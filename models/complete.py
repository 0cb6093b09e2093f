"""Whether a checkpoint's weights are those that its configuration describes: none made up, none left out."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rewardhub.errors import ConfigError
from rewardhub.models.gate import SIDE_TENSORS
from rewardhub.models.head import PREFIXES

HARMLESS = re.compile(r"(^|\.)(inv_freq|position_ids)$|(^|\.)vision_model\.head\.")
"""What is computed anew, and the head of a vision encoder whose states are read before it."""

LANGUAGE_HEAD = "lm_head"

WRAPPERS = frozenset({"model", "language_model", "text_model", "base_model"})
"""Names that stand before a model's own, more or fewer of them by who wrote the checkpoint."""

_log = logging.getLogger(__name__)


def check_complete(path: Path, model: nn.Module, report: Mapping[str, Any], prefix: str = "") -> None:
    """Raises ``ConfigError`` where transformers' report names tensors that it made up, or some of a part of the model
    that it left out: more layers, experts or biases than ``config.json`` describes would change every score.

    Heads, the card's own under ``prefix`` among them, are read elsewhere. What belongs to no part of the model, such as
    a head for another task, changes no score, and the log says that it is not read.
    """
    parts, read = _parts(model), (*PREFIXES, *SIDE_TENSORS, *filter(None, [prefix]))
    left = [name for name in map(str, report["unexpected_keys"]) if not HARMLESS.search(name)]
    left = sorted(name for name in left if not name.startswith(read))
    if LANGUAGE_HEAD not in parts:  # it is loaded without one
        left = [name for name in left if LANGUAGE_HEAD not in name.split(".")]
    if ours := [name for name in left if _part_of(name, model) in parts]:
        raise ConfigError(f"{path} holds {_named(ours)} that config.json does not describe", field="path")
    if left:
        _log.warning("%s holds %s that belong to no part of the model and are not read", path, _named(left))
    absent = sorted({*report["missing_keys"], *(str(name) for name in report["mismatched_keys"])})
    if absent:
        raise ConfigError(f"{path} misses {_named(absent)}", field="path")


def _parts(model: nn.Module) -> set[str]:
    """The names of the parts of a model, of its bare form and of its language model."""
    found = {name for name, _ in model.named_children()}
    for name, child in model.named_children():
        if name in WRAPPERS:
            found |= _parts(child)
    return found - WRAPPERS


def _part_of(name: str, model: nn.Module) -> str:
    """The first of a tensor's names that is no wrapper's."""
    wrappers = WRAPPERS | {str(getattr(model, "base_model_prefix", ""))}
    return next((each for each in name.split(".") if each not in wrappers), "")


def _named(names: Iterable[str], most: int = 3) -> str:
    found = list(names)
    shown = ", ".join(map(repr, found[:most]))
    return f"{len(found)} tensors ({shown}{', ...' if len(found) > most else ''})"
