"""The TRL and verl adapters with arguments as those trainers pass them."""

import asyncio
import inspect
import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rewardhub.client.adapters import trl, verl
from rewardhub.client.parts import as_media
from rewardhub.errors import InvalidInput, ScoringFailed
from rewardhub.types import Response, Status


def chat(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def said(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


EXTRAS = {
    "trainer_state": SimpleNamespace(global_step=7),
    "log_extra": print,
    "log_metric": print,
    "environments": [object()] * 4,
}


async def test_trl_reward_is_a_coroutine_function(url, fake):
    """TRL awaits only real coroutine functions, and names its metrics after them."""
    function = trl.reward("math", url=url, run="run-1")
    assert inspect.iscoroutinefunction(function) and function.__name__ == "math"
    values = await function(
        prompts=["2+3?", "2+3?", "1+1?", "2+3?"],
        completions=["5", "6", "2", "7"],
        completion_ids=[[1], [1, 2], [3], [4]],
        answer=["5", "5", "2", "5"],
        **EXTRAS,
    )
    assert values == [
        fake.value(p, Response(r)) for p, r in [("2+3?", "5"), ("2+3?", "6"), ("1+1?", "2"), ("2+3?", "7")]
    ]
    assert len(fake.seen) == 2, "identical prompts are one group"
    assert (fake.calls[0].run, fake.calls[0].step, fake.calls[0].recipe) == ("run-1", 7, "math")


def test_trl_sync_reward_gives_the_same(url, fake):
    """The plain function has the same contract."""
    function = trl.sync_reward("math", url=url)
    assert not inspect.iscoroutinefunction(function)
    values = function(prompts=[chat("a"), chat("a")], completions=[said("x"), said("y")], answer=[1, 1])
    assert values == [fake.value(chat("a"), Response(text)) for text in "xy"]


def test_trl_misses_a_column_that_was_named(url, fake):
    """A misspelt column would leave every group without its reference."""
    function = trl.sync_reward("math", url=url, reference="solutoin")
    with pytest.raises(InvalidInput, match="no column solutoin; did you mean 'solution'"):
        function(prompts=["p"], completions=["x"], solution=["1"])
    assert not fake.calls


async def test_trl_keeps_apart_equal_prompts_with_other_references(url, fake):
    """Two dataset rows with one prompt but two answers are two groups."""
    await trl.reward("math", url=url)(
        prompts=["p", "p"], completions=["x", "x"], completion_ids=None, answer=["1", "2"]
    )
    assert len(fake.seen) == 2


@pytest.mark.parametrize("kind", ["pil", "bytes", "path", "row", "images", "parts"])
async def test_trl_uploads_images_once(url, fake, tmp_path, kind):
    """Images of any make reach the hub once, from columns or from the prompt's parts."""
    image = Image.new("RGB", (8, 8), "red")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    prompt = chat("what colour?")
    columns = {
        "pil": {"image": [image] * 4},
        "bytes": {"image": [buffer.getvalue()] * 4},
        "path": {"image": [str(tmp_path / "a.png")] * 4},
        "row": {"image": [{"bytes": buffer.getvalue(), "path": None}] * 4},
        "images": {"images": [[image]] * 4},
        "parts": {"images": [[image]] * 4},
    }[kind]
    if kind == "parts":
        prompt = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "?"}]}]
    values = await trl.reward("colour", url=url)(
        prompts=[prompt] * 4, completions=[said("red")] * 4, completion_ids=[[1]] * 4, answer=["red"] * 4, **columns
    )
    assert fake.uploads == 1 and len(fake.seen) == 1 and len(set(values)) == 1


async def test_trl_passes_a_trajectory_with_its_messages(url, fake):
    """Tool calls and tool replies travel as messages; the last message is the text."""
    completion = [
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "add"}}]},
        {"role": "tool", "name": "add", "content": "5"},
        {"role": "assistant", "content": "It is 5"},
    ]
    (value,) = await trl.reward("math", url=url)(prompts=["p"], completions=[completion], completion_ids=[[1]])
    assert value == fake.value("p", Response("It is 5"))


async def test_trl_failures_follow_the_policy(url, fake):
    """By default a failed score raises; with none it is None in its place."""
    arguments = {"prompts": ["p", "p"], "completions": ["x", "y"], "completion_ids": [[1], [2]]}
    await trl.reward("math", url=url)(**arguments)
    (name,) = fake.seen
    fake.script[name] = [Status.INTERNAL_ERROR]
    with pytest.raises(ScoringFailed, match="internal_error"):
        await trl.reward("math", url=url)(**arguments)
    fake.script[name] = [Status.INTERNAL_ERROR]
    values = await trl.reward("math", url=url, on_failure="none")(**arguments)
    assert values[0] is None and values[1] == fake.value("p", Response("y"))


def test_an_adapter_without_a_hub_says_so(monkeypatch):
    """Neither a parameter nor the environment names the hub."""
    monkeypatch.delenv("REWARDHUB_URL", raising=False)
    with pytest.raises(InvalidInput, match="REWARDHUB_URL"):
        trl.reward("math")


def test_the_environment_names_the_hub(monkeypatch, url, fake):
    """Trainers that load a file by path configure the adapter by the environment."""
    monkeypatch.setenv("REWARDHUB_URL", url)
    monkeypatch.setenv("REWARDHUB_RECIPE", "math")
    monkeypatch.setenv("REWARDHUB_API_KEY", "k")
    assert verl.compute_score_sync("gsm8k", "5", "5")["ok"] == 1.0
    assert fake.calls[0].recipe == "math" and fake.keys == {"Bearer k"}


async def test_verl_compute_score_has_constant_keys(url, fake):
    """Every sample has the same keys with plain numbers, whatever verl adds to the arguments."""
    options = {"url": url, "recipe": "math", "reward_router_address": "x:1", "reward_model_tokenizer": None}
    rows = await asyncio.gather(
        verl.compute_score("gsm8k", "5", "5", {"index": 0, "question": "2+3?"}, **options),
        verl.compute_score("math", "6", {"answer": "5"}, None, **options),
    )
    assert [set(row) for row in rows] == [{"score", "ok", "cached"}] * 2
    assert all(type(value) is float for row in rows for value in row.values())
    assert rows[0]["score"] == fake.value("2+3?", Response("5"))


def test_verl_batch_and_sync_agree_with_single(url, fake):
    """The plural variant scores in one call and names the parts that were asked for."""
    options = {"url": url, "recipe": "math", "parts": ["hash", "absent"]}
    rows = verl.compute_score_batch(["a", "b"], ["x", "y"], ["1", "2"], [{"prompt": chat("q")}, None], **options)
    assert [row["score"] for row in rows] == [fake.value(chat("q"), Response("x")), fake.value("", Response("y"))]
    assert rows[0]["hash"] == rows[0]["score"] and math.isnan(rows[0]["absent"])
    assert len(fake.calls) == 1
    assert verl.compute_score_sync("b", "y", "2", **options)["score"] == rows[1]["score"]


def test_verl_rows_of_arrays(url, fake):
    """Parquet gives arrays; the prompt's image parts take the row's images in order."""
    images = np.empty(2, dtype=object)
    images[0], images[1] = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    content = [{"type": "image"}, {"type": "text", "text": "q"}, {"type": "image"}]
    prompt = np.array([{"role": "system", "content": "s"}, {"role": "user", "content": content}], dtype=object)
    extra = {"prompt": prompt, "images": images, "index": np.int64(3)}
    truth = {"answer": np.int64(5), "box": np.array([1, 2])}
    verl.compute_score_sync("refcoco", "x", truth, extra, url=url, recipe="math")
    (group,) = fake.groups.values()
    assert group.reference == {"answer": 5, "box": [1, 2]} and group.metadata == {"data_source": "refcoco"}
    assert [part.get("media") for part in group.prompt[1]["content"]] == [0, None, 1]
    assert [media.sha256 for media in group.media] == [as_media(each).sha256 for each in images]


@pytest.mark.parametrize("policy", ["raise", "none", "neutral"])
def test_verl_raises_on_a_failure(url, fake, policy):
    """verl has no number for a missing score: it raises, unless a number was chosen."""
    fake.script["0"] = [Status.INTERNAL_ERROR]
    with pytest.raises(ScoringFailed, match="group '0', response 0: internal_error"):
        verl.compute_score_sync("b", "y", "2", url=url, recipe="math", on_failure=policy)
    fake.script["0"] = [Status.INTERNAL_ERROR]
    row = verl.compute_score_sync("b", "y", "2", url=url, recipe="math", on_failure=0.0)
    assert row == {"score": 0.0, "ok": 0.0, "cached": 0.0}
