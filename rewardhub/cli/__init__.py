"""The command line: starts hubs, scores files, checks verifiers, trains, benchmarks.

Exit codes: 0 done, 1 a fault of ours, 2 unusable input or key, 3 the hub cannot be reached.
"""

import typer

import rewardhub.cli.environment  # noqa: F401
from rewardhub.cli import judges, models, recipes, scoring, settings, training, verifiers

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.command()(scoring.serve)
app.command()(scoring.score)
app.command()(scoring.scorers)
app.add_typer(recipes.app, name="recipes")
app.add_typer(judges.app, name="judge")
app.add_typer(models.app, name="models")
app.add_typer(settings.app, name="config")
app.add_typer(verifiers.app, name="verifiers")
app.command()(training.bench)
app.command()(training.train_rm)
app.command()(training.grpo)
app.command()(training.demo)
