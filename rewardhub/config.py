"""The hub's configuration: TOML, then environment, then command line; unknown keys are errors.

``REWARDHUB_HTTP=0.0.0.0:80`` in the environment sets ``http``. Scorers, judges, models and keys are lists
of small tables.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rewardhub.errors import ConfigError, nearest

PREFIX = "REWARDHUB_"
# Read by the command line, the client, adapters and tests, not by the hub.
_OTHER_VARIABLES = frozenset(
    f"REWARDHUB_{name}"
    for name in ("DATA", "URL", "API_KEY", "CONFIG", "RECIPE", "VLLM_PYTHON", "PEERS_PYTHON", "RAY_PYTHON")
)


class HubConfig(BaseModel):
    """Everything an operator can set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: str = "127.0.0.1:8080"
    grpc: str = "127.0.0.1:8081"
    redis: str = ""
    redis_ttl_s: int = Field(default=86_400, ge=1)
    workers: int = Field(default=0, ge=0, description="verifier processes; 0 is one per core")
    worker_memory_mb: int = Field(default=2_048, ge=256)
    sandbox_slots: int = Field(default=0, ge=0, description="programs at once; 0 is one per core")
    allow_weak_sandbox: bool = Field(default=False, description="run programs below full isolation too")
    sandbox_url: str = Field(default="", description="/run_code of a SandboxFusion server that runs programs instead")
    pool_queue: int = Field(default=100_000, ge=1, description="responses")
    model_queue: int = Field(default=4_096, ge=1, description="responses per model")
    in_hand: int = Field(default=400_000, ge=1, description="responses of all calls; further calls are refused unread")
    cache_mb: int = Field(default=256, ge=0)
    media_mb: int = Field(default=1_024, ge=1)
    media_ttl_s: int = Field(default=3_600, ge=1)
    media_fetch: tuple[str, ...] = Field(default=(), description="hosts: name, *.name, or * for public ones")
    media_fetch_networks: tuple[str, ...] = Field(default=(), description="of them, networks that are not public")
    media_fetch_s: float = Field(default=10.0, gt=0, description="for one fetch with its redirects")
    deadline_ms: int = Field(default=60_000, ge=1, description="for calls that name none")
    open_group_s: float = Field(default=600.0, gt=0, description="life of an open group without news")
    grace_s: float = Field(default=30.0, ge=0, description="for work in flight on SIGTERM")
    reward_log: str = ""
    reward_log_texts: bool = False
    plugins: tuple[Path, ...] = ()
    recipes: tuple[Path, ...] = ()
    cards: tuple[Path, ...] = ()
    judges: tuple[dict[str, Any], ...] = Field(default=(), description="see judges/settings.py")
    panels: tuple[dict[str, Any], ...] = Field(default=(), description="of judges, see judges/panel.py")
    server: dict[str, Any] = Field(default_factory=dict, description="keys, limits, tls: see server/settings.py")


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
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        source = origins.get(str(first["loc"][0]), "")
        raise ConfigError(f"{source}: {name}: {first['msg']}", field=name) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}", field="config") from None
    for key in ("plugins", "recipes", "cards"):
        if key in data:
            data[key] = [path.parent / each for each in data[key]]
    return data


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    named = {key: value for key, value in environ.items() if key.startswith(PREFIX) and key not in _OTHER_VARIABLES}
    return {key.removeprefix(PREFIX).lower(): _decoded(value) for key, value in named.items()}


def _decoded(value: str) -> Any:
    """Lists and tables are written as JSON."""
    if value[:1] in {"[", "{"}:
        return json.loads(value)
    return value
