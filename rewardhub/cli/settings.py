"""Commands about the configuration."""

import sys

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rewardhub.cli.options import Config, effective_config, reported, server_settings

app = typer.Typer(no_args_is_help=True, help="The effective configuration.")


@app.command("show")
@reported
def show(config: Config = None) -> None:
    """Prints each effective value and where it came from."""
    from rewardhub.config import load_config

    values, origins = load_config(config)
    table = Table("key", "value", "from")
    for key, origin in origins.items():
        table.add_row(*map(escape, (key, _shown(str(getattr(values, key))), origin)))
    Console().print(table)


@app.command("check")
@reported
def check(config: Config = None) -> None:
    """Ends with 0 when the configuration, its cards, recipes, plugins, judges, addresses, keys and certificates are
    usable. Makes and starts nothing.
    """
    from rewardhub.assembly import make_hub
    from rewardhub.server.serving import check

    effective = effective_config(config, {})
    check(server_settings(effective.server), effective.http, effective.grpc)
    make_hub(effective).book.compile_own()
    sys.stdout.write("ok\n")


def _shown(value: str) -> str:
    """A setting without the password of a URL in it, which may stand before the host or in the query."""
    scheme, mark, rest = value.partition("://")
    if not mark:
        return value
    rest, query, _ = rest.partition("?")
    host = f"***@{rest.rpartition('@')[2]}" if "@" in rest else rest
    return f"{scheme}://{host}{query and '?***'}"
