"""Model cards: one TOML file says what to load and how to read a score from it. Imports no torch."""

import math
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rewardhub.config import keys_at
from rewardhub.errors import ConfigError, nearest
from rewardhub.models.card_fields import READ_BY
from rewardhub.scorer import Scope

COMPARE = (
    "Two answers to the same request are given. Decide which one is better.\n\n"
    "Request:\n{prompt}\n\nAnswer 1:\n{first}\n\nAnswer 2:\n{second}\n\n"
    "Which answer is better? Reply with 1 or 2 only."
)
MARKERS = ("{prompt}", "{first}", "{second}")


class HeadSpec(BaseModel):
    """The reward head: ``activation`` between its two layers, "none" for a single linear layer.

    ``prefix`` names its tensors; "" looks for the published names. ``reads`` says which token's state it reads: the
    "last" one that the family's own template writes behind an answer, or the "end" of the turn, where a line break
    follows that (OpenRLHF, and ms-swift before it wrote that break).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    activation: Literal["none", "relu", "silu", "tanh"] = "none"
    prefix: str = ""
    reads: Literal["last", "end"] = "last"


class Calibration(BaseModel):
    """What is done to a raw score: (score - mean) / deviation, then ``squash``.

    Stored mean and deviation normalise scores as in training (OpenRLHF's ``mean`` and ``std``); with
    "sigmoid" they are the ``logit_mean`` and ``logit_sigma`` of vLLM's poolers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float = Field(default=0.0, allow_inf_nan=False)
    deviation: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    squash: Literal["none", "sigmoid", "tanh"] = "none"

    def __call__(self, value: float) -> float:
        """The calibrated value; NaN for NaN and infinities, which no squash makes a score of."""
        if not math.isfinite(value):
            return math.nan
        scaled = (value - self.mean) / self.deviation
        if self.squash == "sigmoid":
            return 0.5 * (1.0 + math.tanh(scaled / 2.0))
        return math.tanh(scaled) if self.squash == "tanh" else scaled


class StepSpec(BaseModel):
    """The steps of a response for a process model: its own spans, else the text between separators.

    ``token`` is a control token put behind each step and read there, in place of the separator unless
    ``keep_separator`` says that both stand; "" reads a step's last token.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    separator: str = Field(default="\n\n", min_length=1)
    token: str = ""
    keep_separator: bool = False
    aggregate: Literal["min", "mean", "product", "last"] = "min"


class ImplicitSpec(BaseModel):
    """The implicit reward of a DPO model: ``reference`` is the folder of the model it was trained from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reference: Path
    beta: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    per_token: bool = False


class EnsembleSpec(BaseModel):
    """Cards whose scores are combined: the mean, the lowest, or the mean less ``weight`` times the variance.

    Their ``device`` is the ensemble's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: tuple[Path, ...] = Field(min_length=1)
    combine: Literal["mean", "min", "cautious"] = "mean"
    weight: float = Field(default=0.5, ge=0, allow_inf_nan=False)


class CritiqueSpec(BaseModel):
    """Critiques that a model writes of an answer, asked for with ``question``, before its head reads each one's end.

    The value is the mean over ``count`` critiques of at most ``max_tokens`` tokens, sampled at
    ``temperature`` (0: the likeliest token) with a seed that is drawn from the text itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str = "Critique this answer: is it right, helpful and honest?"
    count: int = Field(default=1, ge=1, le=64)
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0)


class VotesSpec(BaseModel):
    """Comparisons that a pairwise model writes out: ``count`` per order, each naming 1 or 2 in answer tags.

    With a count of 0 the next token's probabilities are read instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(default=0, ge=0, le=64)
    max_tokens: int = Field(default=1024, ge=1)
    temperature: float = Field(default=1.0, ge=0)


class VllmSpec(BaseModel):
    """The vLLM that serves a card: at ``url``, or started here with the interpreter ``python`` of its environment, by
    a name that PATH knows or a path relative to the card.

    ``arguments`` are further ones of its command line, those of a server at ``url`` as its operator gave them: they
    take part in the fingerprint. It has ``startup_s`` seconds to answer. ``api_key_env`` is the NAME of the environment
    variable that holds the key which the server asks for; the key itself never stands in a card.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(default="", pattern=r"^(https?://[^/@?#]+)?$")
    api_key_env: str = Field(default="", pattern=r"^[A-Za-z_0-9]*$")
    python: str = ""
    arguments: tuple[str, ...] = ()
    startup_s: float = Field(default=600.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> "VllmSpec":
        if bool(self.url) == bool(self.python):
            raise ValueError("name the server by url, or the interpreter that starts it by python")
        return self


class Measured(BaseModel):
    """How far a card's scores were from those of each response by itself in fp32, not quantised, on sample texts.

    Written by ``rewardhub models drift``, of the model whose ``fingerprint`` that was: of another it says nothing, as a
    warning tells when the card is loaded. ``largest`` and ``mean`` are differences of scores, ``deviation`` the
    standard deviation of the exact ones; ``order_kept`` is the share of pairs of one prompt, over 5 % of it apart,
    whose order is the same. ``attention`` is the path taken, ``device`` where.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attention: str
    device: str
    scores: int = Field(ge=1)
    deviation: float = Field(ge=0)
    largest: float = Field(ge=0)
    mean: float = Field(ge=0)
    order_kept: float = Field(ge=0, le=1)
    fingerprint: str = ""


Kind = Literal[
    "scalar", "cost", "outcome", "safety", "objectives", "process", "yes_no", "listwise", "pairwise", "implicit",
    "similarity", "sentence", "token_match", "ensemble", "critique", "generative",
]  # fmt: skip
CHANCES = frozenset({"pairwise", "outcome", "process", "yes_no"})
"""Kinds whose value is a probability."""

COSINES = frozenset({"similarity", "sentence", "token_match"})
"""Kinds whose value is a cosine, or a mean of some."""

TRUNCATED = "truncated_prompt_tokens"
"""The detail of a score that says how many tokens of its prompt the model did not read, for want of room."""

SCOPES: dict[str, Scope] = {"pairwise": "pair", "listwise": "group"}


class Card(BaseModel):
    """What a reward model is: where its weights are, how it is run, how its score is read.

    Either ``path`` (a folder, relative to the card) or ``repository`` with ``revision`` names the
    checkpoint. ``max_tokens`` bounds one sequence (0: the model's own limit), ``token_budget`` the
    padded tokens of a batch (a response that finds no memory is at fault only where it is longer than this),
    ``min_pixels`` and ``max_pixels`` an image after resizing, within the checkpoint's own bounds,
    ``prefix_cache_mb`` what is remembered of prompts for later calls (0: nothing).
    ``truncation`` says what becomes of a sequence over the limit: an error, or "left": the oldest text of the prompt
    is left out as far as needed, never its system message, its images or the response, and
    a detail of the score says how much, see :data:`TRUNCATED`.
    ``system`` is the system message of prompts that bring none, "" is none; by default it is what the family's own
    template says. ``thinking`` says whether the checkpoint's own template writes a block of thoughts in front of an
    answer, which is empty where the answer has none, and leaves the thoughts of earlier answers out: by default those
    of Qwen3 and Qwen3.5 do, those of Qwen3-VL and of all others do not.
    ``context`` is appended to the prompt, with fields of the reference for its {markers}: facts, a reference answer,
    what is known of the user.

    ``quantization`` is of the weights: "int8" is done at load, weight-only with a scale per output, by either backend;
    "fp8" is done at load by vLLM, "awq", "gptq" and "compressed-tensors" are checkpoints published so, for vLLM.

    ``choices`` are two replies of one token each, whose logits are compared. ``instruction`` belongs to
    the pairwise kind: the text that holds {prompt}, {first} and {second}; ``question`` to the yes_no
    and generative kinds, of which the latter writes ``max_reply_tokens`` at most. ``classes`` name the outputs
    of a head with several: outcomes, safety levels, objectives; ``positive`` is the class whose probability
    is the value. ``positive_is`` says what a high cost means.
    A ``reproducible`` card computes each response by itself in fp32, so that its score is the same to the
    last bit whatever it is asked with: for audits. ``measured`` says how far the scores of another are from that.
    ``pooling`` belongs to the sentence kind: the mean of all tokens' states, or that of the first; by default what
    the checkpoint's ``1_Pooling`` says, or else the mean.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    name: str = Field(min_length=1)
    kind: Kind
    path: Path | None = None
    repository: str = ""
    revision: str = ""
    backend: Literal["transformers", "vllm"] = "transformers"
    vllm: VllmSpec | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    quantization: Literal["none", "int8", "fp8", "awq", "gptq", "compressed-tensors"] = "none"
    device: str = Field(default="cpu", pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")
    head: HeadSpec = HeadSpec()
    calibration: Calibration = Calibration()
    system: str | None = None
    thinking: bool | None = None
    context: str = ""
    instruction: str = COMPARE
    question: str = "Is this answer correct? Reply with Yes or No only."
    choices: tuple[str, str] | None = None
    classes: tuple[str, ...] = ()
    positive: str = ""
    positive_is: Literal["", "unsafe", "safe"] = ""
    steps: StepSpec = StepSpec()
    implicit: ImplicitSpec | None = None
    ensemble: EnsembleSpec | None = None
    critique: CritiqueSpec = CritiqueSpec()
    votes: VotesSpec = VotesSpec()
    range: tuple[float, float] | None = None
    max_reply_tokens: int = Field(default=512, ge=1)
    max_tokens: int = Field(default=0, ge=0)
    truncation: Literal["none", "left"] = "none"
    token_budget: int = Field(default=16_384, ge=1)
    min_pixels: int | None = Field(default=None, ge=784)
    max_pixels: int | None = Field(default=None, ge=784)
    pooling: Literal["mean", "first"] | None = None
    share_prefix: bool = True
    reproducible: bool = False
    prefix_cache_mb: int = Field(default=256, ge=0)
    summary: str = ""
    measured: Measured | None = None

    @model_validator(mode="after")
    def _check(self) -> "Card":
        named = (self.path is not None) + bool(self.repository)
        if named != (self.kind != "ensemble"):
            raise ValueError("name the checkpoint by either path or repository")
        if bool(self.repository) != bool(self.revision):
            raise ValueError("a repository needs a revision, and nothing else has one")
        for name, kinds in READ_BY.items():
            stated = getattr(self, name)
            if self.kind not in kinds and stated and stated != Card.model_fields[name].default:
                raise ValueError(f"a card of kind {self.kind} does not read {name}; {', '.join(sorted(kinds))} do")
        for marker in MARKERS:
            if self.instruction.count(marker) != 1:
                raise ValueError(f"instruction must hold {marker} once")
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            raise ValueError("min_pixels is over max_pixels")
        if (self.kind == "implicit") != (self.implicit is not None):
            raise ValueError("the table [implicit] belongs to the implicit kind, which needs it")
        if (self.kind == "ensemble") != (self.ensemble is not None):
            raise ValueError("the table [ensemble] belongs to the ensemble kind, which needs it")
        if self.quantization == "int8" and self.dtype == "float16":
            raise ValueError("float16 cannot hold the products of int8 weights; dtype is float32 or bfloat16")
        if self.quantization not in {"none", "int8"} and self.backend != "vllm":
            raise ValueError(f"quantization {self.quantization} is the vllm backend's, this one has int8")
        if self.reproducible and self.dtype != "float32":
            raise ValueError("a reproducible card computes in float32")
        if self.head.reads != "last" and self.kind in {"process", "critique"}:
            raise ValueError(f"a card of kind {self.kind} says by itself where its head reads")
        if self.reproducible and self.backend == "vllm":
            raise ValueError("no card of the vllm backend is reproducible: vLLM computes responses side by side")
        if (self.backend == "vllm") != (self.vllm is not None):
            raise ValueError("the table [vllm] belongs to the vllm backend, which needs it")
        if self.range is not None and not self.range[0] <= self.range[1]:
            raise ValueError(f"range is the lowest score and the highest, not {list(self.range)}")
        if (self.kind == "cost") != bool(self.positive_is):
            raise ValueError("positive_is belongs to the cost kind, which needs it")
        return self._check_classes()

    def _check_classes(self) -> "Card":
        if (self.kind in {"outcome", "safety", "objectives"}) != bool(self.classes):
            raise ValueError("classes belong to the outcome, safety and objectives kinds, which need them")
        if self.replies[0] == self.replies[1]:
            raise ValueError("both choices are one reply")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have one name")
        if self.kind in {"outcome", "safety"} and len(self.classes) < 2:
            raise ValueError(f"a card of kind {self.kind} needs two classes or more")
        if self.calibration != Calibration() and self.kind in CHANCES | {"safety", "generative"}:
            raise ValueError(f"a score of kind {self.kind} is not calibrated")
        if (self.kind == "outcome") != bool(self.positive) or self.positive not in ("", *self.classes):
            raise ValueError("positive names a class of the outcome kind, which needs it")
        return self

    @property
    def scope(self) -> Scope:
        """Whether a response's score depends on the others of its group."""
        return SCOPES.get(self.kind, "response")

    @property
    def replies(self) -> tuple[str, str]:
        """The two replies whose logits are compared, the favourable one first."""
        return self.choices or (("1", "2") if self.kind == "pairwise" else ("Yes", "No"))

    @property
    def as_loaded(self) -> "Card":
        """The card without what is only told of it: cards alike in this have the same model in memory."""
        return self.model_copy(update={"summary": "", "range": None, "measured": None})

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of the score; infinite where the card states none."""
        if self.range is not None:
            return self.range
        if self.kind == "safety":
            return (0.0, len(self.classes) - 1.0)
        if self.kind in COSINES and self.calibration == Calibration():
            return (-1.0, 1.0)
        if self.kind == "generative" or self.kind in CHANCES or self.calibration.squash == "sigmoid":
            return (0.0, 1.0)
        return (-math.inf, math.inf)


def load_card(path: Path) -> Card:
    """The card of a TOML file, its paths made absolute.

    Raises ``ConfigError`` that names the file and the field, with the nearest known name.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError.of_file(path, error, "card") from error
    try:
        card = Card.model_validate(values)
    except ValidationError as error:
        raise _error(path, error) from None

    def absolute(each: Path) -> Path:
        try:
            return (path.parent / each).resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"{path}: {str(each)!r} is no path: {error}", field="path") from error

    found: dict[str, Any] = {}
    if card.path is not None:
        found["path"] = absolute(card.path)
    if card.implicit is not None:
        found["implicit"] = card.implicit.model_copy(update={"reference": absolute(card.implicit.reference)})
    if card.ensemble is not None:
        members = tuple(map(absolute, card.ensemble.members))
        found["ensemble"] = card.ensemble.model_copy(update={"members": members})
    if card.vllm is not None and "/" in card.vllm.python:
        python = path.parent.absolute() / card.vllm.python  # not resolved: a link is what makes an environment of it
        found["vllm"] = card.vllm.model_copy(update={"python": str(python)})
    return card.model_copy(update=found)


def _error(path: Path, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *tables, name = first["loc"]
        near = nearest(str(name), keys_at(Card, tuple(tables)))
        return ConfigError(f"{path}: unknown field {field!r}{near}", field=field)
    what = f"field {field!r}: " if field else ""
    return ConfigError(f"{path}: {what}{first['msg'].removeprefix('Value error, ')}", field=field)
