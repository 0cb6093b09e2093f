"""What commands share: their common options, the effective configuration, a hub to ask, errors as exit codes."""

import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress

from rewardhub.client import Client
from rewardhub.errors import (
    Forbidden,
    HubUnreachable,
    InvalidInput,
    PinMismatch,
    RewardHubError,
    TooLarge,
    Unauthenticated,
)
from rewardhub.types import Rewards

console = Console(stderr=True)

F = TypeVar("F", bound=Callable[..., Any])
Config = Annotated[Path | None, typer.Option("--config", help="TOML file", envvar="REWARDHUB_CONFIG")]
Cards = Annotated[list[Path] | None, typer.Option("--card", help="card of a reward model; may be repeated")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file of verifiers; may be repeated")]
RecipeFiles = Annotated[list[Path] | None, typer.Option("--recipe-file", help="YAML recipe; may be repeated")]
JudgeUrl = Annotated[str | None, typer.Option("--judge-url", help="OpenAI-compatible base URL of the judge")]
JudgeModel = Annotated[str, typer.Option("--judge-model", help="the judge's model; empty lets the endpoint choose")]
Inputs = Annotated[
    list[str] | None, typer.Option("--input", help="name=number that the recipe reads as an input; may be repeated")
]
Url = Annotated[str | None, typer.Option("--url", help="hub to ask, http:// or grpc://", envvar="REWARDHUB_URL")]
ApiKey = Annotated[str | None, typer.Option("--api-key", envvar="REWARDHUB_API_KEY", show_envvar=True)]


_OF_THE_CALLER = (InvalidInput, Unauthenticated, Forbidden, PinMismatch, TooLarge)


def reported(command: F) -> F:
    """Turns errors into one line and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except HubUnreachable as error:
            code = 3
            console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        except RewardHubError as error:
            code = 2 if isinstance(error, _OF_THE_CALLER) else 1
            field = "" if error.field in error.message else f"{error.field}: "
            console.print(f"error: {field}{error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(code)

    return run  # type: ignore[return-value]


def progress() -> Progress:
    """A bar on a terminal; nothing in a log."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def folder_for(out: Path) -> Path:
    """Makes the folder ``out`` before any work is done; raises ``InvalidInput`` where it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"--out: {out} cannot be made: {error.strerror}", field="out") from None
    if not os.access(out, os.W_OK):
        raise InvalidInput(f"--out: {out} cannot be written", field="out")
    return out


@contextmanager
def rewards(url: str | None, api_key: str | None, settings: tuple[Any, ...]) -> Iterator[Rewards]:
    """The hub at ``url``, or one in this process."""
    if url:
        with Client(url, api_key=api_key, on_failure="none") as client:
            yield client
        return
    from rewardhub.assembly import make_hub
    from rewardhub.local import LocalHub

    effective = effective_config(*settings)
    with LocalHub(lambda: make_hub(effective)) as hub:
        yield hub


def effective_config(
    path: Path | None,
    flags: dict[str, Any],
    cards: list[Path] | None = None,
    plugins: list[Path] | None = None,
    recipes: list[Path] | None = None,
    judge_url: str | None = None,
    judge_model: str = "",
) -> Any:
    from rewardhub.config import load_config

    given = {"cards": cards, "plugins": plugins, "recipes": recipes}
    if judge_model and not judge_url:
        raise InvalidInput("--judge-model is one of --judge-url, which is missing", field="judge-model")
    if judge_url:
        given["judges"] = [{"name": "judge", "endpoints": [{"url": judge_url, "model": judge_model}]}]  # type: ignore[list-item]
    return load_config(path, flags | given)[0]


def numbers(inputs: list[str] | None) -> dict[str, float]:
    """The numbers of ``name=number`` texts; raises ``InvalidInput``."""
    found: dict[str, float] = {}
    for each in inputs or ():
        name, _, number = each.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = math.nan
        if not name or not math.isfinite(found[name]):
            raise InvalidInput(f"--input {each}: expected name=number", field="input")
    return found


def server_settings(table: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from rewardhub.config import first_fault
    from rewardhub.server.settings import ServerSettings

    try:
        return ServerSettings.model_validate(table)
    except ValidationError as error:
        raise first_fault(ServerSettings, error, "server") from None


def recipe_book(config: Any) -> Any:
    """The recipes of a configuration, with nothing started."""
    from rewardhub.assembly import make_hub

    return make_hub(config).book
