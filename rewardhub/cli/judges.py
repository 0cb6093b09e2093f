"""Commands about judges."""

import asyncio
import json
import sys
import time
from typing import Annotated, Any

import typer

from rewardhub.cli.options import Config, JudgeModel, JudgeUrl, effective_config, reported

app = typer.Typer(no_args_is_help=True, help="Judges.")


@app.callback()
def _group() -> None:
    """Judges."""


@app.command("audit")
@reported
def audit(
    name: Annotated[str, typer.Argument(help="the judge's name")] = "judge",
    config: Config = None,
    judge_url: JudgeUrl = None,
    judge_model: JudgeModel = "",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    limit_s: Annotated[float, typer.Option(help="seconds after which what is unanswered counts as failed")] = 600.0,
) -> None:
    """Asks a judge about canaries and prints how often it is fooled: some 200 calls.

    Every rate should be near 0 but right_accepted, near 1. Failures of the judge are counted apart; 1 where it
    answered none of the questions with a right answer.
    """
    effective = effective_config(config, {}, judge_url=judge_url, judge_model=judge_model)
    report = asyncio.run(_audit(effective, name, limit_s))
    sys.stdout.write((json.dumps(report, indent=2) if as_json else _table(report)) + "\n")
    if not report["right_accepted"]["valid"]:
        raise typer.Exit(1)


async def _audit(config: Any, name: str, limit_s: float) -> dict[str, Any]:
    from rewardhub.assembly import make_hub
    from rewardhub.errors import ConfigError, UnknownName
    from rewardhub.judges import JudgeScorer, audit_judge
    from rewardhub.scorer import Context

    hub = make_hub(config)
    judges = {scorer.settings.name: scorer for scorer in hub.book.registry if isinstance(scorer, JudgeScorer)}
    if not judges:
        raise ConfigError("no judge is configured; name one with --config or --judge-url", field="judges")
    if name not in judges:
        raise UnknownName("judge", name, judges, field="name")
    pool = judges[name].lane.balancer.pool
    await pool.start()
    try:
        return (await audit_judge(judges[name], Context(time.monotonic() + limit_s))).as_json()
    finally:
        await pool.aclose()


def _table(report: dict[str, Any]) -> str:
    lines = []
    for name, rate in report.items():
        shown = "-" if rate["rate"] is None else f"{rate['rate']:.3f}"
        failed = f", {rate['failed']} failed: {rate['reason']}" if rate["failed"] else ""
        lines.append(f"{name:<28} {shown:>6}  {rate['hits']} of {rate['valid']}{failed}")
    return "\n".join(lines)
