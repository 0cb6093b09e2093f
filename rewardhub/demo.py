"""The demo: every limb once, on one machine without a GPU, in minutes.

Trains a tiny vision-language reward model on synthetic preference pairs, serves it beside the rule
verifiers in a hub of its own process, scores examples over gRPC, trains a tiny policy on rewards
streamed from that hub, and benchmarks the reward model. Nothing is downloaded.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from rewardhub.bench.runner import run as run_bench
from rewardhub.client import Client
from rewardhub.errors import InternalError
from rewardhub.grpo.config import GrpoConfig
from rewardhub.grpo.loop import train as train_policy
from rewardhub.models.colours import answer, colour_items
from rewardhub.reward_modeling import run as train_reward_model
from rewardhub.reward_modeling.toy import write_toy
from rewardhub.types import Call, Group, Response, Rewards

CONFIG = """\
http = "127.0.0.1:0"
grpc = "127.0.0.1:0"
cards = ["rm/card.toml"]
reward_log = "{log}"

# Nobody listens here: a judge that is down is a status, never a number.
[[judges]]
name = "judge"
endpoints = [{{url = "http://127.0.0.1:9/v1"}}]
"""
START_S = 120.0
EVAL_SEED = 77


def run(out: Path) -> None:
    """Runs the demo; everything it makes is under ``out``."""
    console = Console()
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)

    console.rule("1. train a reward model on image preference pairs")
    result = train_reward_model(write_toy(out / "toy"), out / "rm")
    console.print(result.summary(), markup=False, soft_wrap=True)

    (out / "hub.toml").write_text(CONFIG.format(log=(out / "rewards.jsonl").resolve()))
    with served(out / "hub.toml", console) as address, Client(f"grpc://{address}", on_failure="none") as client:
        console.rule("2. score with rules, the reward model and a judge that is down")
        console.print(scores_table(client, console.width))

        console.rule("3. train a policy on rewards streamed from the hub")
        policy = train_policy(GrpoConfig(seed=0, run="demo"), client, out / "grpo")
        console.print(policy.summary(), markup=False, soft_wrap=True)

        console.rule("4. benchmark the reward model")
        report = run_bench("pairs", out / "toy" / "eval.jsonl", client, Call(recipe="colour-rm"), out=out / "bench")
        console.print(report.text(), markup=False, soft_wrap=True)

    console.rule(f"done in {time.monotonic() - started:.0f} s")
    for name, path in files(out, policy.curves).items():
        console.print(f"{name:<22} {path}", markup=False, soft_wrap=True)


def files(out: Path, curves: Path) -> dict[str, Path]:
    """What a person may want to open."""
    report = next((out / "bench").glob("*.html"))
    return {"learning curve": curves, "bench report": report, "what was scored": out / "rewards.jsonl"}


@contextmanager
def served(config: Path, console: Console) -> Iterator[str]:
    """A hub in a process of its own; yields its gRPC address and drains it at the end."""
    command = [sys.executable, "-P", "-m", "rewardhub.cli", "serve", "--config", str(config)]
    with (config.parent / "hub.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            ready = _ready_line(process)
            console.print(ready, style="dim", markup=False, soft_wrap=True)
            yield ready.split("grpc=")[1].split()[0]
        finally:
            process.terminate()
            process.wait(timeout=60)


def _ready_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if "ready" in line:
            return line.strip()
    raise InternalError(f"the hub did not start: exit code {process.wait()}")


def scores_table(client: Rewards, width: int) -> Table:
    """A table of examples with their values and statuses, at most ``width`` characters wide."""
    table = Table(title="one call, every reward", box=box.SIMPLE_HEAD, padding=(0, 1))
    widths = {"recipe": 9, "response": 18, "value": 6, "status": 21, "why": max(12, width - 74)}
    for name, wide in widths.items():
        table.add_column(name, no_wrap=True, min_width=wide, max_width=wide)
    groups = examples()
    for group, scores in zip(groups, client.score(groups, Call()), strict=True):
        for response, score in zip(group.responses, scores, strict=True):
            value = "-" if score.value is None else f"{score.value:.3f}"
            why = str(score.details.get("reason", score.details.get("verdict", "")))
            shown = " ".join(response.text.split())
            table.add_row(group.recipe, shown, value, str(score.status), why)
    return table


def examples() -> list[Group]:
    """Groups that show verdicts and statuses side by side."""
    item = next(islice(colour_items(EVAL_SEED), 3, None))
    names = [item.colour, *(name for name in ("red", "blue", "green") if name != item.colour)][:2]
    loop = "```python\ndef double(x):\n    while True: pass\n```"
    return [
        _group("math", ["so it is \\boxed{\\frac{1}{2}}", "\\boxed{0.25}", "9^{9^{9}}"], {"answer": "0.5"}),
        _group("math", ["4"], {"answer": "\\frac{1"}),
        _group("mcq", ["<answer>B</answer>", "<answer>A</answer>"], {"answer": "B", "options": ["cat", "dog"]}),
        _group("box_iou", ["[5, 0, 15, 10]"], {"box": [0, 0, 10, 10]}),
        _group(
            "code",
            ["```python\ndef double(x):\n    return 2 * x\n```", loop],
            {"language": "python", "suffix": "\nassert double(4) == 8\n", "limits": {"time_s": 1}},
        ),
        Group(
            id="colour",
            prompt=item.question,
            media=(item.media,),
            recipe="colour-rm",
            responses=tuple(Response(answer(name)) for name in names),
        ),
        _group("judge", ["The capital of France is Paris."], {}),
    ]


def _group(recipe: str, texts: list[str], reference: dict[str, object]) -> Group:
    return Group(
        id=f"{recipe}-{len(texts)}",
        recipe=recipe,
        responses=tuple(Response(text) for text in texts),
        reference=reference,
    )
