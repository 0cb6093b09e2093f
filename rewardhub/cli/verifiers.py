"""Commands about verifiers of one's own."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rewardhub.cli.options import reported

app = typer.Typer(no_args_is_help=True, help="Verifiers of one's own.")


@app.callback()
def _group() -> None:
    """Verifiers of one's own."""


@app.command("check")
@reported
def check(file: Annotated[Path, typer.Argument(help="Python file with @verifier functions")]) -> None:
    """Runs the contract battery on the verifiers of a file."""
    from rewardhub.battery import check_file

    report = check_file(file)
    sys.stdout.write(report.table() + "\n")
    if not report.ok:
        raise typer.Exit(1)
