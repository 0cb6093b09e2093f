"""The bodies of the REST door as OpenAPI describes them. Requests are read by ``rewardhub.wire``, not by these."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rewardhub.types import Blame, Space, Status

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Natural = Annotated[int, Field(ge=0, lt=2**31)]


def _or_null(schema: dict[str, Any]) -> None:
    """Says of every field that may be missing that null is the same."""
    about = ("title", "description", "default", "examples")
    for name, field in schema["properties"].items():
        kinds = {key: value for key, value in field.items() if key not in about}
        if name not in schema.get("required", ()) and {"type": "null"} not in field.get("anyOf", ()):
            rest = {key: value for key, value in field.items() if key in about}
            schema["properties"][name] = {"anyOf": [*kinds.pop("anyOf", [kinds]), {"type": "null"}], **rest}


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra=_or_null)


class MediaLine(_Closed):
    """An image by its hash, as base64 or by an address, or a video as the hashes of its frames."""

    sha256: Sha256 | None = None
    data: str | None = Field(None, description="the bytes in base64")
    kind: Literal["image", "video"] = "image"
    width: Natural = Field(0, description="declared pixels; 0 is not declared")
    height: Natural = 0
    space: Space = Field(Space.PIXEL, description="the space that boxes and points are written in")
    frames: list[Sha256] = []
    fps: float = 0.0
    url: str = Field("", description="fetched where the hub's operator allows it")


class ResponseLine(_Closed):
    """One candidate; a bare string is its text."""

    text: str = ""
    messages: list[dict[str, Any]] = Field([], description="chat messages of a trajectory")
    tokens: Natural | None = None
    signals: dict[str, float] = Field({}, description="numbers that the trainer knows")
    steps: list[tuple[int, int]] = Field([], description="half-open character spans of the text")
    media: list[MediaLine] = []


class GroupLine(_Closed):
    """One prompt with its media and reference, and the responses sampled for it."""

    id: str | int | None = Field(None, description="the position in the request where it is missing")
    prompt: str | list[dict[str, Any]] | None = Field("", description="text or chat messages")
    media: list[MediaLine] = []
    reference: str | dict[str, Any] | None = Field(None, description="what the scorers need; text means answer")
    responses: list[str | ResponseLine] = []
    problem_type: str = ""
    recipe: str = Field("", description="wins over the recipe of the request")
    metadata: dict[str, Any] = {}
    expected: Natural = Field(0, description="responses that come under this id in all; 0 is a whole group")
    lost: Natural = Field(0, description="responses of the group that cannot be sent")


class ScoreBody(_Closed):
    """Groups, and how to score them."""

    recipe: str = Field("", examples=["math"])
    groups: list[GroupLine] = Field(description="each answered by itself: one that is malformed loses no other")
    run: str = Field("", description="the training run; pins the recipe's fingerprint at first use")
    step: int | None = None
    policy_version: str = ""
    inputs: dict[str, float] = Field({}, description="numbers that recipes read")
    deadline_ms: Natural = Field(0, description="from receipt; 0 is the hub's default")
    cache: Literal["use", "bypass", "read_only", "refresh"] = "use"
    priority: Literal["online", "bulk"] = "online"
    details: bool = True
    repin: bool = Field(False, description="accept the recipe's present fingerprint for this run")
    recipe_text: str = Field("", description="an inline recipe in YAML, of registered scorers")


class ScoreRow(BaseModel):
    """The score of one response, or of one part of it."""

    value: float | None
    status: Status
    blame: Blame
    retryable: bool
    confidence: float | None
    parts: dict[str, "ScoreRow"]
    steps: list[float | None]
    details: dict[str, Any]
    fingerprint: str
    cached: bool


class TimingsLine(BaseModel):
    """Milliseconds."""

    queue_ms: float
    run_ms: float
    total_ms: float


class ScoreLine(BaseModel):
    """The scores of a group; ``indices`` are the responses that the rows belong to."""

    id: str
    scores: list[ScoreRow]
    indices: list[int]
    complete: bool
    timings: TimingsLine


class ScoreReply(BaseModel):
    """One line per group, in request order, whatever their statuses."""

    groups: list[ScoreLine]


class MediaReply(BaseModel):
    sha256: Sha256
    bytes: int


class ScorerLine(BaseModel):
    name: str
    family: Literal["verifier", "reward_model", "judge", "recipe"]
    scope: Literal["response", "pair", "group"]
    fingerprint: str
    cost: Literal["cheap", "dear"]
    deterministic: bool
    ready: bool
    summary: str


class ScorersReply(BaseModel):
    scorers: list[ScorerLine]
    version: str


class ReloadReply(BaseModel):
    """Names of scorers and recipes, and of changed fields of the configuration that hold after a restart only."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    restart: list[str]


class LifeReply(BaseModel):
    status: Literal["ok"]


class ReadyReply(BaseModel):
    """``reasons`` and ``isolation_level``, of programs, are shown to callers with a key, and to all where no
    keys are configured.
    """

    ready: bool
    reasons: list[str]
    isolation_level: str = ""


class ErrorDetail(BaseModel):
    code: str
    message: str
    field: str
    retryable: bool


class ErrorReply(BaseModel):
    """Why the request as a whole was not answered."""

    error: ErrorDetail
