"""What an operator sees and says of judges: panels, figures, the audit command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_judge import ScriptedJudge, verdict

from rewardhub import judges
from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError, UnknownName
from rewardhub.types import Call, Group, Response

RUBRICS = Path(judges.__file__).with_name("rubrics")
JUDGE = Path(__file__).with_name("scripted_judge.py")
SEVEN = Group("g", "What is 3 + 4?", (Response("It is seven."),), {"answer": "7"})


def judge(name: str, url: str, **settings) -> dict:
    return {"name": name, "endpoints": [{"url": url}], "rubric": "equivalence"} | settings


async def test_a_configured_panel_is_a_scorer() -> None:
    """Three judges and their majority by one name; members keep their own."""
    async with ScriptedJudge(verdict(1)) as yes, ScriptedJudge(verdict(0)) as no:
        members = {"a": yes.url, "b": no.url, "c": yes.url}
        panel = {"name": "panel", "members": list(members), "rule": "majority"}
        judges = tuple(judge(name, url) for name, url in members.items())
        hub = make_hub(HubConfig(workers=1, judges=judges, panels=(panel,)))
        await hub.start()
        try:
            ((score,),) = await hub.score([SEVEN], Call(recipe="panel"))
            ((other,),) = await hub.score([SEVEN], Call(recipe="b"))
        finally:
            await hub.aclose()
    assert (score.value, score.details["members"]) == (1.0, {"a": 1.0, "b": 0.0, "c": 1.0})
    assert other.value == 0.0


def test_a_wrong_panel_is_a_configuration_error() -> None:
    """An unknown member and an unknown key name their place."""
    judges = (judge("a", "http://127.0.0.1:1/v1"), judge("b", "http://127.0.0.1:1/v1"))
    with pytest.raises(UnknownName, match="'d'"):
        make_hub(HubConfig(judges=judges, panels=({"name": "p", "members": ["a", "d"]},)))
    with pytest.raises(ConfigError, match=r"panels\.0\.rul"):
        make_hub(HubConfig(judges=judges, panels=({"name": "p", "members": ["a", "b"], "rul": "mean"},)))


@pytest.mark.parametrize(
    ("terms", "asked"),
    [
        (["{scorer: a, with: {samples: 8}}"] * 4, 32),
        (["{scorer: a, with: {samples: 8}}"] * 4 + ["{scorer: a}"], 33),
        (["{scorer: panel, with: {samples: 8}}"] * 3, 48),
        (["{scorer: a, with: {rubric: pairwise, samples: 2}}", "{scorer: b}"], 31),
        (["{scorer: a, with: {rubric: pairwise, rounds: 8, samples: 5}}"], 40),
        (["{route: {cases: {x: {scorer: a, with: {samples: 8}}, y: {scorer: panel, with: {samples: 8}}}}}"], 16),
    ],
)
def test_an_inline_recipe_asks_only_so_often(terms, asked) -> None:
    """Law 3: whoever has a key spends at most 32 questions per response; an operator's recipe spends what it says."""
    judges = (judge("a", "http://127.0.0.1:1/v1"), judge("b", "http://127.0.0.1:1/v1"))
    hub = make_hub(HubConfig(judges=judges, panels=({"name": "panel", "members": ["a", "b"]},)))
    text = "name: i\nvalue: t0\nterms:\n" + "".join(f"  t{n}: {term}\n" for n, term in enumerate(terms))
    if asked <= 32:
        assert hub.book.resolve("", Call(recipe_text=text), "").recipe.name == "i"
    else:
        with pytest.raises(ConfigError, match=f"asks judges up to {asked} times per response, at most 32"):
            hub.book.resolve("", Call(recipe_text=text), "")


@pytest.mark.parametrize(("named", "asked"), [("judge", 2), ("own", 3), ("panel", 6)])
async def test_equal_answers_of_a_group_are_asked_about_once(tmp_path, named, asked) -> None:
    """Their token counts and signals, which no built-in rubric reads, make them no others; one's own may read them."""
    for end in (".py", ".txt"):
        (tmp_path / f"own{end}").write_text((RUBRICS / f"equivalence{end}").read_text())
    texts = [("It is seven.", 4), ("It is seven.", None), ("Seven, I say.", 4)]
    responses = tuple(Response(text, tokens=count, signals={"entropy": n}) for n, (text, count) in enumerate(texts))
    async with ScriptedJudge(verdict(1)) as server:
        own = judge("own", server.url, rubric=str(tmp_path / "own.py"))
        panel = {"name": "panel", "members": ["judge", "own"]}
        hub = make_hub(HubConfig(workers=1, judges=(judge("judge", server.url), own), panels=(panel,)))
        await hub.start()
        try:
            (scores,) = await hub.score([Group("g", SEVEN.prompt, responses, SEVEN.reference)], Call(recipe=named))
        finally:
            await hub.aclose()
        assert scores.values == [1.0, 1.0, 1.0]
        assert len(server.asks) == asked


async def test_figures_tell_cost_by_judge_tenant_and_recipe() -> None:
    """Inline recipes, whose names are the caller's, are one recipe; a scorer by its own name is another."""
    async with ScriptedJudge(verdict(1)) as server:
        url = server.url
        hub = make_hub(HubConfig(workers=1, judges=(judge("judge", url, prompt_price=2, completion_price=10),)))
        await hub.start()
        try:
            await hub.score([SEVEN], Call(recipe="judge"), tenant="team")
            for name in ("mine", "yours"):
                text = f"name: {name}\nterms: {{judged: {{scorer: judge}}}}\nvalue: judged"
                await hub.score([SEVEN], Call(recipe_text=text, cache="bypass"), tenant="team")
        finally:
            text = hub.metrics_text().decode()
            await hub.aclose()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("rewardhub_judge_"))
    by_name, inline = (f'{{judge="judge",recipe="{recipe}",tenant="team"}}' for recipe in ("judge", "inline"))
    assert lines[f"rewardhub_judge_calls_total{by_name}"] == "1.0"
    assert lines[f"rewardhub_judge_questions_total{inline}"] == "2.0"
    assert float(lines[f"rewardhub_judge_cost_total{inline}"]) == pytest.approx(2 * (100 * 2 + 20 * 10) / 1e6)
    assert lines[f'rewardhub_judge_up{{endpoint="{url}",judge="judge"}}'] == "1.0"


@pytest.mark.slow
def test_the_audit_command_reports_every_rate(tmp_path) -> None:
    """`rewardhub judge audit`: a judge that grades by length accepts everything that the gate lets through."""
    program = Path(sys.executable).with_name("rewardhub")
    with subprocess.Popen([sys.executable, JUDGE], stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            asked = [program, "judge", "audit", "--judge-url", url]
            table = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=True).stdout
            report = json.loads(subprocess.check_output([*asked, "--json"], text=True, timeout=120))
        finally:
            server.terminate()
    assert report["keys_accepted"]["rate"] == 0.0
    assert report["keys_accepted"]["valid"] > 50
    assert {line.split()[0] for line in table.splitlines()} == set(report)
    assert len(report) == 7
    unknown = subprocess.run([program, "judge", "audit", "jugde", "--judge-url", url], capture_output=True, text=True)
    assert (unknown.returncode, "did you mean 'judge'" in unknown.stderr) == (2, True)
    down = subprocess.run([program, "judge", "audit", "--judge-url", url], capture_output=True, text=True)
    assert (down.returncode, "6 failed: " in down.stdout) == (1, True)
    none = subprocess.run([program, "judge", "audit"], capture_output=True, text=True, cwd=tmp_path)
    assert (none.returncode, "no judge is configured" in none.stderr) == (2, True)
