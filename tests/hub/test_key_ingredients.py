"""T31: whatever can change a score is in its key; each ingredient by itself is a miss."""

import json
import shutil
from dataclasses import dataclass
from importlib import metadata

import pytest

from rewardhub.assembly import make_hub
from rewardhub.cache.key import row_keys
from rewardhub.config import HubConfig
from rewardhub.judges import JudgePool, JudgeSettings, judge_scorers
from rewardhub.registry import Registry, default_registry
from rewardhub.reload import Reload
from rewardhub.scorer import ScorerInfo
from rewardhub.types import Call, Group, Response

PLUGIN = """
from rewardhub.registry import verifier

@verifier("graded", lane="sandbox", range=(0, 99), libraries=("numpy",), sources=("json.encoder",))
def graded(response, reference, *, tolerance: float = 0.1) -> float:
    return {version} + tolerance + len(reference["tests"])
"""


@pytest.fixture
async def graded(tmp_path):
    """A hub with one dear verifier, and what writes its file."""
    path = tmp_path / "graded.py"
    path.write_text(PLUGIN.format(version=1))
    config = HubConfig(workers=1, plugins=(path,))
    hub = make_hub(config)
    hub.reloader = Reload(hub, config, lambda: config)
    await hub.start()
    yield hub, path
    await hub.aclose()


async def test_each_ingredient_of_a_verifier_is_a_miss(graded):
    """Version, tolerance and tests: each changed by itself is computed anew, and has an entry of its own."""
    hub, path = graded

    async def ask(tolerance=0.1, tests=("a",)):
        text = f"name: r\nterms: {{t: {{scorer: graded, with: {{tolerance: {tolerance}}}}}}}\nvalue: t"
        group = Group("g", "p", (Response("x"),), {"tests": list(tests)})
        score = (await hub.score([group], Call(recipe_text=text)))[0][0].parts["t"]
        return score.value, score.cached

    assert [await ask(), await ask()] == [(2.1, False), (2.1, True)]
    assert [await ask(tolerance=0.2), await ask(tolerance=0.2)] == [(2.2, False), (2.2, True)]
    assert [await ask(tests=("b",)), await ask(tests=("b",))] == [(2.1, False), (2.1, True)]
    assert [await ask(tests=("a", "b")), await ask(tests=("a", "b"))] == [(3.1, False), (3.1, True)]
    path.write_text(PLUGIN.format(version=5))
    await hub.reload()
    assert [await ask(), await ask()] == [(6.1, False), (6.1, True)]
    path.write_text(PLUGIN.format(version=1))
    await hub.reload()
    assert await ask() == (2.1, True)


def test_libraries_and_sources_of_a_verifier_count(tmp_path, monkeypatch):
    """The version of a library that a verifier names, and a module that it reads beside its own, are in its key."""

    def bound():
        path = tmp_path / "graded.py"
        path.write_text(PLUGIN.format(version=1))
        registry = Registry()
        registry.load_file(path)
        return registry.get("graded").bind({}).fingerprint

    before = bound()
    assert bound() == before
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1")
    assert bound() != before
    monkeypatch.undo()
    monkeypatch.setattr("rewardhub.sources._module_bytes", lambda module: b"changed")
    assert bound() != before


@dataclass
class Fixed:
    """A bound scorer that has this fingerprint."""

    fingerprint: str
    info = ScorerInfo(name="m", family="reward_model", lane="model", cost="dear")


def keys_of(fingerprint):
    return row_keys(Fixed(fingerprint), Group("g", "p", (Response("x"),)), [0], "")[0]


def test_each_ingredient_of_a_model_is_a_miss(tiny_card, tmp_path):
    """Weights, their quantisation, dtype, chat template, system message, truncation, bounds on pixels; the name and the place of a copy are none."""
    from safetensors.torch import load_file, save_file

    from rewardhub.models import load
    from rewardhub.models.card import load_card

    card = load_card(tiny_card)

    def key(folder="same", change=None, **fields):
        path = tmp_path / folder
        shutil.copytree(card.path, path)
        if change:
            change(path)
        return keys_of(load(card.model_copy(update={"path": path, **fields})).fingerprint)

    def weights(path):
        tensors = load_file(path / "model.safetensors")
        tensors["language_model.score.weight"][0, 0] += 1e-3
        save_file(tensors, path / "model.safetensors")

    def template(path):
        files = [*path.glob("chat_template*"), path / "tokenizer_config.json"]
        found = files[0]
        if found.suffix == ".json":
            found.write_text(json.dumps(json.loads(found.read_text()) | {"chat_template": "{{ messages }}"}))
        else:
            found.write_text(found.read_text() + " ")

    variants = [
        key(),
        key("weights", weights),
        key("dtype", dtype="bfloat16"),
        key("template", template),
        key("system", system="be strict"),
        key("truncation", truncation="left"),
        key("quantization", quantization="int8"),
        key("pixels", max_pixels=3136),
    ]
    assert len(set(variants)) == len(variants)
    assert key("copy", name="other") == variants[0]


def test_what_no_model_and_no_program_reads(tiny_card):
    """Token counts and signals, which differ from one sample of a text to the next; a generative model reads metadata."""
    from rewardhub.models.card import load_card
    from rewardhub.scheduler.model_info import info_of

    card = load_card(tiny_card)
    assert (info_of(card).signals, info_of(card).metadata) == (False, False)
    assert info_of(card.model_copy(update={"kind": "generative"})).metadata
    programs = [each for each in default_registry([]) if each.info.lane == "sandbox"]
    assert programs
    assert not any(each.info.signals for each in programs)


def test_no_rubric_of_ours_reads_what_the_trainer_knows():
    """Neither token counts nor signals: equal answers of a group are asked about once."""
    from importlib.resources import files

    sources = [each for each in files("rewardhub.judges.rubrics").iterdir() if each.name.endswith(".py")]
    assert len(sources) > 20
    assert not [each.name for each in sources if "signals" in each.read_text() or ".tokens" in each.read_text()]


def test_each_ingredient_of_a_judge_is_a_miss(tmp_path):
    """The words of a rubric, its parser, the model asked for, temperature, and how often is asked."""
    shutil.copy(default_rubric("quality.py"), tmp_path / "own.py")
    shutil.copy(default_rubric("quality.txt"), tmp_path / "own.txt")

    def key(params=None, **settings):
        endpoints = [{"url": "http://127.0.0.1:9", "model": settings.pop("model", "m")}]
        chosen = {"name": "j", "endpoints": endpoints, "rubric": str(tmp_path / "own.py")} | settings
        (judge,) = judge_scorers([JudgeSettings.model_validate(chosen)], JudgePool())
        return keys_of(judge.bind(params or {}).fingerprint)

    variants = [key(), key(model="n"), key(temperature=0.7), key({"samples": 2}), key({"rubric": "fluency"})]
    text = (tmp_path / "own.txt").read_text()
    (tmp_path / "own.txt").write_text(text + "\nBe strict.")
    variants.append(key())
    (tmp_path / "own.txt").write_text(text)
    assert key() == variants[0]
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text() + "\n# another parser\n")
    variants.append(key())
    assert len(set(variants)) == len(variants)


def default_rubric(name):
    from importlib.resources import files

    return files("rewardhub.judges.rubrics") / name


def test_built_in_scorers_have_fingerprints_of_their_own():
    """No two built-in verifiers share a key for one input."""
    scorers = [scorer for scorer in default_registry([]) if scorer.info.family == "verifier"]
    assert len({keys_of(scorer.bind({}).fingerprint) for scorer in scorers if not needs(scorer)}) == sum(
        not needs(scorer) for scorer in scorers
    )


def needs(scorer):
    return any(field.is_required() for field in scorer.parameters.model_fields.values())
