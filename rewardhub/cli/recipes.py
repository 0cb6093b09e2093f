"""Commands about recipes."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from rewardhub.cli.options import (
    Cards,
    Config,
    Inputs,
    Plugins,
    RecipeFiles,
    effective_config,
    numbers,
    recipe_book,
    reported,
)
from rewardhub.client import read_group_file
from rewardhub.types import Call

app = typer.Typer(no_args_is_help=True, help="The recipes that a hub knows.")


@app.command("list")
@reported
def list_(config: Config = None, plugin: Plugins = None, recipe_file: RecipeFiles = None) -> None:
    """Names every recipe; each scorer is one by its own name."""
    sys.stdout.write("\n".join(recipe_book(effective_config(config, {}, None, plugin, recipe_file)).names()) + "\n")


@app.command("show")
@reported
def show(name: str, config: Config = None, plugin: Plugins = None, recipe_file: RecipeFiles = None) -> None:
    """Prints a recipe as it is understood, and its fingerprint."""
    plan = recipe_book(effective_config(config, {}, None, plugin, recipe_file)).plan(name)
    shown = plan.recipe.model_dump(by_alias=True, exclude_defaults=True)
    sys.stdout.write(json.dumps(shown | {"fingerprint": plan.fingerprint}, indent=2) + "\n")


@app.command("check")
@reported
def check(
    names: Annotated[list[str] | None, typer.Argument(help="recipes; all by default")] = None,
    every: Annotated[bool, typer.Option("--all", help="all recipes, whatever is named")] = False,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
) -> None:
    """Runs the worked examples that recipes carry, and counts the covered rows; ends with 0 when none fails."""
    from rewardhub.recipe_check import check_recipes

    chosen = names if names and not every else []
    report = check_recipes(effective_config(None, {}, None, plugin, recipe_file), chosen)
    sys.stdout.write(report.text() + "\n")
    if report.failures:
        raise typer.Exit(1)


@app.command("table")
@reported
def table_() -> None:
    """Prints the catalogue's rows and their state as Markdown, the text of rewardhub/recipes/CATALOGUE.md."""
    from rewardhub.recipe_book import catalogue
    from rewardhub.recipes.coverage import table
    from rewardhub.registry import builtin_registry

    sys.stdout.write(table(catalogue(), builtin_registry().names()))


@app.command("explain")
@reported
def explain_(
    file: Annotated[Path, typer.Argument(help="group file")],
    recipe: Annotated[str, typer.Option(help="recipe; a group's own recipe wins")] = "",
    inputs: Inputs = None,
    config: Config = None,
    card: Cards = None,
    plugin: Plugins = None,
    recipe_file: RecipeFiles = None,
) -> None:
    """Prints each wave, term, let and value for every group of a file."""
    from rewardhub.recipe_check import explain

    groups, call = list(read_group_file(file)), Call(recipe=recipe, inputs=numbers(inputs))
    for text in explain(effective_config(config, {}, card, plugin, recipe_file), groups, call):
        sys.stdout.write(text + "\n")
