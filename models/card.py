"""Model cards: one TOML file says what to load and how to read a score from it. Imports no torch."""

import math
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rewardhub.errors import ConfigError, nearest
from rewardhub.models.chat import SYSTEM
from rewardhub.scorer import Scope

COMPARE = (
    "Two answers to the same request are given. Decide which one is better.\n\n"
    "Request:\n{prompt}\n\nAnswer 1:\n{first}\n\nAnswer 2:\n{second}\n\n"
    "Which answer is better? Reply with 1 or 2 only."
)
MARKERS = ("{prompt}", "{first}", "{second}")


class HeadSpec(BaseModel):
    """The reward head: ``activation`` between its two layers, "none" for a single linear layer.

    ``prefix`` names its tensors; "" looks for the published names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    activation: Literal["none", "silu", "tanh"] = "none"
    prefix: str = ""


class Card(BaseModel):
    """What a reward model is: where its weights are, how it is run, how its score is read.

    Either ``path`` (a folder, relative to the card) or ``repository`` with ``revision`` names the
    checkpoint. ``max_tokens`` bounds one sequence (0: the model's own limit), ``token_budget`` the
    padded tokens of a batch, ``max_pixels`` an image after resizing, ``prefix_cache_mb`` what is remembered of
    prompts for later calls (0: nothing). ``instruction`` and ``choices``
    belong to the pairwise kind: the text that holds {prompt}, {first} and {second}, and the replies
    that name the first and the second answer. ``system`` is the system message, "" is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    name: str = Field(min_length=1)
    kind: Literal["scalar", "pairwise"]
    path: Path | None = None
    repository: str = ""
    revision: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = Field(default="cpu", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")
    head: HeadSpec = HeadSpec()
    system: str = SYSTEM
    instruction: str = COMPARE
    choices: tuple[str, str] = ("1", "2")
    range: tuple[float, float] | None = None
    max_tokens: int = Field(default=0, ge=0)
    token_budget: int = Field(default=16_384, ge=1)
    max_pixels: int | None = Field(default=None, ge=784)
    share_prefix: bool = True
    prefix_cache_mb: int = Field(default=256, ge=0)
    summary: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Card":
        if (self.path is None) == (not self.repository):
            raise ValueError("name the checkpoint by either path or repository")
        if self.repository and not self.revision:
            raise ValueError("a repository needs a revision")
        for marker in MARKERS:
            if self.instruction.count(marker) != 1:
                raise ValueError(f"instruction must hold {marker} once")
        return self

    @property
    def scope(self) -> Scope:
        """Whether a response's score depends on the others of its group."""
        return "pair" if self.kind == "pairwise" else "response"

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of the score; infinite where the card states none."""
        if self.range is not None:
            return self.range
        return (0.0, 1.0) if self.kind == "pairwise" else (-math.inf, math.inf)


def load_card(path: Path) -> Card:
    """The card of a TOML file.

    Raises ``ConfigError`` that names the file and the field, with the nearest known name.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", field="card") from error
    try:
        card = Card.model_validate(values)
    except ValidationError as error:
        raise _error(path, error) from None
    if card.path is None:
        return card
    return card.model_copy(update={"path": (path.parent / card.path).resolve()})


def _error(path: Path, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known: dict[str, Any] = dict(HeadSpec.model_fields if "." in field else Card.model_fields)
        return ConfigError(f"{path}: unknown field {field!r}{nearest(field.split('.')[-1], known)}", field=field)
    what = f"field {field!r}: " if field else ""
    return ConfigError(f"{path}: {what}{first['msg'].removeprefix('Value error, ')}", field=field)
