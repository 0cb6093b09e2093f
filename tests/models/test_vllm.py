"""The vLLM backend, against the real vLLM: the same scores as our own backend on the same checkpoint.

REWARDHUB_VLLM_PYTHON names the interpreter of an environment that holds vLLM.
"""

import os
import signal
import time
from dataclasses import replace
from itertools import islice

import pytest
import torch

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.backbone import load_headless
from rewardhub.models.checkpoint import save_classifier
from rewardhub.models.colours import answer, colour_items
from rewardhub.models.head import new_head
from rewardhub.models.tiny import build_tiny
from rewardhub.types import Group, Response, Status

ARGUMENTS = ("--enforce-eager", "--limit-mm-per-prompt", '{"image": 2, "video": 0}')


@pytest.fixture(scope="module")
def vllm_python() -> str:
    name = os.environ.get("REWARDHUB_VLLM_PYTHON", "")
    if not name:
        pytest.skip("REWARDHUB_VLLM_PYTHON is not set: no vLLM environment is at hand")
    return name


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A scalar reward model as the trainer writes it, scaled so that scores differ."""
    folder = tmp_path_factory.mktemp("vllm")
    base = build_tiny(folder / "base", seed=2, heads=2)
    backbone = load_headless(base)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    save_classifier(backbone.base, new_head(64, "none", 1).named_tensors(), base, folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def served(vllm_python, checkpoint):
    table = {"python": vllm_python, "arguments": ARGUMENTS}
    fields = {"name": "tiny", "kind": "scalar", "path": checkpoint, "system": "", "max_tokens": 1024}
    model = load(Card(**fields, backend="vllm", vllm=table))
    yield model, load(Card(**fields)), fields
    model.close()


def groups_of(count):
    for index, item in enumerate(islice(colour_items(5), count)):
        texts = [answer(item.colour) * n for n in (1, 2, 5)]
        media = (item.media,) if index % 2 else ()
        yield Group(str(index), item.question, tuple(map(Response, texts)), media=media)


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(1200)
def test_vllm_gives_the_same_scores(served):
    """Text and image responses, several at once; a system message; a control token in the text."""
    model, ours, fields = served
    groups = list(groups_of(6))
    columns, wanted = model.score(groups), ours.score(groups)
    for column, other in zip(columns, wanted, strict=True):
        assert column.values == pytest.approx(other.values, abs=1e-3)
    assert torch.tensor([value for column in wanted for value in column.values]).std() > 0.05
    talked = replace(groups[0], prompt=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}))
    assert model.score([talked])[0].values == pytest.approx(ours.score([talked])[0].values, abs=1e-3)
    spelt = [replace(group, responses=(Response("red<|im_end|>"),)) for group in groups[:2]]
    text, image = model.score(spelt)
    assert text.values == pytest.approx(ours.score(spelt[:1])[0].values, abs=1e-3)
    assert image.statuses == [Status.NO_ANSWER]
    long = replace(groups[0], responses=(Response("red " * 2000), Response("red")))
    assert model.score([long])[0].statuses == [Status.OVER_LIMIT, Status.OK]
    assert model.fingerprint != ours.fingerprint

    run = load(Card(**fields, backend="vllm", vllm={"url": model.server.url}))
    assert run.score(groups[:1])[0].values == pytest.approx(wanted[0].values, abs=1e-3)
    assert run.fingerprint == model.fingerprint

    os.killpg(model.server.process.pid, signal.SIGKILL)
    model.server.process.wait()
    down = run.score(groups[:1])[0]
    assert set(down.statuses) == {Status.UNAVAILABLE}
    with pytest.raises(SystemExit):
        model.score(groups[:1])


def test_a_server_that_is_not_there_is_a_config_error(checkpoint, monkeypatch):
    """No server at the url, or an interpreter that ends at once: the error says so."""
    clock = time.monotonic
    start = clock()
    monkeypatch.setattr(time, "monotonic", lambda: start + 60 * (clock() - start))
    fields = {"name": "tiny", "kind": "scalar", "path": checkpoint, "backend": "vllm"}
    with pytest.raises(ConfigError, match="no vLLM answers at"):
        load(Card(**fields, vllm={"url": "http://127.0.0.1:9"}))
    with pytest.raises(ConfigError, match="ended while starting"):
        load(Card(**fields, vllm={"python": "/bin/false"}))


@pytest.mark.parametrize(("version", "words"), [("0.11.2", "vLLM 0.11.2"), ("x", "tells no version")])
def test_the_version_is_checked(checkpoint, version, words):
    """Another version of vLLM may answer otherwise: it is refused when the card is loaded."""
    import http.server
    import json
    import threading

    class Old(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"version": version}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Old) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ConfigError, match=words):
            load(Card(name="m", kind="scalar", path=checkpoint, backend="vllm", vllm={"url": url}))
        server.shutdown()


@pytest.mark.parametrize(("fields", "words"), [
    ({"kind": "listwise", "vllm": {"url": "http://127.0.0.1:9"}}, "not listwise"),
    ({"kind": "scalar", "vllm": {}}, "by url, or the interpreter"),
    ({"kind": "scalar", "vllm": None}, r"table \[vllm\]"),
])  # fmt: skip
def test_cards_of_the_backend_are_checked(checkpoint, fields, words):
    """What vLLM cannot serve, and a card that names no server, are refused."""
    with pytest.raises((ConfigError, ValueError), match=words):
        load(Card(name="m", path=checkpoint, backend="vllm", **fields))
