"""The vLLM backend where the server fails: answers in other forms, a server that dies, is another, or has a proxy."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.vllm import NEUTRAL
from rewardhub.models.vllm_pulse import BLIND_S, SILENT_S
from rewardhub.models.vllm_server import SITE, VllmServer
from rewardhub.registry import Registry
from rewardhub.types import Call, Group, Media, Response, Status
from tests.models import tiny_families
from tests.models.test_vllm import noise

SHORT, LONG = Response("a"), Response("b " * 40)
BOTH = Group("g", "p", (SHORT, LONG))


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A fake server for the interpreter of cards, and the file that names its fault."""
    fault = tmp_path / "fault"
    python = tmp_path / "python"
    script = Path(__file__).parent / "fake_vllm.py"
    python.write_text(f'#!/bin/sh\nPYTHONPATH= exec {sys.executable} -P {script} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("FAKE_VLLM", str(fault))
    return python, fault


@pytest.fixture
def card(fake, classifier):
    def make(**fields):
        known = {"name": "m", "kind": "scalar", "path": classifier, "system": "", "backend": "vllm"}
        return Card.model_validate(known | {"vllm": {"python": str(fake[0])}} | fields)

    return make


def servers():
    """The running fake servers of this test."""
    own = f"FAKE_VLLM={os.environ['FAKE_VLLM']}\0".encode()
    found = [Path("/proc") / each for each in os.listdir("/proc") if each.isdigit()]
    return [
        int(each.name)
        for each in found
        if b"fake_vllm.py" in _read(each / "cmdline") and own in _read(each / "environ")
    ]


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def none_left(most_s=5.0):
    until = time.monotonic() + most_s
    while (left := servers()) and time.monotonic() < until:
        time.sleep(0.05)
    return not left


def test_answers_that_are_no_scores(fake, card):
    """T24, law 1: an answer of another form or status costs its own row alone, and is never the response's fault."""
    model = load(card())
    try:
        for asked in ["html", "list", "no usage", "no data", "null", "wide", "ragged", "words", "other count", "400",
                      "404", "500", "429", "502", "503"]:  # fmt: skip
            fake[1].write_text(asked)
            (column,) = model.score([BOTH])
            wanted = Status.UNAVAILABLE if asked in {"429", "502", "503"} else Status.INTERNAL_ERROR
            assert column.statuses == [Status.OK, wanted], asked
            assert column.values[1] is None
    finally:
        model.close()


def test_votes_are_asked_for_together(fake, card):
    """Written votes of all pairs in both orders are in flight at one time; each pair has the verdict of its own, drawn
    as the card says and not as a generation_config.json."""
    model = load(card(kind="pairwise", votes={"count": 2, "max_tokens": 8}))
    try:
        group = Group("g", "p", tuple(Response(text) for text in ("red", "a blue one", "green", "so")))
        rows = model.encode(group).rows
        fake[1].write_text(f"together {len(rows)}")
        bodies, post = [], model.engine.client.post
        model.engine.client.post = lambda *asked: bodies.append(asked[1]) or post(*asked)
        (column,) = model.score([group])
        assert column.statuses == [Status.OK] * 4
        shares = {
            pair: sum((int(row.encoded.ids.sum()) + vote) % 3 % 2 == 0 for vote in range(2)) / 2
            for pair, row in rows.items()
        }
        assert len(set(shares.values())) > 1
        assert all(NEUTRAL.items() <= body.items() for body in bodies)
        assert {"--generation-config", "vllm"} <= {*model.engine.client.server.process.args}
        for one in range(4):
            others = [other for other in range(4) if other != one]
            wanted = sum((shares[one, other] + 1 - shares[other, one]) / 2 for other in others) / 3
            assert column.values[one] == pytest.approx(wanted)
    finally:
        model.close()


@pytest.mark.parametrize("kind", ["scalar", "listwise", "pairwise"])
def test_control_tokens_spelt_beside_an_image(card, tiny, tmp_path, kind):
    """vLLM would read them: it costs the response that spells one, not those that it is read or compared with, and is
    the caller's fault in a prompt, or in what the card makes of a reference. Without an image nothing is amiss."""
    path = shutil.copytree(tiny, tmp_path / "m")
    save_file({"score.weight": torch.ones(1, 64)}, path / "value_head.safetensors")
    model = load(card(kind=kind, path=path, context="{fact}"))
    texts = ("red", "a<|im_end|>", "blue \ud800", "so<|vision_start|>")
    group = Group("g", "p", tuple(map(Response, texts)), media=(noise((90, 60), "RGB"),), reference={"fact": "."})
    spelt = replace(group, reference={"fact": "<|im_end|>"})
    wanted = [Status.OK, Status.NO_ANSWER, Status.OK, Status.NO_ANSWER]
    try:
        columns = model.score([group, replace(group, prompt="a <|im_end|> b"), spelt, replace(spelt, media=())])
        found = [column.statuses for column in columns]
        assert found[0] == wanted
        assert found[1] == [Status.INVALID_INPUT] * 4
        assert [found[2][0], found[2][2]] == [Status.INVALID_INPUT] * 2
        assert found[3] == [Status.OK] * 4
        own = (Response("red", media=group.media), Response("a<|im_end|>"), Response("blue"))
        (column,) = model.score([replace(group, media=(), responses=own)])
        assert column.statuses == [Status.OK, Status.OK if kind == "scalar" else Status.NO_ANSWER, Status.OK]
        hidden = Response("a<|im_end|>", media=(Media.from_bytes(b"no image"),))
        (column,) = model.score([replace(group, responses=(Response("red"), hidden, Response("blue")))])
        assert column.statuses == [Status.OK, Status.INVALID_INPUT, Status.OK]
        assert model.score([replace(group, prompt="long " * 1000)])[0].statuses == [Status.INVALID_INPUT] * 4
    finally:
        model.close()


def test_images_of_another_family(card, tmp_path):
    """Images that are not sent to vLLM are the caller's fault, never a response without an answer; text is scored."""
    path = tiny_families.build("gemma3", tmp_path / "m")
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    model = load(card(path=path))
    try:
        shown = replace(BOTH, media=(noise((90, 60), "RGB"),))
        text, image = model.score([BOTH, shown])
        assert text.statuses == [Status.OK] * 2
        assert image.statuses == [Status.INVALID_INPUT] * 2
        assert image.row(0).details["field"] == "media"
    finally:
        model.close()


@pytest.mark.parametrize(("tensors", "fields", "words"), [
    ({"score.weight": (1, 32)}, {}, "takes 32 inputs, the model gives 64"),
    ({"score.weight": (64,)}, {}, "has 1 dimensions"),
    ({"score.weight": (1, 64), "score.bias": (2,)}, {}, r"bias is of \(2,\), not 1"),
    ({"score.0.weight": (8, 64), "score.2.weight": (1, 9)}, {"head": {"activation": "silu"}}, "takes 9 inputs"),
    ({"score.weight": (1, 64)}, {"head": {"activation": "silu"}}, "1 layers with activation 'silu'"),
    ({"score.weight": (2, 64), "gating.layers.0.weight": (2, 60)}, {"kind": "objectives", "classes": ("a", "b")},
     "the gate takes 60 inputs, the model gives 64"),
    ({"score.weight": (2, 64), "gating.layers.0.weight": (8, 64), "gating.layers.1.weight": (2, 9)},
     {"kind": "objectives", "classes": ("a", "b")}, "takes 9 inputs, the layer before it gives 8"),
    ({"lm_head.weight": (20, 64)}, {"kind": "yes_no", "choices": ("1", "2")}, r"lm_head.weight is of \(20, 64\)"),
])  # fmt: skip
def test_heads_of_the_wrong_shape(card, tiny, tmp_path, tensors, fields, words):
    """A head that does not fit the model is refused before vLLM is started, as where it is loaded here."""
    path = shutil.copytree(tiny, tmp_path / "m")
    save_file({name: torch.ones(*shape) for name, shape in tensors.items()}, path / "value_head.safetensors")
    with pytest.raises(ConfigError, match=words):
        load(card(path=path, **fields))
    assert none_left(most_s=0.0)


def test_checkpoints_that_are_refused_here_too(card, tiny, tmp_path):
    """What our own backend refuses, vLLM is not asked to load: attention that is not causal, an id without embedding."""
    path = shutil.copytree(tiny, tmp_path / "m")
    save_file({"score.weight": torch.ones(1, 64)}, path / "value_head.safetensors")
    config, tokenizer = ((path / name).read_text() for name in ("config.json", "tokenizer.json"))
    rows = AutoConfig.from_pretrained(str(path)).get_text_config().vocab_size
    more = {"id": rows, "content": "<word>", "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": False}  # fmt: skip
    added = json.loads(tokenizer)["added_tokens"] + [more]
    others = {
        "config.json": json.dumps(json.loads(config) | {"is_causal": False}),
        "tokenizer.json": json.dumps(json.loads(tokenizer) | {"added_tokens": added}),
    }
    for (name, other), words in zip(others.items(), ("not causal", f"{rows + 1} token ids for {rows}"), strict=True):
        known = (path / name).read_text()
        (path / name).write_text(other)
        for each in (card(path=path), Card(name="m", kind="scalar", path=path)):
            with pytest.raises(ConfigError, match=words):
                load(each)
        (path / name).write_text(known)
    assert none_left(most_s=0.0)


@pytest.mark.parametrize("most", [0, 300, 4096])
def test_the_longest_sequence(card, most):
    """It is what the card says, within the model's positions, on both backends, whatever the tokenizer's settings."""
    model = load(card(max_tokens=most))
    try:
        words = model.engine.client.server.process.args
        longest = load(Card(name="m", kind="scalar", path=card().path, max_tokens=most)).checkpoint.max_tokens
        assert words[words.index("--max-model-len") + 1] == str(longest) == str(min(most or 2048, 2048))
    finally:
        model.close()


def test_a_proxy_of_the_environment(card, monkeypatch):
    """A server of ours on the loopback is spoken to directly, whatever proxy the machine has for other hosts."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    model = load(card(vllm=card().vllm.model_dump() | {"startup_s": 20}))
    assert model.score([BOTH])[0].statuses == [Status.OK] * 2
    model.close()


def test_a_server_that_is_not_ours(fake, card, monkeypatch):
    """A server that wants a key, or another card's at the port, is a config error that says so, and leaves none."""
    fake[1].write_text("key")
    with pytest.raises(ConfigError, match="does not say what it serves: 401"):
        load(card())
    fake[1].write_text("")
    monkeypatch.setenv("FAKE_VLLM_NAME", "other")
    with pytest.raises(ConfigError, match="serves 'other'"):
        load(card())
    assert none_left()


def test_a_server_that_asks_for_a_key(card, monkeypatch, caplog):
    """The key comes from the environment variable that the card names, and is nowhere told; another is a config error."""
    key, spec = "sk-0123456789", {"api_key_env": "OUR_KEY"}
    monkeypatch.setenv("FAKE_VLLM_KEY", key)
    monkeypatch.setenv("OUR_KEY", f" {key}\n")
    caplog.set_level("DEBUG")
    started = load(card(vllm=card().vllm.model_dump() | spec))
    url = {"url": started.engine.client.server.url}
    model = load(card(vllm=url | spec))
    assert model.score([BOTH])[0].statuses == [Status.OK] * 2
    assert key not in model.card.model_dump_json() + caplog.text
    model.close()
    for value, words in (("sk-other", "answers 401"), ("", "OUR_KEY is not set"), ("sk-\nö", "holds no key")):
        monkeypatch.setenv("OUR_KEY", value)
        with pytest.raises(ConfigError, match=words) as raised:
            load(card(vllm=url | spec))
        assert "sk-" not in str(raised.value)
        assert raised.value.field == "vllm.api_key_env"
    with pytest.raises(ValueError, match="url"):
        card(vllm={"url": "http://user:key@localhost"})
    started.close()


@pytest.mark.parametrize(("told", "words"), [
    ("version 0.33.0", "another version"), ("serves m /other", "'m' of '/other' now"), ("serves other {root}", "'other'")
])  # fmt: skip
def test_an_operators_server_of_another_version(fake, card, classifier, told, words):
    """A server at a url that is upgraded, or serves another model under the same name or another, is loaded anew, so
    that no score has the fingerprint of another version: whoever was there first, answers are vouched for behind them."""
    started = load(card())
    model = load(card(vllm={"url": started.engine.client.server.url}))
    assert model.score([BOTH])[0].statuses == [Status.OK] * 2
    assert model.fingerprint == started.fingerprint
    post = model.engine.client.post
    model.engine.client.post = lambda *asked: (post(*asked), fake[1].write_text(told.format(root=classifier)))[0]
    with pytest.raises(SystemExit, match=words):
        model.score([BOTH])
    again = load(card(vllm={"url": started.engine.client.server.url}))
    assert again.fingerprint != model.fingerprint
    assert again.score([BOTH])[0].statuses == [Status.OK] * 2
    for each in (again, model, started):
        each.close()


@pytest.fixture
def operators(card):
    """A server that is none of the model's own, and the model that it serves."""
    started = load(card())
    models = []

    def make(**fields):
        models.append(load(card(vllm={"url": started.engine.client.server.url}, **fields)))
        return models[-1]

    yield make
    for each in (*models, started):
        each.close()


@contextmanager
def hung_engine():
    """The engine behind the fake server stands still, which its health does not say."""
    (server,) = servers()
    (engine,) = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    os.kill(int(engine), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(int(engine), signal.SIGCONT)


@pytest.mark.parametrize(
    ("fields", "idle"), [({}, True), ({}, False), ({"kind": "pairwise", "votes": {"count": 1, "max_tokens": 8}}, False)]
)
def test_an_engine_that_hangs(operators, fields, idle):
    """T18: an operator's server whose engine hangs, idle or with rows in flight, is found in 5 s: no row is scored."""
    model = operators(**fields)
    assert 0 < model.probe(1) < model.probe(8192)
    with ThreadPoolExecutor(1) as pool:
        with hung_engine():
            assert model.engine.client.server._get("/health").is_success
            asked = pool.submit(model.probe, 1) if idle else pool.submit(model.score, [BOTH])
            started = time.monotonic()
            while model.alive:
                assert time.monotonic() - started < 5.5
                time.sleep(0.05)
            assert time.monotonic() - started > 3.0
            assert not asked.done()
        assert asked.result(5.0)
    assert model.alive


def test_a_server_that_tells_no_figures(fake, operators):
    """A short row may wait there behind those of other clients: it has longer before the server is given up."""
    fake[1].write_text("blind")
    assert operators().engine.pulse.patience_s >= BLIND_S > SILENT_S
    fake[1].write_text("")
    model = operators()
    model.probe(1), model.probe(8192)
    assert SILENT_S <= model.engine.pulse.patience_s < BLIND_S


@pytest.mark.slow
@pytest.mark.parametrize("how", ["slow 7", "steps 7"])
def test_an_engine_that_takes_its_time(fake, operators, how):
    """T18: where rows take longer than a hang takes to be found the server lives on: others are scored beside them, or
    its own figures move."""
    model = operators()
    model.probe(8192)
    fake[1].write_text(how)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(model.score, [BOTH])
        while not asked.done():
            assert model.alive
            time.sleep(0.05)
        assert asked.result()[0].statuses == [Status.OK] * 2


@pytest.mark.parametrize("fields", [{}, {"kind": "pairwise", "votes": {"count": 1, "max_tokens": 8}}])
def test_a_server_that_is_busy_or_away(fake, card, fields):
    """One that says so, or that an operator has taken away for a while, is not given up."""
    started = load(card())
    model = load(card(vllm={"url": started.engine.client.server.url}, **fields))
    fake[1].write_text("busy")
    assert model.probe(1) > 0
    started.close()
    assert model.probe(1) > 0
    assert model.alive
    model.close()


def test_members_of_an_ensemble(card, tmp_path, classifier):
    """The servers of an ensemble's members end with it, and with a member that cannot be loaded."""
    paths = [tmp_path / name for name in ("first.toml", "second.toml")]
    own = f'kind = "scalar"\nbackend = "vllm"\nvllm.python = "{card().vllm.python}"\n'
    paths[0].write_text(f'name = "first"\npath = "{classifier}"\n{own}')
    paths[1].write_text(f'name = "second"\npath = "nowhere"\n{own}')
    other = f'name = "second"\npath = "{classifier}"\nclasses = ["a", "b"]\npositive = "a"\n{own}'
    for second, words in ((None, "nowhere"), (other.replace("scalar", "outcome"), "the head has 1 outputs")):
        if second:
            paths[1].write_text(second)
        with pytest.raises(ConfigError, match=words):
            load(Card(name="e", kind="ensemble", ensemble={"members": paths}))
        assert none_left()
    model = load(Card(name="e", kind="ensemble", ensemble={"members": paths[:1]}))
    assert model.alive
    assert not none_left(most_s=0.0)
    model.close()
    assert not model.alive
    assert none_left()


SLOWLY = """
import sys
from rewardhub.models import load_card, load
from pathlib import Path
load(load_card(Path(sys.argv[1])))
"""


def test_the_port_of_a_server(fake, card):
    """While it starts nobody else is given its port, so that neither does it end at once nor is another taken for it."""
    script = fake[0].read_text()
    fake[0].write_text(script.replace("exec", "sleep 2; exec"))
    taken = []

    class Hasty(VllmServer):
        def _wait(self):
            with pytest.raises(OSError, match="in use"), socket.socket() as other:
                other.bind(("127.0.0.1", int(self.url.rpartition(":")[2])))
            taken.append(self.url)
            super()._wait()

    server = Hasty(card(), card().path, [])
    assert taken == [server.url]
    server.close()


@pytest.mark.slow
def test_a_server_that_is_just_started(fake, card, tmp_path):
    """A process that is killed while its server starts leaves none behind, however early."""
    script = fake[0].read_text()
    fake[0].write_text(script.replace("exec", "sleep 3; exec"))
    (tmp_path / "m.toml").write_text(
        f'name = "m"\nkind = "scalar"\npath = "{card().path}"\nbackend = "vllm"\nvllm.python = "{fake[0]}"\n'
    )
    loading = subprocess.Popen([sys.executable, "-P", "-c", SLOWLY, str(tmp_path / "m.toml")])
    while str(fake[0]) not in (started := children(loading.pid)):
        time.sleep(0.01)
        assert loading.poll() is None
    loading.kill()
    loading.wait()
    time.sleep(4)
    assert "openai" in started
    assert none_left(most_s=0.0)


def children(pid):
    """The command lines of a process's children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return b" ".join(_read(Path(f"/proc/{each}/cmdline")) for each in found).decode(errors="replace")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_server_that_is_killed(fake, card, tmp_path, monkeypatch):
    """T17, T18: killed or stopped, itself or the engine's process alone, idle or by one response: the model is not ready
    in 2 s (where stopped, in 5 s), comes back, and nobody but the response that killed two servers is without a score.
    Nothing is left when the hub has ended."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "m.toml").write_text(
        f'name = "m"\nkind = "scalar"\npath = "{card().path}"\nsystem = ""\nbackend = "vllm"\nvllm.python = "{fake[0]}"\n'
    )
    hub = make_hub(HubConfig(workers=1, cards=(tmp_path / "m.toml",)), Registry())
    await hub.start()
    call = Call(recipe="m", cache="bypass", deadline_ms=200_000)
    try:
        (before,) = await hub.score([BOTH], call)
        lane = hub.scheduler.models[0]
        for number, engine in ((signal.SIGKILL, False), (signal.SIGSTOP, False), (signal.SIGSTOP, True)):
            (server,) = servers()
            (child,) = Path(f"/proc/{server}/task/{server}/children").read_text().split()
            os.kill(int(child) if engine else server, number)
            await asyncio.wait_for(_until(hub.ready), 2.0 if number is signal.SIGKILL else 5.0)
            (after,) = await hub.score([BOTH], call)
            assert after.values == before.values
            assert lane.loaded.is_set()
            assert not Path(f"/proc/{child}").exists()
        fake[1].write_text("die")
        (scores,) = await hub.score([BOTH], call)
        assert scores.total.statuses == [Status.OK, Status.INTERNAL_ERROR]
        assert "quarantine" in scores[1].details["reason"]
    finally:
        await hub.aclose()
    assert none_left()
    assert not list((tmp_path / "temporary").glob("*vllm*"))


@pytest.mark.slow
async def test_an_operators_server_that_hangs(fake, card, tmp_path):
    """T18: with a batch in flight the model is not ready in 6 s, and scores the batch when the server goes on."""
    started = load(card())
    (tmp_path / "m.toml").write_text(
        f'name = "m"\nkind = "scalar"\npath = "{card().path}"\nsystem = ""\nbackend = "vllm"\n'
        f'vllm.url = "{started.engine.client.server.url}"\n'
    )
    hub = make_hub(HubConfig(workers=1, cards=(tmp_path / "m.toml",)), Registry())
    await hub.start()
    call = Call(recipe="m", cache="bypass", deadline_ms=100_000)
    try:
        (before,) = await hub.score([BOTH], call)
        with hung_engine():
            asked = asyncio.create_task(hub.score([BOTH], call))
            await asyncio.wait_for(_until(hub.ready), 6.0)
        (after,) = await asked
        assert after.values == before.values
    finally:
        await hub.aclose()
        started.close()


async def _until(condition):
    while not condition():
        await asyncio.sleep(0.05)


@pytest.mark.slow
def test_a_process_that_does_not_end_when_asked(tmp_path):
    """vLLM's server is deaf while it starts: where ours is killed then, it ends all the same."""
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    starts = f"import subprocess, sys, time; print(subprocess.Popen([sys.executable, '-c', {deaf!r}]).pid, flush=True)"
    parent = subprocess.Popen(
        [sys.executable, "-S", "-c", f"{starts}; time.sleep(600)"], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(SITE), "PYTHONSAFEPATH": ""},
    )  # fmt: skip
    assert parent.stdout is not None
    child = Path("/proc") / parent.stdout.readline().strip()
    assert parent.stdout.readline() == "up\n"
    parent.kill()
    parent.wait()
    assert child.exists()
    until = time.monotonic() + 40
    while child.exists() and time.monotonic() < until:
        time.sleep(0.2)
    parent.stdout.close()
    assert not child.exists()
