"""Where an adapter finds its hub; one client per hub and settings in a process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from rewardhub.client import AsyncClient, Client
from rewardhub.client.failure import OnFailure
from rewardhub.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Target:
    """A recipe of a hub, and how to ask for it."""

    url: str
    recipe: str
    api_key: str | None
    timeout_s: float
    on_failure: OnFailure

    def client(self) -> Client:
        return _client(self.url, self.api_key, self.timeout_s, self.on_failure)

    def async_client(self) -> AsyncClient:
        return _async_client(self.url, self.api_key, self.timeout_s, self.on_failure)


def target(
    recipe: str = "",
    url: str = "",
    api_key: str | None = None,
    timeout_s: float = 120.0,
    on_failure: OnFailure = "raise",
) -> Target:
    """What was given, else what the environment says; raises ``InvalidInput`` where neither does."""
    return Target(
        url=url or _named("REWARDHUB_URL", "url"),
        recipe=recipe or _named("REWARDHUB_RECIPE", "recipe"),
        api_key=api_key or os.environ.get("REWARDHUB_API_KEY"),
        timeout_s=timeout_s,
        on_failure=on_failure,
    )


def target_of(options: Mapping[str, Any]) -> Target:
    """The target in a trainer's keyword arguments; others that the trainer adds are passed over."""
    names = ("recipe", "url", "api_key", "timeout_s", "on_failure")
    return target(**{name: options[name] for name in names if options.get(name) is not None})


def _named(variable: str, field: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise InvalidInput(f"no {field}: give {field}=… or set {variable}", field=field)
    return value


@cache
def _client(url: str, api_key: str | None, timeout_s: float, on_failure: OnFailure) -> Client:
    return Client(url, api_key=api_key, timeout_s=timeout_s, on_failure=on_failure)


@cache
def _async_client(url: str, api_key: str | None, timeout_s: float, on_failure: OnFailure) -> AsyncClient:
    return AsyncClient(url, api_key=api_key, timeout_s=timeout_s, on_failure=on_failure)
