"""The command line: starts hubs, scores files, checks verifiers, trains, benchmarks.

Exit codes: 0 done, 1 a fault of ours, 2 unusable input, 3 the hub cannot be reached.
"""

import functools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rewardhub.client import Client, read_group_file
from rewardhub.errors import HubUnreachable, InvalidInput, RewardHubError
from rewardhub.types import Call, Group, GroupScores, Rewards
from rewardhub.wire.lines import dumps, scores_to_json

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
recipes_app = typer.Typer(no_args_is_help=True, help="The recipes that a hub knows.")
config_app = typer.Typer(no_args_is_help=True, help="The effective configuration.")
verifiers_app = typer.Typer(no_args_is_help=True, help="Verifiers of one's own.")
app.add_typer(recipes_app, name="recipes")
app.add_typer(config_app, name="config")
app.add_typer(verifiers_app, name="verifiers")
console = Console(stderr=True)

F = TypeVar("F", bound=Callable[..., Any])
Config = Annotated[Path | None, typer.Option("--config", help="TOML file", envvar="REWARDHUB_CONFIG")]
Cards = Annotated[list[Path] | None, typer.Option("--card", help="card of a reward model; may be repeated")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file of verifiers; may be repeated")]
RecipeFiles = Annotated[list[Path] | None, typer.Option("--recipe-file", help="YAML recipe; may be repeated")]
JudgeUrl = Annotated[str | None, typer.Option("--judge-url", help="OpenAI-compatible base URL of the judge")]
JudgeModel = Annotated[str, typer.Option("--judge-model", help="the judge's model; empty lets the endpoint choose")]
Url = Annotated[str | None, typer.Option("--url", help="hub to ask, http:// or grpc://", envvar="REWARDHUB_URL")]
ApiKey = Annotated[str | None, typer.Option("--api-key", envvar="REWARDHUB_API_KEY", show_envvar=True)]


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
            code = 2 if isinstance(error, InvalidInput) else 1
            console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(code)

    return run  # type: ignore[return-value]


@app.command()
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

    from rewardhub.assembly import make_hub
    from rewardhub.server.logs import configure as configure_logs
    from rewardhub.server.serving import serve as serve_hub

    flags = {
        "http": http,
        "grpc": grpc,
        "redis": redis,
        "reward_log": reward_log,
        "allow_weak_sandbox": allow_weak_sandbox,
    }
    effective = _config(config, flags, card, plugin, recipe_file, judge_url, judge_model)
    configure_logs()

    async def main() -> None:
        hub = make_hub(effective)
        settings = _server_settings(effective.server)
        await serve_hub(hub, effective.http, effective.grpc, settings=settings, grace_s=effective.grace_s)

    uvloop.run(main())


@app.command()
@reported
def score(
    file: Annotated[Path, typer.Argument(help="group file: one JSON object per line")],
    recipe: Annotated[str, typer.Option(help="recipe or scorer; a group's own recipe wins")] = "",
    out: Annotated[Path | None, typer.Option(help="score lines; standard output by default")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    run: Annotated[str, typer.Option(help="training run that pins the recipe")] = "",
    deadline_ms: Annotated[int, typer.Option(help="per group; 0 is the hub's default", min=0)] = 0,
    config: Config = None,
    card: Cards = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = "",
) -> None:
    """Scores a group file, in this process or at --url; a line per group, in input order."""
    groups = list(read_group_file(file))
    call = Call(recipe=recipe, run=run, deadline_ms=deadline_ms)
    with rewards(url, api_key, (config, {}, card, plugin, recipe_file, judge_url, judge_model)) as hub:
        lines = _in_order(groups, hub, call)
    text = "".join(dumps(scores_to_json(scores)) + "\n" for scores in lines)
    if out is None:
        sys.stdout.write(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")


@app.command()
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
        rows = _book(_config(config, {}, card, plugin, recipe_file)).listing()
    if as_json:
        sys.stdout.write("".join(dumps(dict(row)) + "\n" for row in rows))
        return
    table = Table("name", "family", "scope", "summary")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("name", "family", "scope", "summary")))
    Console().print(table)


@recipes_app.command("list")
@reported
def recipes_list(config: Config = None, plugin: Plugins = None, recipe_file: RecipeFiles = None) -> None:
    """Names every recipe; each scorer is one by its own name."""
    sys.stdout.write("\n".join(_book(_config(config, {}, None, plugin, recipe_file)).names()) + "\n")


@recipes_app.command("show")
@reported
def recipes_show(name: str, config: Config = None, plugin: Plugins = None, recipe_file: RecipeFiles = None) -> None:
    """Prints a recipe as it is understood, and its fingerprint."""
    plan = _book(_config(config, {}, None, plugin, recipe_file)).plan(name)
    shown = plan.recipe.model_dump(by_alias=True, exclude_defaults=True)
    sys.stdout.write(json.dumps(shown | {"fingerprint": plan.fingerprint}, indent=2) + "\n")


@recipes_app.command("check")
@reported
def recipes_check(
    names: Annotated[list[str] | None, typer.Argument(help="recipes; all of the catalogue by default")] = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
) -> None:
    """Runs the worked examples that recipes carry; 0 when none fails."""
    from rewardhub.recipe_check import check_recipes

    report = check_recipes(_config(None, {}, None, plugin, recipe_file), names or [])
    sys.stdout.write(report.text() + "\n")
    if report.failures:
        raise typer.Exit(1)


@recipes_app.command("explain")
@reported
def recipes_explain(
    file: Annotated[Path, typer.Argument(help="group file")],
    recipe: Annotated[str, typer.Option(help="recipe; a group's own recipe wins")] = "",
    config: Config = None,
    card: Cards = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
) -> None:
    """Prints each wave, term, let and value for every group of a file."""
    from rewardhub.recipe_check import explain

    groups = list(read_group_file(file))
    for text in explain(_config(config, {}, card, plugin, recipe_file), groups, Call(recipe=recipe)):
        sys.stdout.write(text + "\n")


@config_app.command("show")
@reported
def config_show(config: Config = None) -> None:
    """Prints each effective value and where it came from."""
    from rewardhub.config import load_config

    values, origins = load_config(config)
    table = Table("key", "value", "from")
    for key, origin in origins.items():
        table.add_row(key, _shown(str(getattr(values, key))), origin)
    Console().print(table)


@config_app.command("check")
@reported
def config_check(config: Config = None) -> None:
    """Ends with 0 when the configuration, its cards, recipes, plugins, judges and keys are usable."""
    from rewardhub.assembly import make_hub

    effective = _config(config, {})
    _server_settings(effective.server)
    make_hub(effective).book.compile_own()
    sys.stdout.write("ok\n")


@verifiers_app.command("check")
@reported
def verifiers_check(file: Annotated[Path, typer.Argument(help="Python file with @verifier functions")]) -> None:
    """Runs the contract battery on the verifiers of a file."""
    from rewardhub.battery import check_file

    report = check_file(file)
    sys.stdout.write(report.table() + "\n")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
@reported
def bench(
    name: Annotated[str, typer.Argument(help="benchmark, or `pairs` for one's own JSONL")],
    data: Annotated[Path, typer.Option(help="file or folder of the benchmark")],
    scorer: Annotated[str, typer.Option(help="recipe, or a control: length, shortest, random")],
    out: Annotated[Path, typer.Option(help="folder of the report")] = Path("out/bench"),
    limit: Annotated[int, typer.Option(help="first items of each split; 0 is all")] = 0,
    url: Url = None,
    api_key: ApiKey = None,
    config: Config = None,
    card: Cards = None,
    plugin: Plugins = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = "",
) -> None:
    """Benchmarks a scorer on a preference set, beside controls, with intervals."""
    from rewardhub.bench.controls import CONTROLS, control
    from rewardhub.bench.runner import run

    call = Call(recipe=scorer)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task(name, total=None)

        def tell(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        if scorer in CONTROLS:
            report = run(name, data, control(scorer), call, out=out, limit=limit, progress=tell)
        else:
            with rewards(url, api_key, (config, {}, card, plugin, None, judge_url, judge_model)) as hub:
                scope = _scope(hub, scorer)
                report = run(name, data, hub, call, out=out, limit=limit, scope=scope, progress=tell)
    sys.stdout.write(report.text() + "\n")


@app.command("train-rm")
@reported
def train_rm(
    config: Annotated[Path, typer.Argument(help="TOML file of the training")],
    out: Annotated[Path, typer.Option(help="folder of the checkpoint and its card")] = Path("out/rm"),
) -> None:
    """Trains a reward model on preference pairs and exports it with its card, ready to serve."""
    from rewardhub.reward_modeling import run

    sys.stdout.write(run(config, out).summary() + "\n")


@app.command()
@reported
def grpo(
    config: Annotated[Path, typer.Argument(help="TOML file of the training")],
    out: Annotated[Path, typer.Option(help="folder of the log, curves and policy")] = Path("out/grpo"),
    url: Url = None,
    api_key: ApiKey = None,
    card: Cards = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
) -> None:
    """Trains a small vision-language policy on rewards streamed from a hub."""
    from rewardhub.grpo.loop import run

    with rewards(url, api_key, (None, {}, card, plugin, recipe_file)) as hub:
        result = run(config, hub, out)
    sys.stdout.write(result.summary() + "\n")


@app.command()
@reported
def demo(out: Annotated[Path, typer.Option(help="folder of everything it makes")] = Path("out/demo")) -> None:
    """Trains a reward model, serves it, scores with it, trains a policy and benchmarks: minutes on two cores."""
    from rewardhub.demo import run

    run(out)


@contextmanager
def rewards(url: str | None, api_key: str | None, settings: tuple[Any, ...]) -> Iterator[Rewards]:
    """The hub at ``url``, or one in this process."""
    if url:
        with Client(url, api_key=api_key, on_failure="none") as client:
            yield client
        return
    from rewardhub.assembly import make_hub
    from rewardhub.local import LocalHub

    effective = _config(*settings)
    with LocalHub(lambda: make_hub(effective)) as hub:
        yield hub


def _in_order(groups: list[Group], hub: Rewards, call: Call) -> list[GroupScores]:
    found: dict[str, GroupScores] = {}
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("groups", total=len(groups))
        for scores in hub.stream(iter(groups), call):
            found[scores.id] = scores
            progress.advance(bar)
    return [found[group.id] for group in groups]


def _scope(hub: Rewards, scorer: str) -> Any:
    listed = hub.scorers() if isinstance(hub, Client) else hub.hub.scorers()  # type: ignore[attr-defined]
    row = next((row for row in listed if row["name"] == scorer), None)
    return row["scope"] if row and row["family"] != "recipe" else "response"


def _config(
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
    if judge_url:
        given["judges"] = [{"name": "judge", "endpoints": [{"url": judge_url, "model": judge_model}]}]  # type: ignore[list-item]
    return load_config(path, flags | given)[0]


def _shown(value: str) -> str:
    """A setting without the password of a URL in it."""
    scheme, mark, rest = value.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if mark and "@" in rest else value


def _server_settings(table: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from rewardhub.errors import ConfigError
    from rewardhub.server.settings import ServerSettings

    try:
        return ServerSettings.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["server", *map(str, first["loc"])])
        raise ConfigError(f"{field}: {first['msg']}", field=field) from None


def _book(config: Any) -> Any:
    """The recipes of a configuration, with nothing started."""
    from rewardhub.assembly import make_hub

    return make_hub(config).book


if __name__ == "__main__":
    app()
