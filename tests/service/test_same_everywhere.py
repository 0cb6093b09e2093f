"""One group file through recipes in process, over REST and over gRPC."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.client import Client, read_group_file
from rewardhub.config import HubConfig
from rewardhub.local import LocalHub
from rewardhub.recipe_book import catalogue
from rewardhub.types import Call
from rewardhub.wire.lines import scores_to_json

JUDGE = Path(__file__).parents[1] / "judges" / "scripted_judge.py"
CASCADE = """\
name: cascade
terms:
  exact: {scorer: math}
  judged: {scorer: judge, with: {rubric: quality}, when: exact == 0}
let: {spread: g_std(exact)}
value: exact + if_skipped(judged, 0) / 3 + exp(spread)
"""
JUDGED = {"id": "judged", "recipe": "cascade", "prompt": "1/3?", "reference": "1/3",
          "responses": ["1/3", "about 0.3, I would say", "no idea at all, sorry"]}  # fmt: skip
ASIDE = {"timings", "cached", "cpu_s", "wall_s", "peak_mb"}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A recipe with a judge, and a group file: the catalogue's examples that need no model or input,
    of those that run programs one, and that recipe."""
    lines = [
        json.dumps(test.group | {"id": f"{recipe.name}-{number}", "recipe": recipe.name})
        for recipe in catalogue()
        for number, test in enumerate(recipe.tests)
        if not test.inputs and not any(each.given for each in recipe.tests)
        if recipe.name == "reft" or not any(scorer in recipe.canonical() for scorer in ('"code"', '"or_solver"'))
    ]
    assert len(lines) > 50
    folder = tmp_path_factory.mktemp("same")
    (folder / "cascade.yaml").write_text(CASCADE)
    (folder / "groups.jsonl").write_text("\n".join([*lines, json.dumps(JUDGED)]) + "\n")
    return folder / "cascade.yaml", folder / "groups.jsonl"


def started(stack: ExitStack, *command: object) -> str:
    """The first line that a process prints; it ends with the stack."""
    process = stack.enter_context(subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True))
    stack.callback(process.terminate)
    return process.stdout.readline().strip()


def told(scores) -> list:
    """The score lines in the order of their ids, without what may differ."""
    lines = [scores_to_json(each) for each in sorted(scores, key=lambda each: each.id)]
    return json.loads(json.dumps(lines), object_hook=lambda found: {k: v for k, v in found.items() if k not in ASIDE})


@pytest.mark.slow
def test_one_group_file_scores_alike_in_process_over_rest_and_over_grpc(files):
    """Values to the last digit, parts, details, steps and fingerprints; only timings and ``cached`` may differ."""
    recipe, path = files
    call = Call(deadline_ms=120_000)
    with ExitStack() as stack:
        judge = started(stack, sys.executable, JUDGE)
        served = started(
            stack, Path(sys.executable).with_name("rewardhub"), "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0",
            "--judge-url", judge, "--recipe-file", recipe,
        )  # fmt: skip
        doors = dict(word.split("=", 1) for word in served.split() if "=" in word)
        settings = HubConfig(recipes=(recipe,), judges=({"name": "judge", "endpoints": [{"url": judge}]},))
        groups = list(read_group_file(path))
        found = {}
        with LocalHub(lambda: make_hub(settings)) as hub:
            found["process"] = told(hub.score(groups, call))
        for name, url in (("rest", doors["http"]), ("grpc", f"grpc://{doors['grpc']}")):
            with Client(url, on_failure="none") as client:
                found[name] = told(client.score(groups, call))
                found[f"{name} stream"] = told(client.stream(groups, call))
    for name, lines in found.items():
        for mine, theirs in zip(found["process"], lines, strict=True):
            assert mine == theirs, name
    (judged,) = (each for each in found["process"] if each["id"] == "judged")
    first, second, third = judged["scores"]
    assert [each["status"] for each in judged["scores"]] == ["ok"] * 3
    assert first["parts"]["judged"]["status"] == "skipped"
    assert second["parts"]["exact"]["value"] == 0.0
    assert second["parts"]["judged"]["value"] == third["parts"]["judged"]["value"] == pytest.approx(2 / 9)
