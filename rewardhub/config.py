"""The hub's configuration: TOML, then environment, then command line; unknown keys are errors.

``REWARDHUB_HTTP=0.0.0.0:80`` in the environment sets ``http``. Scorers, judges, models and keys are lists
of small tables. A path in a file is relative to that file, one of the environment or the command line to the working
directory.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rewardhub.errors import ConfigError, nearest

PREFIX = "REWARDHUB_"
# Read by the command line, the client, adapters and tests, not by the hub.
_OTHER_VARIABLES = frozenset(
    f"REWARDHUB_{name}"
    for name in ("DATA", "URL", "API_KEY", "CONFIG", "RECIPE", "VLLM_PYTHON", "PEERS_PYTHON", "RAY_PYTHON")
)


_PATHS = (
    ("plugins", "*"),
    ("recipes", "*"),
    ("cards", "*"),
    ("reward_log",),
    ("judges", "*", "rubric"),
    ("server", "tls", "cert"),
    ("server", "tls", "key"),
    ("server", "tls", "client_ca"),
)


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")  # noqa: TRY004 - what pydantic reports
    return value


def _http_or_none(url: str) -> str:
    parts = urlsplit(url)
    if url and not (parts.scheme in {"http", "https"} and parts.hostname):
        raise ValueError("expected an http or https URL")
    return url


Count = Annotated[int, BeforeValidator(_no_truth), Field(ge=0, lt=2**31)]
"""A whole number, which what it is handed to holds in 32 bits."""
Processes = Annotated[Count, Field(le=4_096)]
Seconds = Annotated[float, BeforeValidator(_no_truth)]


class HubConfig(BaseModel):
    """Everything an operator can set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: str = "127.0.0.1:8080"
    grpc: str = "127.0.0.1:8081"
    redis: str = Field(default="", description="redis://, rediss:// or unix:// URL of one server or proxy, no cluster")
    redis_ttl_s: Count = Field(default=86_400, ge=1)
    workers: Processes = Field(default=0, description="verifier processes; 0 is one per core")
    worker_memory_mb: Count = Field(default=2_048, ge=256)
    sandbox_slots: Processes = Field(default=0, description="programs at once; 0 is one per core")
    allow_weak_sandbox: bool = Field(default=False, description="run programs below full isolation too")
    sandbox_url: Annotated[str, AfterValidator(_http_or_none)] = Field(
        default="", description="/run_code of a SandboxFusion server that runs programs instead"
    )
    pool_queue: Count = Field(default=100_000, ge=1, description="responses")
    model_queue: Count = Field(default=4_096, ge=1, description="responses per model")
    in_hand: Count = Field(default=400_000, ge=1, description="responses of all calls; further ones are refused unread")
    cache_mb: Count = 256
    media_mb: Count = Field(default=1_024, ge=1)
    media_tenant_mb: Count = Field(default=0, description="of them for one tenant at most; 0 is all")
    media_ttl_s: Count = Field(default=3_600, ge=1)
    media_fetch: tuple[str, ...] = Field(default=(), description="hosts: name, *.name, or * for public ones")
    media_fetch_networks: tuple[str, ...] = Field(default=(), description="of them, networks that are not public")
    media_fetch_s: Seconds = Field(default=10.0, gt=0, description="for one fetch with its redirects")
    deadline_ms: Count = Field(default=60_000, ge=1, description="for calls that name none")
    open_group_s: Seconds = Field(default=600.0, gt=0, description="life of an open group whose call names no deadline")
    grace_s: Seconds = Field(default=30.0, ge=0, description="for work in flight on SIGTERM")
    reward_log: str = ""
    reward_log_texts: bool = False
    plugins: tuple[Path, ...] = ()
    recipes: tuple[Path, ...] = ()
    cards: tuple[Path, ...] = ()
    judges: tuple[dict[str, Any], ...] = Field(default=(), description="see judges/settings.py")
    panels: tuple[dict[str, Any], ...] = Field(default=(), description="of judges, see judges/panel.py")
    server: dict[str, Any] = Field(default_factory=dict, description="keys, limits, tls: see server/settings.py")


_EXPECTED = {
    "string_type": "expected a text",
    "tuple_type": "expected a list",
    "frozen_set_type": "expected a list",
    "dict_type": "expected a table",
    "model_type": "expected a table",
    "path_type": "expected a path",
}
"""In TOML's words; where one is missing, pydantic's own."""


def load_config(
    path: Path | None = None, flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[HubConfig, dict[str, str]]:
    """The effective configuration and, per field, where its value came from."""
    origins = dict.fromkeys(HubConfig.model_fields, "default")
    values: dict[str, Any] = {}
    for source, given in (
        (str(path), _read(path) if path else {}),
        ("environment", _from_environment(os.environ if environ is None else environ)),
        ("command line", {key: value for key, value in (flags or {}).items() if value is not None}),
    ):
        for key in given:
            if key not in HubConfig.model_fields:
                raise ConfigError(f"{source}: unknown key {key!r}{nearest(key, HubConfig.model_fields)}", field=key)
            origins[key] = source
        values |= given
    try:
        return HubConfig.model_validate(values), origins
    except ValidationError as error:
        source = origins.get(str(error.errors()[0]["loc"][0]), "")
        fault = first_fault(HubConfig, error)
        raise ConfigError(f"{source}: {fault.message}", field=fault.field) from None


def first_fault(model: type[BaseModel], error: ValidationError, *at: str | int) -> ConfigError:
    """What is wrong in a table of ``model`` that stands at ``at``; an unknown key comes with the nearest known one."""
    first = error.errors(include_input=False)[0]
    field = ".".join(map(str, [*at, *first["loc"]]))
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        return ConfigError(
            f"{field}: unknown key {key!r}{nearest(key, keys_at(model, first['loc'][:-1]))}", field=field
        )
    reason = _EXPECTED.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{field}: {reason}", field=field)


def keys_at(model: type[BaseModel], path: tuple[str | int, ...]) -> Iterator[str]:
    """The keys of the table at ``path``; places in lists and names that an operator chose lead no further."""
    for part in path:
        if field := model.model_fields.get(str(part)):
            model = next(_models(field.annotation), model)
    yield from model.model_fields


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError.of_file(path, error, "config") from None
    for place in _PATHS:
        data = _beside(path.parent, data, place)
    return data


def _beside(folder: Path, value: Any, place: tuple[str, ...]) -> Any:
    """The value with its path at ``place`` made one from ``folder``; what is of the wrong kind stays."""
    if not place:
        return str(folder / value) if isinstance(value, str) and value else value
    key, *rest = place
    if key == "*" and isinstance(value, list):
        return [_beside(folder, each, tuple(rest)) for each in value]
    if not isinstance(value, dict) or key not in value:
        return value
    if key == "rubric" and not str(value[key]).endswith(".py"):  # the name of a built-in
        return value
    return value | {key: _beside(folder, value[key], tuple(rest))}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    named = {key: value for key, value in environ.items() if key.startswith(PREFIX) and key not in _OTHER_VARIABLES}
    return {key.removeprefix(PREFIX).lower(): _decoded(key, value) for key, value in named.items()}


def _decoded(key: str, value: str) -> Any:
    """Lists and tables are written as JSON."""
    if value[:1] not in {"[", "{"}:
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ConfigError(f"environment: {key} is no JSON: {error}", field=key) from None
