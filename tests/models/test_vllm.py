"""The vLLM backend, against the real vLLM: the same scores as our own backend on the same checkpoint.

REWARDHUB_VLLM_PYTHON names the interpreter of an environment that holds vLLM and the plugin of deploy/vllm_plugin.
"""

import io
import json
import os
import re
import shutil
import signal
import statistics
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from rewardhub.cli import app
from rewardhub.errors import ConfigError
from rewardhub.models import Card, load, load_card
from rewardhub.models.backbone import load_headless
from rewardhub.models.card import TRUNCATED
from rewardhub.models.checkpoint import save_classifier
from rewardhub.models.colours import COLOURS, answer, colour_items
from rewardhub.models.head import new_head
from rewardhub.models.tiny import build_tiny
from rewardhub.reward_modeling.toy import write_toy
from rewardhub.types import Group, Media, Response, Status
from tests.models import tiny_families

ARGUMENTS = ("--enforce-eager", "--limit-mm-per-prompt", '{"image": 2, "video": 0}')
WIDTH = 64
served = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def vllm_python() -> str:
    name = os.environ.get("REWARDHUB_VLLM_PYTHON", "")
    if not name:
        pytest.skip("REWARDHUB_VLLM_PYTHON is not set: no vLLM environment is at hand")
    return name


def widened(path, seed):
    """A tiny checkpoint with its language head, whose weights are scaled so that scores and replies differ."""
    build_tiny(path, seed=seed, heads=2)
    tensors = load_file(path / "model.safetensors")
    scales = {name: 8.0 if "embed_tokens" in name else 3.0 for name, tensor in tensors.items() if tensor.ndim > 1}
    scaled = {name: tensor * scales.get(name, 1.0) for name, tensor in tensors.items()}
    save_file(scaled, path / "model.safetensors", {"format": "pt"})
    return path


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


def noise(size, mode):
    """A picture of coarse noise; in RGB it is a JPEG."""
    coarse = np.random.default_rng(size[0]).integers(0, 255, (6, 8, 4), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse, "RGBA").resize(size).convert(mode).save(buffer, "JPEG" if mode == "RGB" else "PNG")
    return Media.from_bytes(buffer.getvalue())


def drawn(*shape, seed=0, scale=0.2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def with_head(path, **tensors):
    """The checkpoint with a head in a file of its own, as LLaMA-Factory writes it."""
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file(named, path / "value_head.safetensors")
    return path


def groups_of(count):
    for index, item in enumerate(islice(colour_items(5), count)):
        texts = [answer(item.colour) * n for n in (1, 2, 5)]
        media = (item.media,) if index % 2 else ()
        yield Group(str(index), item.question, tuple(map(Response, texts)), media=media)


@contextmanager
def behind(python, card, *more):
    """Cards behind one vLLM that serves the first of them, each with its model and the same one on our backend."""
    fields = {"backend": "vllm", "max_tokens": 1024, "system": ""}
    own = [each.model_copy(update={"max_tokens": 1024, "system": ""}) for each in (card, *more)]
    models = [
        load(Card.model_validate(card.model_dump() | fields | {"vllm": {"python": python, "arguments": ARGUMENTS}}))
    ]
    try:
        url = {"url": models[0].engine.client.server.url}
        models += [load(Card.model_validate(each.model_dump() | fields | {"vllm": url})) for each in more]
        yield list(zip(models, map(load, own), strict=True))
    finally:
        for model in models[::-1]:
            model.close()


def alike(model, ours, groups, spread=1e-2):
    """Scores, steps and details of both backends agree to 1e-3, and are not all alike."""
    found, wanted = model.score(groups), ours.score(groups)
    for column, other in zip(found, wanted, strict=True):
        assert column.statuses == other.statuses, [column.row(row) for row in range(len(column))]
        assert column.values == pytest.approx(other.values, abs=1e-3)
        for row in range(len(column)):
            assert column.row(row).steps == pytest.approx(other.row(row).steps, abs=1e-3)
            for name in ("objectives", "chances"):
                theirs = other.row(row).details.get(name, {})
                assert column.row(row).details.get(name, {}) == pytest.approx(theirs, abs=1e-3)
    values = [value for column in wanted for value in column.values if value is not None]
    assert statistics.pstdev(values) >= spread
    assert model.fingerprint != ours.fingerprint
    return found


class TestServed:
    """Each kind behind the real vLLM."""

    pytestmark = served

    def test_the_same_scores_as_ours(self, vllm_python, checkpoint):
        """A head that vLLM itself knows: text and images, several at once, a system message, a spelt control token."""
        fields = {"name": "tiny", "kind": "scalar", "path": checkpoint}
        with behind(vllm_python, Card(**fields)) as ((model, ours),):
            assert not any("rewardhub_head" in word for word in model.engine.client.server.process.args)
            groups = list(groups_of(6))
            wanted = alike(model, ours, groups, 0.05)
            talked = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
            alike(model, ours, [replace(groups[0], prompt=talked)], 0.0)
            spelt = [replace(group, responses=(Response("red<|im_end|>"),)) for group in groups[:2]]
            text, image = model.score(spelt)
            assert text.values == pytest.approx(ours.score(spelt[:1])[0].values, abs=1e-3)
            assert image.statuses == [Status.NO_ANSWER]
            long = replace(groups[0], responses=(Response("red " * 2000), Response("red")))
            assert model.score([long])[0].statuses == [Status.OVER_LIMIT, Status.OK]

            url = {"url": model.engine.client.server.url, "arguments": ARGUMENTS}
            run = load(Card(**fields, system="", max_tokens=1024, backend="vllm", vllm=url))
            assert run.score(groups[:1])[0].values == pytest.approx(wanted[0].values, abs=1e-6)
            assert run.fingerprint == model.fingerprint

            os.killpg(model.engine.client.server.process.pid, signal.SIGKILL)
            model.engine.client.server.process.wait()
            down = run.score(groups[:1])[0]
            assert set(down.statuses) == {Status.UNAVAILABLE}
            with pytest.raises(SystemExit):
                model.score(groups[:1])

    def test_bounds_on_pixels(self, vllm_python, checkpoint):
        """An image over the card's max_pixels, one under its min_pixels, JPEG and transparent: the same scores as ours."""
        bounds = {"min_pixels": 84 * 84, "max_pixels": 112 * 112}
        card = Card(name="tiny", kind="scalar", path=checkpoint, **bounds)
        texts = [answer(colour) for colour in list(COLOURS)[:3]]
        groups = [
            Group(f"{mode} {size}", "What is seen?", tuple(map(Response, texts)), media=(noise(size, mode),))
            for size in ((400, 300), (40, 40)) for mode in ("RGB", "RGBA", "L")
        ]  # fmt: skip
        free = load(card.model_copy(update={"min_pixels": None, "max_pixels": None, "system": ""}))
        with behind(vllm_python, card) as ((model, ours),):
            alike(model, ours, groups)
            apart = [a.values[0] - b.values[0] for a, b in zip(ours.score(groups), free.score(groups), strict=True)]
            assert min(map(abs, apart)) > 2e-3

    def test_prompts_over_the_limit(self, vllm_python, checkpoint):
        """Truncation by the card: the same prompts are cut by the same tokens, in text and beside images."""
        with behind(vllm_python, Card(name="tiny", kind="scalar", path=checkpoint, truncation="left")) as (
            (model, ours),
        ):
            groups = [replace(group, prompt=f"{group.prompt} Look closely." * 60) for group in groups_of(4)]
            groups += list(groups_of(2))
            found = alike(model, ours, groups)
            flags = [column.row(row).details.get(TRUNCATED) for column in found for row in range(len(column))]
            wanted = ours.score(groups)
            assert flags == [column.row(row).details.get(TRUNCATED) for column in wanted for row in range(len(column))]
            assert all(flags[:12])
            assert not any(flags[12:])

    @pytest.mark.parametrize("kind", ["scalar", "yes_no"])
    def test_weights_in_eight_bits(self, vllm_python, checkpoint, tmp_path, kind):
        """The plugin quantises as our own backend does, under a head that vLLM knows and under one of the plugin's."""
        path = checkpoint if kind == "scalar" else widened(tmp_path / "m", 6)
        choices = ("1", "2") if kind == "yes_no" else None
        card = Card(name="m", kind=kind, path=path, choices=choices, quantization="int8")
        groups = list(groups_of(6))
        exact = load(card.model_copy(update={"quantization": "none", "system": ""}))
        with behind(vllm_python, card) as ((model, ours),):
            found = alike(model, ours, groups, 1e-3)
            values = torch.tensor([[sum((column.values for column in columns), [])]
                                   for columns in (found, ours.score(groups), exact.score(groups))])  # fmt: skip
            assert (values[0] - values[1]).abs().max() < 0.05 * (values[0] - values[2]).abs().max()

    def test_a_checkpoint_published_as_quantised(self, vllm_python, checkpoint, tmp_path):
        """Eight bits for weights and activations by compressed-tensors, which vLLM reads: near the exact scores."""
        path = shutil.copytree(checkpoint, tmp_path / "m")
        layers = re.compile(r".*\blayers\.\d+\..*proj\.weight")
        tensors = load_file(path / "model.safetensors")
        for name in filter(layers.match, list(tensors)):
            scale = tensors[name].abs().amax(1, keepdim=True) / 127
            tensors[name] = (tensors[name] / scale).round().to(torch.int8)
            tensors[f"{name}_scale"] = scale
        save_file(tensors, path / "model.safetensors", {"format": "pt"})
        eight = {"num_bits": 8, "type": "int", "symmetric": True}
        group = {"targets": ["Linear"], "weights": eight | {"strategy": "channel", "dynamic": False},
                 "input_activations": eight | {"strategy": "token", "dynamic": True}}  # fmt: skip
        method = {"quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
                  "config_groups": {"group_0": group}, "ignore": ["re:.*visual.*", "re:.*score", "lm_head"]}  # fmt: skip
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"quantization_config": method}))
        fields = {"name": "m", "kind": "scalar", "system": "", "max_tokens": 1024}
        served = fields | {"path": path, "quantization": "compressed-tensors", "backend": "vllm"}
        served["vllm"] = {"python": vllm_python, "arguments": ARGUMENTS}
        groups = list(groups_of(6))
        model = load(Card(**served, dtype="bfloat16"))
        try:
            columns = model.score(groups)
        finally:
            model.close()
        assert {status for column in columns for status in column.statuses} == {Status.OK}
        exact = load(Card(**fields, path=checkpoint)).score(groups)
        found, wanted = (torch.tensor(sum((column.values for column in each), [])) for each in (columns, exact))
        assert 1e-4 < (found - wanted).abs().mean() < 0.2 * wanted.std()
        if not torch.cuda.is_available():
            # vLLM loads it, and fails when it is asked.
            with pytest.raises(ConfigError, match="(?s)serves no scores.*expect A to be bfloat16 or half"):
                load(Card(**served, dtype="float32"))

    def test_a_quantisation_that_this_machine_cannot_do(self, vllm_python, checkpoint):
        """fp8 needs a GPU: the card is refused when it is loaded, with vLLM's own words."""
        if torch.cuda.is_available():
            pytest.skip("this machine may do it")
        card = Card(
            name="m",
            kind="scalar",
            path=checkpoint,
            quantization="fp8",
            dtype="bfloat16",
            backend="vllm",
            vllm={"python": vllm_python},
        )
        with pytest.raises(ConfigError, match="(?s)ended while starting.*fp8"):
            load(card)

    @pytest.mark.parametrize("activation", ["none", "silu"])
    def test_what_train_rm_writes(self, vllm_python, tmp_path, activation):
        """The card and the folder of `rewardhub train-rm`, linear or BaseReward's two layers, on both backends."""
        toy = write_toy(tmp_path / "toy", pairs=64, eval_pairs=16, steps=12)
        build_tiny(toy.parent / "base", seed=2, heads=2)
        toy.write_text(toy.read_text() + f'activation = "{activation}"\n')
        done = CliRunner().invoke(app, ["train-rm", str(toy), "--out", str(tmp_path / "out")])
        assert done.exit_code == 0, done.output
        card = load_card(tmp_path / "out/card.toml")
        assert card.head.activation == activation
        with behind(vllm_python, card) as ((model, ours),):
            alike(model, ours, list(groups_of(6)), 1e-3)

    def test_classes(self, vllm_python, tmp_path):
        """Outcome and safety by one server: two tanh layers with bias from a side file."""
        path = with_head(
            widened(tmp_path / "m", 3), score__0__weight=drawn(16, WIDTH), score__0__bias=drawn(16, seed=1),
            score__2__weight=drawn(2, 16, seed=9, scale=1.0), score__2__bias=drawn(2, seed=3),
        )  # fmt: skip
        fields = {"name": "m", "path": path, "classes": ("bad", "good"), "head": {"activation": "tanh"}}
        outcome = Card(kind="outcome", positive="good", **fields)
        with behind(vllm_python, outcome, Card(kind="safety", **fields)) as pairs:
            for model, ours in pairs:
                alike(model, ours, list(groups_of(4)), 0.0 if model.card.kind == "safety" else 1e-2)

    def test_objectives_with_a_gate(self, vllm_python, tmp_path):
        """ArmoRM's layout: the gate reads the prompt, asked for once per group; with images too."""
        path = with_head(
            widened(tmp_path / "m", 4), regression_layer__weight=drawn(3, WIDTH, seed=1),
            reward_transform_matrix=drawn(3, 3, seed=2, scale=1.0), gating__layers__0__weight=drawn(16, WIDTH, seed=3),
            gating__layers__0__bias=drawn(16, seed=4), gating__layers__1__weight=drawn(3, 16, seed=5, scale=2.0),
            gating__layers__1__bias=drawn(3, seed=6),
        )  # fmt: skip
        with behind(vllm_python, Card(name="m", kind="objectives", path=path, classes=("a", "b", "c"))) as (
            (model, ours),
        ):
            posted = []
            post = model.engine.client.post
            model.engine.client.post = lambda *asked: posted.append(asked) or post(*asked)
            alike(model, ours, list(groups_of(4)))
            prompts = {(group.prompt, *(media.sha256 for media in group.media)) for group in groups_of(4)}
            assert len(posted) == len(prompts) + 4 * 3

    def test_process_and_listwise(self, vllm_python, tmp_path):
        """One head behind both: the end of each step, and of each response in a row of all."""
        path = with_head(widened(tmp_path / "m", 5), score__weight=drawn(1, WIDTH, scale=0.6))
        process, listwise = (Card(name="m", kind=kind, path=path) for kind in ("process", "listwise"))
        with behind(vllm_python, process, listwise) as (steps, lists):
            groups = [replace(group, responses=(*map(Response, ("a\n\nIt is red.\n\nSo.", "One", " ")),))
                      for group in groups_of(4)]  # fmt: skip
            found = alike(*steps, groups)
            assert [len(each) for each in found[0].steps] == [3, 1, 0]
            assert found[0].statuses == [Status.OK, Status.OK, Status.NO_ANSWER]
            alike(*lists, list(groups_of(4)))

    def test_process_with_step_tokens(self, vllm_python, tmp_path, monkeypatch):
        """Qwen2.5-Math-PRM's layout in a model of text: ReLU between two layers, two outputs at a control token."""
        for name, value in {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}.items():
            monkeypatch.setitem(tiny_families.TEXT, name, value)
        path = tiny_families.build("qwen2", tmp_path / "m")
        (path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        with_head(path, score__0__weight=drawn(WIDTH, WIDTH), score__0__bias=drawn(WIDTH, seed=1),
                  score__2__weight=drawn(2, WIDTH, seed=2), score__2__bias=drawn(2, seed=3))  # fmt: skip
        card = Card(name="m", kind="process", path=path, head={"activation": "relu"}, steps={"token": "<|im_start|>"})
        texts = ("a\n\nIt is red.\n\nSo.", "One", "two <|im_start|>\n\nthree")
        with behind(vllm_python, card) as ((model, ours),):
            groups = [Group(str(n), colour, (*map(Response, texts),)) for n, colour in enumerate(COLOURS)]
            found = alike(model, ours, groups)
            assert [len(each) for each in found[0].steps] == [3, 1, 2]

    def test_replies(self, vllm_python, tmp_path):
        """Yes against no, and one answer against another in both orders: two rows of the language head, images too."""
        path = widened(tmp_path / "m", 6)
        fields = {"name": "m", "path": path, "choices": ("1", "2")}
        cards = Card(kind="yes_no", **fields), Card(kind="pairwise", **fields)
        with behind(vllm_python, *cards) as (yes_no, pairwise):
            alike(*yes_no, list(groups_of(6)), 1e-3)
            alike(*pairwise, list(groups_of(4)), 1e-3)

    def test_process_by_the_language_head(self, vllm_python, tmp_path):
        """Math-Shepherd: one reply against another at the end of each step."""
        path = widened(tmp_path / "m", 7)
        card = Card(name="m", kind="process", path=path, choices=("1", "2"), steps={"aggregate": "mean"})
        with behind(vllm_python, card) as ((model, ours),):
            groups = [
                replace(group, responses=(Response("a\n\nIt is red.\n\nSo."), Response("b"))) for group in groups_of(4)
            ]
            alike(model, ours, groups, 1e-3)

    def test_votes_written_out(self, vllm_python, tmp_path):
        """Greedy votes are the same texts on both backends; sampled ones are as many as asked for, the same twice; what the
        checkpoint's generation_config.json would rather have changes none."""
        path = widened(tmp_path / "m", 8)
        other = {"do_sample": True, "top_k": 1, "repetition_penalty": 1.7, "max_new_tokens": 2}
        (path / "generation_config.json").write_text(json.dumps(other))
        votes = {"count": 3, "max_tokens": 6}
        cards = [Card(name="m", kind="pairwise", path=path, votes=votes | {"temperature": each}) for each in (0.0, 1.0)]
        with behind(vllm_python, *cards) as ((greedy, ours), (sampled, _)):
            for group in groups_of(2):
                rows = [row.encoded for row in greedy.encode(group).rows.values()]
                found, wanted = (each.engine.texts(rows, 3, group.media) for each in (greedy, ours))
                # vLLM leaves out a character whose last bytes were not written.
                assert found == [[text.rstrip("\ufffd") for text in texts] for texts in wanted]
                drawn_twice = [sampled.engine.texts(rows, 3, group.media) for _ in range(2)]
                assert drawn_twice[0] == drawn_twice[1]
                assert all(len(set(texts)) > 1 for texts in drawn_twice[0])
            column = greedy.score([next(groups_of(1))])[0]
            assert set(column.statuses) <= {Status.OK, Status.JUDGE_UNPARSEABLE}


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
    ({"kind": "critique", "vllm": {"url": "http://127.0.0.1:9"}}, "not critique"),
    ({"kind": "generative", "vllm": {"url": "http://127.0.0.1:9"}}, "not generative"),
    ({"kind": "scalar", "vllm": {}}, "by url, or the interpreter"),
    ({"kind": "scalar", "vllm": None}, r"table \[vllm\]"),
])  # fmt: skip
def test_cards_of_the_backend_are_checked(checkpoint, fields, words):
    """What vLLM cannot serve, and a card that names no server, are refused."""
    with pytest.raises((ConfigError, ValueError), match=words) as raised:
        load(Card(name="m", path=checkpoint, backend="vllm", **fields))
    if "not " in words:
        assert raised.value.field == "backend"
