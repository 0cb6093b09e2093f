"""Commands about reward models."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from rewardhub.cli.options import reported

app = typer.Typer(no_args_is_help=True, help="Reward models.")


@app.callback()
def _group() -> None:
    """Reward models."""


@app.command("drift")
@reported
def drift(
    card: Annotated[Path, typer.Argument(help="the card's file")],
    into_card: Annotated[bool, typer.Option("--write", help="put the figures into the card, table [measured]")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measures how far a card's scores are from those of each response by itself in fp32.

    Both are loaded here, one after the other, and score 96 sample responses to 12 prompts.
    """
    from rewardhub.models import load_card
    from rewardhub.models.drift import measure, write

    found = measure(load_card(card))
    if into_card:
        write(card, found)
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=2) + "\n")
        return
    share = found.largest / found.deviation if found.deviation else 0.0
    sys.stdout.write(
        f"attention   {found.attention or '-'} on {found.device}\n"
        f"scores      {found.scores}, standard deviation {found.deviation:.4g}\n"
        f"drift       largest {found.largest:.3g} ({share:.2%} of the deviation), mean {found.mean:.3g}\n"
        f"order kept  {found.order_kept:.2%} of pairs over 5 % of the deviation apart\n"
    )
