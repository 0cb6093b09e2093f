"""Commands that train and benchmark, and the demo of all of them."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from rewardhub.cli.options import (
    ApiKey,
    Cards,
    Config,
    JudgeModel,
    JudgeUrl,
    Plugins,
    RecipeFiles,
    Url,
    folder_for,
    progress,
    reported,
    rewards,
)
from rewardhub.client import Client
from rewardhub.errors import UnknownName
from rewardhub.types import Call, Rewards


@reported
def bench(
    name: Annotated[
        str, typer.Argument(help="judgebench, rm_bench, … (any other name lists them), or `pairs` for one's own JSONL")
    ],
    data: Annotated[Path, typer.Option(help="file or folder of the benchmark")],
    scorer: Annotated[str, typer.Option(help="recipe, or a control: length, shortest, random")],
    out: Annotated[Path, typer.Option(help="folder of the report")] = Path("out/bench"),
    limit: Annotated[int, typer.Option(help="first items of each split; 0 is all", min=0)] = 0,
    url: Url = None,
    api_key: ApiKey = None,
    config: Config = None,
    card: Cards = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = "",
) -> None:
    """Benchmarks a scorer on a preference set, beside controls, with intervals."""
    from rewardhub.bench.controls import CONTROLS, control
    from rewardhub.bench.runner import run

    call = Call(recipe=scorer)
    folder_for(out)
    with progress() as bars:
        bar = bars.add_task(name, total=None)

        def tell(done: int, total: int) -> None:
            bars.update(bar, completed=done, total=total)

        if scorer in CONTROLS:
            report = run(name, data, control(scorer), call, out=out, limit=limit, progress=tell)
        else:
            with rewards(url, api_key, (config, {}, card, plugin, recipe_file, judge_url, judge_model)) as hub:
                scope = _scope(hub, scorer, CONTROLS)
                report = run(name, data, hub, call, out=out, limit=limit, scope=scope, progress=tell)
    sys.stdout.write(report.text() + "\n")


@reported
def train_rm(
    config: Annotated[Path, typer.Argument(help="TOML file of the training")],
    out: Annotated[Path, typer.Option(help="folder of the checkpoint and its card")] = Path("out/rm"),
) -> None:
    """Trains a reward model on preference pairs and exports it with its card, ready to serve."""
    from rewardhub.reward_modeling import run

    sys.stdout.write(run(config, folder_for(out)).summary() + "\n")


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
        result = run(config, hub, folder_for(out))
    sys.stdout.write(result.summary() + "\n")


@reported
def demo(out: Annotated[Path, typer.Option(help="folder of everything it makes")] = Path("out/demo")) -> None:
    """Trains a reward model, serves it, scores with it, trains a policy and benchmarks: minutes on two cores."""
    from rewardhub.demo import run

    run(folder_for(out))


def _scope(hub: Rewards, scorer: str, controls: Iterable[str]) -> Any:
    """The scope of a scorer, ``response`` for a recipe; raises ``UnknownName``."""
    listed = hub.scorers() if isinstance(hub, Client) else hub.hub.scorers()  # type: ignore[attr-defined]
    rows = {row["name"]: row for row in listed}
    if scorer not in rows:
        raise UnknownName("scorer", scorer, [*rows, *controls], field="scorer")
    return rows[scorer]["scope"] if rows[scorer]["family"] != "recipe" else "response"
