"""What an operator states about a judge: its endpoints, its rubric and its limits."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _plain_http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected an http or https URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a judge's URL has no credentials, query or fragment; name the key with api_key_env")
    return url.rstrip("/")


class Endpoint(BaseModel):
    """An OpenAI-compatible server. ``url`` is its base, such as ``http://127.0.0.1:8000/v1``.

    ``model`` is the name to ask for; empty leaves the choice to the server. ``api_key_env`` is the
    NAME of the environment variable that holds the key; the key itself never stands in a configuration.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(_plain_http)]
    model: str = ""
    api_key_env: str = Field(default="", pattern=r"^[A-Za-z_0-9]*$")


class JudgeSettings(BaseModel):
    """One judge: a rubric asked of equivalent endpoints.

    ``rubric`` is a built-in's name or the path of a Python file that defines ``RUBRIC``. ``timeout_s``
    bounds one upstream call, ``attempts`` the calls for one question. Of all calls at most
    ``retry_burst`` plus ``retry_ratio`` of the questions are retries, re-asked verdicts included.
    Requests and tokens per minute are shared by all callers; 0 is no limit.
    ``vision`` sends the group's images. ``max_chars`` bounds each piece of text shown to the judge, ``max_image_bytes``
    all images that are shown with one question.
    ``structured`` asks for a reply that is held to a JSON schema, where the endpoint offers it;
    ``reasoning_chars`` bounds the reasoning in that schema, so that the verdict fits (0 leaves the bound
    out, for endpoints that do not know ``maxLength``). ``hedge_after_s`` puts a question that waits so long
    to a second endpoint too, where one is free and a retry is left; 0 is never. ``prompt_price`` and
    ``completion_price`` are per million tokens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="judge", pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")
    endpoints: tuple[Endpoint, ...] = Field(min_length=1, max_length=64)
    rubric: str = "quality"
    temperature: float = Field(default=0.0, ge=0, le=2)
    max_tokens: int = Field(default=512, ge=1, le=32_768)
    concurrency: int = Field(default=64, ge=1, le=4096)
    requests_per_minute: int = Field(default=0, ge=0)
    tokens_per_minute: int = Field(default=0, ge=0)
    queue: int = Field(default=4096, ge=0)
    timeout_s: float = Field(default=30.0, gt=0, le=600)
    attempts: int = Field(default=3, ge=1, le=5)
    retry_ratio: float = Field(default=0.1, ge=0, le=0.2)
    retry_burst: int = Field(default=10, ge=0, le=1000)
    max_reply_bytes: int = Field(default=1_000_000, ge=1_000, le=16_000_000)
    max_chars: int = Field(default=100_000, ge=1, le=1_000_000)
    max_image_bytes: int = Field(default=20 * 2**20, ge=1, le=2**28)
    vision: bool = False
    structured: bool = False
    reasoning_chars: int = Field(default=0, ge=0, le=1_000_000)
    hedge_after_s: float = Field(default=0.0, ge=0, le=600)
    prompt_price: float = Field(default=0.0, ge=0)
    completion_price: float = Field(default=0.0, ge=0)
