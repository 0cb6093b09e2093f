"""Commands that score: ``serve`` and ``score``, and the list of scorers."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rewardhub.cli.options import (
    ApiKey,
    Cards,
    Config,
    Inputs,
    JudgeModel,
    JudgeUrl,
    Plugins,
    RecipeFiles,
    Url,
    effective_config,
    folder_for,
    numbers,
    progress,
    recipe_book,
    reported,
    rewards,
    server_settings,
)
from rewardhub.client import Client, read_group_file
from rewardhub.errors import InvalidInput
from rewardhub.types import Call, Group, GroupScores, Rewards
from rewardhub.wire.lines import dumps, scores_to_json, to_bytes


@reported
def serve(
    http: Annotated[str | None, typer.Option(help="REST address; port 0 takes a free one")] = None,
    grpc: Annotated[str | None, typer.Option(help="gRPC address")] = None,
    redis: Annotated[str | None, typer.Option(help="redis://host:port/db for scores shared between hubs")] = None,
    config: Config = None,
    card: Cards = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = "",
    reward_log: Annotated[str | None, typer.Option(help="JSONL file of what was scored")] = None,
    allow_weak_sandbox: Annotated[
        bool | None, typer.Option("--allow-weak-sandbox", help="run programs below full isolation too")
    ] = None,
) -> None:
    """Starts the hub; SIGTERM drains it and ends with 0."""
    import uvloop

    from rewardhub import logs, tracing
    from rewardhub.assembly import make_hub
    from rewardhub.reload import Reload
    from rewardhub.server.serving import serve as serve_hub

    flags = {
        "http": http,
        "grpc": grpc,
        "redis": redis,
        "reward_log": reward_log,
        "allow_weak_sandbox": allow_weak_sandbox,
    }

    def read() -> Any:
        return effective_config(config, flags, card, plugin, recipe_file, judge_url, judge_model)

    effective = read()
    logs.configure()
    logs.take_hooks()
    tracing.configure()

    async def main() -> None:
        hub = make_hub(effective)
        hub.reloader = Reload(hub, effective, read)
        await serve_hub(
            hub, effective.http, effective.grpc, settings=server_settings(effective.server), grace_s=effective.grace_s,
            reread=lambda: server_settings(read().server),
        )  # fmt: skip

    uvloop.run(main())


@reported
def score(
    file: Annotated[Path, typer.Argument(help="group file: one JSON object per line")],
    recipe: Annotated[str, typer.Option(help="recipe or scorer; a group's own recipe wins")] = "",
    out: Annotated[Path | None, typer.Option(help="score lines; standard output by default")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    run: Annotated[str, typer.Option(help="training run that pins the recipe")] = "",
    deadline_ms: Annotated[int, typer.Option(help="per group; 0 is the hub's default", min=0, max=2**31 - 1)] = 0,
    inputs: Inputs = None,
    config: Config = None,
    card: Cards = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = "",
) -> None:
    """Scores a group file, in this process or at --url; a line per group, in input order."""
    groups = list(read_group_file(file))
    if out and out.is_dir():
        raise InvalidInput(f"--out: {out} is a folder", field="out")
    if out and not out.exists():
        folder_for(out.parent)
    elif out and not os.access(out, os.W_OK):
        raise InvalidInput(f"--out: {out} cannot be written", field="out")
    call = Call(recipe=recipe, run=run, deadline_ms=deadline_ms, inputs=numbers(inputs))
    with rewards(url, api_key, (config, {}, card, plugin, recipe_file, judge_url, judge_model)) as hub:
        lines = _in_order(groups, hub, call)
    text = b"".join(to_bytes(scores_to_json(scores)) + b"\n" for scores in lines)
    if out is None:
        sys.stdout.buffer.write(text)
        return
    try:
        out.write_bytes(text)
    except OSError as error:
        raise InvalidInput(f"--out: {out} cannot be written: {error.strerror}", field="out") from None


@reported
def scorers(
    url: Url = None,
    api_key: ApiKey = None,
    config: Config = None,
    card: Cards = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object per line")] = False,
) -> None:
    """Lists scorers and recipes, of this installation or of the hub at --url."""
    if url:
        with Client(url, api_key=api_key) as client:
            rows: Sequence[Any] = client.scorers()
    else:
        rows = recipe_book(effective_config(config, {}, card, plugin, recipe_file)).listing()
    if as_json:
        sys.stdout.write("".join(dumps(dict(row)) + "\n" for row in rows))
        return
    table = Table("name", "family", "scope", "summary")
    for row in rows:
        table.add_row(*(escape(str(row[key])) for key in ("name", "family", "scope", "summary")))
    Console().print(table)


def _in_order(groups: list[Group], hub: Rewards, call: Call) -> list[GroupScores]:
    found: dict[str, GroupScores] = {}
    with progress() as bars:
        bar = bars.add_task("groups", total=len(groups))
        for scores in hub.stream(iter(groups), call):
            found[scores.id] = scores
            bars.advance(bar)
    return [found[group.id] for group in groups]
