"""Every kind of reward model gives what a plain unbatched fp32 forward of transformers gives."""

import io
import json
import math
import shutil
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration, Qwen2VLImageProcessorPil

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.tiny import build_tiny
from rewardhub.types import Group, Response, Status

WIDTH = 64


class Plain:
    """A checkpoint run by transformers alone, one rendered string at a time."""

    def __init__(self, path):
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(path), dtype=torch.float32).eval()
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
        self.processor = Qwen2VLImageProcessorPil.from_pretrained(str(path))

    def prompt(self, group, more=""):
        holes = ""
        if group.media:
            grids = self.images(group)["image_grid_thw"].prod(-1) // 4
            holes = "".join(f"<|vision_start|>{'<|image_pad|>' * n}<|vision_end|>" for n in grids.tolist())
        return f"<|im_start|>user\n{holes}{group.prompt}{more}<|im_end|>\n"

    def images(self, group):
        shown = [Image.open(io.BytesIO(media.data)).convert("RGB") for media in group.media]
        return dict(self.processor(images=shown, return_tensors="pt")) if shown else {}

    def ids(self, text):
        return self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def states(self, group, text):
        """The last hidden states [L, H] of the rendered text."""
        ids = self.ids(text)
        types = (ids == self.tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
        return self.model.model(input_ids=ids, mm_token_type_ids=types, **self.images(group)).last_hidden_state[0]

    def logits(self, group, text):
        with torch.no_grad():
            return self.model.lm_head(self.states(group, text))


def answered(text):
    return f"<|im_start|>assistant\n{text}<|im_end|>\n"


@pytest.fixture(scope="module")
def plain(tiny):
    return Plain(tiny)


@pytest.fixture(scope="module")
def with_tensors(tiny, tmp_path_factory):
    """Makes a copy of the tiny checkpoint with further tensors in a file of their own."""

    def make(**tensors):
        path = tmp_path_factory.mktemp("kind") / "checkpoint"
        shutil.copytree(tiny, path)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "value_head.safetensors")
        return path

    return make


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def model_of(path, kind, **fields):
    return load(Card(**{"name": kind, "kind": kind, "path": path, "system": ""} | fields))


def checked(model, groups, wanted):
    """The group's scores equal the wanted ones in whole groups, one by one, shuffled and asked again."""
    for group in groups:
        expected = [wanted(group, response) for response in group.responses]
        for _ in range(2):
            assert model.score([group])[0].values == pytest.approx(expected, abs=1e-5)
        for response, value in zip(group.responses, expected, strict=True):
            single = replace(group, responses=(response,))
            assert model.score([single])[0].values == pytest.approx([value], abs=1e-5)
        turned = replace(group, responses=group.responses[::-1])
        others = [other for other in groups if other is not group]
        assert model.score([*others, turned])[-1].values == pytest.approx(expected[::-1], abs=1e-5)
    return model


@pytest.mark.parametrize(("activation", "act"), [("silu", torch.nn.functional.silu), ("tanh", torch.tanh)])
def test_two_layer_heads(with_tensors, plain, groups, activation, act):
    """BaseReward's SiLU head and MM-RLHF's tanh head, bias included."""
    tensors = {
        "score.0.weight": drawn(32, WIDTH, seed=1), "score.0.bias": drawn(32, seed=2),
        "score.2.weight": drawn(1, 32, seed=3), "score.2.bias": drawn(1, seed=4),
    }  # fmt: skip

    def wanted(group, response):
        state = plain.states(group, plain.prompt(group) + answered(response.text))[-1]
        hidden = act(tensors["score.0.weight"] @ state + tensors["score.0.bias"])
        return float(tensors["score.2.weight"][0] @ hidden + tensors["score.2.bias"][0])

    checked(model_of(with_tensors(**tensors), "scalar", head={"activation": activation}), groups, wanted)


@pytest.mark.parametrize(("positive_is", "sign"), [("unsafe", 1), ("safe", -1)])
def test_cost(with_tensors, plain, groups, positive_is, sign):
    """Positive is unsafe, whatever the checkpoint's sign."""
    weight = drawn(1, WIDTH)

    def wanted(group, response):
        return sign * float(plain.states(group, plain.prompt(group) + answered(response.text))[-1] @ weight[0])

    checked(model_of(with_tensors(**{"score.weight": weight}), "cost", positive_is=positive_is), groups[:4], wanted)


def test_calibration(with_tensors, plain, groups):
    """A stored mean and deviation, then a sigmoid."""
    weight = drawn(1, WIDTH)

    def wanted(group, response):
        raw = float(plain.states(group, plain.prompt(group) + answered(response.text))[-1] @ weight[0])
        return 1 / (1 + math.exp(-(raw - 0.3) / 0.7))

    calibration = {"mean": 0.3, "deviation": 0.7, "squash": "sigmoid"}
    model = model_of(with_tensors(**{"score.weight": weight}), "scalar", calibration=calibration)
    checked(model, groups[:4], wanted)
    assert model.card.bounds == (0.0, 1.0)


def test_outcome_and_safety(with_tensors, plain, groups):
    """The chance of the positive class; the most probable level with its chance as confidence."""
    weight, bias = drawn(4, WIDTH), drawn(4, seed=9)
    path = with_tensors(**{"score.weight": weight, "score.bias": bias})

    def chances(group, response):
        state = plain.states(group, plain.prompt(group) + answered(response.text))[-1]
        return torch.softmax(weight @ state + bias, -1)

    names = ("a", "b", "c", "d")
    checked(model_of(path, "outcome", classes=names, positive="c"), groups[:4], lambda g, r: float(chances(g, r)[2]))
    safety = model_of(path, "safety", classes=names)
    checked(safety, groups[:4], lambda g, r: float(chances(g, r).argmax()))
    row = safety.score([groups[5]])[0].row(0)
    expected = chances(groups[5], groups[5].responses[0])
    assert row.confidence == pytest.approx(float(expected.max()), abs=1e-5)
    assert row.details["level"] == names[int(expected.argmax())]
    with pytest.raises(ConfigError, match="4 outputs, expected 2"):
        model_of(path, "outcome", classes=("yes", "no"), positive="yes")
    with pytest.raises(ConfigError, match="4 outputs, expected 1"):
        model_of(path, "scalar")


GATED = {
    "regression_layer.weight": drawn(3, WIDTH, seed=1), "reward_transform_matrix": drawn(3, 3, seed=2) * 5,
    "gating.layers.0.weight": drawn(16, WIDTH, seed=3), "gating.layers.0.bias": drawn(16, seed=4),
    "gating.layers.1.weight": drawn(3, 16, seed=5) * 5, "gating.layers.1.bias": drawn(3, seed=6),
    "gating.logit_scale": torch.tensor([1.3]),
}  # fmt: skip
OBJECTIVES = ("help", "truth", "verbosity")


@pytest.mark.parametrize(("stated", "temperature"), [({}, 10.0), ({"gating_temperature": 2}, 2.0)])
def test_objectives_with_a_gate(with_tensors, plain, groups, stated, temperature):
    """ArmoRM: objectives, a matrix that mixes them, and a gate that reads the token that ends the prompt's turn.

    The published code looks for that token by the pattern "end of turn, the answer's opened turn", and divides the
    gate's logits by the configuration's ``gating_temperature``, or by 10.
    """
    path = with_tensors(**GATED)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | stated))

    def wanted(group, response):
        states = plain.states(group, plain.prompt(group) + answered(response.text))
        ids = plain.ids(plain.prompt(group) + answered(response.text))[0].tolist()
        pattern = plain.ids("<|im_end|>\n<|im_start|>assistant\n")[0].tolist()
        found = max(at for at in range(len(ids)) if ids[at : at + len(pattern)] == pattern)
        hidden = torch.relu(GATED["gating.layers.0.weight"] @ states[found] + GATED["gating.layers.0.bias"])
        logits = GATED["gating.layers.1.weight"] @ hidden + GATED["gating.layers.1.bias"]
        rewards = GATED["regression_layer.weight"] @ states[-1]
        return 1.3 * float(torch.softmax(logits / temperature, -1) @ (rewards @ GATED["reward_transform_matrix"]))

    model = model_of(path, "objectives", classes=OBJECTIVES)
    checked(model, groups, wanted)
    details = model.score([groups[1]])[0].row(0).details
    assert set(details["objectives"]) == set(OBJECTIVES)


@pytest.mark.parametrize("temperature", [0, -1, "10", True])
def test_a_gate_needs_a_temperature_over_0(with_tensors, temperature):
    """Anything else in the configuration is the operator's mistake."""
    path = with_tensors(**GATED)
    config = json.loads((path / "config.json").read_text()) | {"gating_temperature": temperature}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="gating_temperature"):
        model_of(path, "objectives", classes=OBJECTIVES)


def test_one_objective_is_the_head(with_tensors, groups):
    """A head with one output, without a gate, scores as the scalar kind does."""
    path = with_tensors(**{"score.weight": drawn(1, WIDTH)})
    found = model_of(path, "objectives", classes=("only",)).score(groups)
    for column, wanted in zip(found, model_of(path, "scalar").score(groups), strict=True):
        assert column.values == pytest.approx(wanted.values, abs=1e-6)


STEPS = ("First look.\n\nIt is red.\n\nSo red.", "One step only", "a\n\n\n\nb")
FOLDS = {"min": min, "mean": statistics.fmean, "product": math.prod, "last": lambda values: values[-1]}


@pytest.fixture(scope="module")
def stepped(groups):
    return [replace(group, responses=tuple(map(Response, STEPS))) for group in groups[:3]]


@pytest.mark.parametrize("aggregate", FOLDS)
def test_process_reads_the_last_token_of_each_step(with_tensors, plain, stepped, aggregate):
    """A head with one output, steps between blank lines, each read where it ends."""
    weight = drawn(1, WIDTH) * 3

    def chances(group, response):
        pieces, at = [piece for piece in response.text.split("\n\n") if piece], 0
        states = plain.states(group, plain.prompt(group) + answered(response.text))
        start = plain.ids(plain.prompt(group)).shape[1]
        offsets = plain.tokenizer(f"assistant\n{response.text}", return_offsets_mapping=True)["offset_mapping"]
        found = []
        for piece in pieces:
            at = response.text.index(piece, at) + len(piece)
            token = max(k for k, (begin, _) in enumerate(offsets) if begin < at + len("assistant\n"))
            found.append(float(torch.sigmoid(states[start + 1 + token] @ weight[0])))
        return found

    model = model_of(with_tensors(**{"score.weight": weight}), "process", steps={"aggregate": aggregate})
    checked(model, stepped, lambda group, response: FOLDS[aggregate](chances(group, response)))
    column = model.score([stepped[1]])[0]
    assert [len(steps) for steps in column.steps] == [3, 1, 2]
    assert list(column.steps[0]) == pytest.approx(chances(stepped[1], stepped[1].responses[0]), abs=1e-5)


def test_process_with_step_tokens(with_tensors, plain, stepped):
    """Qwen2.5-Math-PRM: the steps joined by a control token in place of the separator, read there by a head with two
    outputs; text cannot spell it.
    """
    weight = drawn(2, WIDTH) * 3
    token = "<|vision_end|>"

    def wanted(group, response, shown=None):
        steps = [piece for piece in response.text.split("\n\n") if piece]
        rendered = plain.prompt(group) + answered(shown or token.join(steps) + token)
        ids = plain.ids(rendered)[0].tolist()
        start = plain.ids(plain.prompt(group)).shape[1]
        tag = plain.tokenizer.convert_tokens_to_ids(token)
        states = plain.states(group, rendered)
        places = [k for k, index in enumerate(ids) if k >= start and index == tag]
        return min(float(torch.softmax(weight @ states[k], -1)[1]) for k in places)

    path = with_tensors(**{"score.weight": weight})
    kept = model_of(path, "process", steps={"token": token, "keep_separator": True})
    text = f"First look.{token}\n\nIt is red.{token}\n\nSo red.{token}"
    first = replace(stepped[1], responses=stepped[1].responses[:1])
    assert kept.score([first])[0].values == pytest.approx([wanted(first, first.responses[0], text)], abs=1e-5)
    spans = replace(first, responses=(Response("One: a. Two: b.", steps=((5, 7), (13, 15))),))
    told = wanted(spans, spans.responses[0], f"One: a.{token} Two: b.{token}")
    model = model_of(path, "process", steps={"token": token})
    checked(model, stepped, wanted)
    assert model.score([spans])[0].values == pytest.approx([told], abs=1e-5)
    spelt = replace(stepped[1], responses=(Response(f"one {token} two"),))
    assert len(model.score([spelt])[0].steps[0]) == 1


@pytest.mark.parametrize("token", ["<answer>", "red"])
def test_step_tokens_that_are_not_special(with_tensors, stepped, token):
    """An added token or a word as the step token: a response that writes it out adds no step of its own."""
    model = model_of(with_tensors(**{"score.weight": drawn(2, WIDTH)}), "process", steps={"token": token})
    texts = (f"one\n\ntwo {token}", f"{token}{token}", f"{token} one\n\n{token}\n\nthree")
    column = model.score([replace(stepped[1], responses=tuple(map(Response, texts)))])[0]
    assert [len(steps) for steps in column.steps] == [2, 1, 3]
    ids = model.loaded.encoder.tokenizer.encode(token)
    assert (model.step_token in ids) is (token == "red")


@pytest.mark.parametrize("text", ["assistant\n", "assistant", "\n"])
def test_a_step_that_repeats_the_turns_opening(with_tensors, stepped, text):
    """The text of the answer is found by its place in the turn, not by looking for it."""
    response = Response(text, steps=((0, len(text)),))
    model = model_of(with_tensors(**{"score.weight": drawn(1, WIDTH)}), "process")
    group = replace(stepped[0], responses=(response,))
    (row,) = model.rows(group)
    before = model.loaded.encoder.prefix(group.prompt, group.media)
    shown = model.loaded.encoder.tokenizer.decode(row.encoded.ids[len(before) : row.places[0] + 1])
    assert shown == f"assistant\n{text}"


def test_process_by_the_language_head(tiny, plain, stepped):
    """Math-Shepherd: the favourable reply's chance against the other's at each given span's end."""
    spans = ((0, 5), (5, 11))
    group = replace(stepped[1], responses=(Response(STEPS[0], steps=spans),))
    model = model_of(tiny, "process", choices=("1", "2"), steps={"aggregate": "product"})
    states = plain.logits(group, plain.prompt(group) + answered(STEPS[0]))
    start = plain.ids(plain.prompt(group)).shape[1]
    offsets = plain.tokenizer(f"assistant\n{STEPS[0]}", return_offsets_mapping=True)["offset_mapping"]
    one, two = (plain.tokenizer.convert_tokens_to_ids(reply) for reply in "12")
    expected = 1.0
    for _, stop in spans:
        token = max(k for k, (begin, _) in enumerate(offsets) if begin < stop + len("assistant\n"))
        logits = states[start + 1 + token]
        expected *= float(torch.softmax(logits[[one, two]], 0)[0])
    assert model.score([group])[0].values == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize(("response", "status"), [
    (Response("  \n\n "), Status.NO_ANSWER),
    (Response("abc", steps=((0, 9),)), Status.INVALID_INPUT),
    (Response("abc", steps=((2, 3), (0, 1))), Status.INVALID_INPUT),
    (Response(messages=({"role": "assistant", "content": "x"},)), Status.INVALID_INPUT),
])  # fmt: skip
def test_steps_that_are_none(with_tensors, stepped, response, status):
    """No step, spans outside the text or out of order, a trajectory: a status, and the neighbours are scored."""
    model = model_of(with_tensors(**{"score.weight": drawn(1, WIDTH)}), "process")
    column = model.score([replace(stepped[1], responses=(Response("fine"), response))])[0]
    assert column.statuses == [Status.OK, status]


def test_yes_no(tiny, plain, groups):
    """The chance of the first reply against the second after the question."""
    question = "Right? 1 or 2"
    model = model_of(tiny, "yes_no", choices=("1", "2"), question=question)

    def wanted(group, response):
        text = plain.prompt(group) + answered(response.text) + f"<|im_start|>user\n{question}<|im_end|>\n"
        logits = plain.logits(group, text + "<|im_start|>assistant\n")[-1]
        return float(torch.softmax(logits[[plain.tokenizer.convert_tokens_to_ids(reply) for reply in "12"]], 0)[0])

    checked(model, groups, wanted)


def test_listwise(with_tensors, plain, groups):
    """All responses in one row; each is read at its last token and sees those before it."""
    weight = drawn(1, WIDTH)
    model = model_of(with_tensors(**{"score.weight": weight}), "listwise")
    for group, column in zip(groups, model.score(groups), strict=True):
        text, expected = plain.prompt(group), []
        for response in group.responses:
            text += answered(response.text)
            expected.append(float(plain.states(group, text)[-1] @ weight[0]))
        assert column.values == pytest.approx(expected, abs=1e-5)
    long = replace(groups[1], responses=(Response("z" * 5000), Response("red")))
    assert model.score([long])[0].statuses == [Status.OVER_LIMIT] * 2


@pytest.mark.parametrize("per_token", [False, True])
def test_implicit(tiny, plain, groups, tmp_path, per_token):
    """DPO: beta times the gain in log-likelihood of the answer's turn over the reference model."""
    other = build_tiny(tmp_path / "reference", seed=8)
    base = Plain(other)
    spec = {"reference": other, "beta": 0.3, "per_token": per_token}
    model = model_of(tiny, "implicit", implicit=spec)

    def likelihood(side, group, response):
        text = side.prompt(group) + answered(response.text)
        ids = side.ids(text)[0]
        start = side.ids(side.prompt(group) + "<|im_start|>assistant\n").shape[1]
        chances = torch.log_softmax(side.logits(group, text), -1)
        found = [float(chances[k - 1, ids[k]]) for k in range(start, len(ids))]
        return sum(found) / (len(found) if per_token else 1)

    def wanted(group, response):
        return 0.3 * (likelihood(plain, group, response) - likelihood(base, group, response))

    for group in groups[:3]:
        expected = [wanted(group, response) for response in group.responses]
        near = 1e-5 if model.loaded.backbone.device.type == "cpu" else 1e-4
        assert model.score([group])[0].values == pytest.approx(expected, abs=near)
        assert np.abs(expected).max() > 1e-3
    # What both models read is counted, and both share out what memory is free.
    assert len({runner.tokens for runner in model.runners if runner.tokens}) == 1 < len(model.runners)


@pytest.mark.parametrize(("name", "value"), [
    ("image_mean", [0.5, 0.5, 0.5]), ("size", {"shortest_edge": 3136, "longest_edge": 6272}), ("do_rescale", False),
])  # fmt: skip
def test_a_reference_that_reads_images_otherwise_is_refused(tiny, tmp_path, name, value):
    """Both sides of an implicit reward read the images as one processor cuts them: settings that differ are named."""
    other = shutil.copytree(tiny, tmp_path / "other")
    card = Card(name="i", kind="implicit", path=tiny, implicit={"reference": other})
    file = other / "preprocessor_config.json"
    written = json.loads(file.read_text())
    file.write_text(json.dumps(written | {"image_processor_type": "Qwen2VLImageProcessorFast"}))
    assert load(card).fingerprint
    file.write_text(json.dumps(written | {name: value}))
    with pytest.raises(ConfigError, match=f"reads images otherwise: {name} is .* there and .* in"):
        load(card)


@pytest.mark.parametrize(("spec", "fold"), [
    ({"combine": "mean"}, statistics.fmean),
    ({"combine": "min"}, min),
    ({"combine": "cautious", "weight": 2.0}, lambda v: statistics.fmean(v) - 2.0 * statistics.pvariance(v)),
])  # fmt: skip
def test_ensemble(with_tensors, plain, groups, tmp_path, spec, fold):
    """Members are combined per response; their values are in the details."""
    weights = [drawn(1, WIDTH, seed=seed) for seed in range(3)]
    members = []
    for index, weight in enumerate(weights):
        card = tmp_path / f"{index}.toml"
        path = with_tensors(**{"score.weight": weight})
        card.write_text(f'name = "m{index}"\nkind = "scalar"\npath = "{path}"\nsystem = ""\n')
        members.append(card)

    def wanted(group, response):
        state = plain.states(group, plain.prompt(group) + answered(response.text))[-1]
        return fold([float(state @ weight[0]) for weight in weights])

    model = load(Card(name="e", kind="ensemble", ensemble={"members": members, **spec}))
    checked(model, groups[:4], wanted)
    bad = replace(groups[1], responses=(Response("z" * 5000), Response("red")))
    assert model.score([bad])[0].statuses == [Status.OVER_LIMIT, Status.OK]


def test_an_ensemble_runs_where_its_members_do(with_tensors, tmp_path):
    """Members on another device than their ensemble's are refused by both names: it runs in one device's process."""
    members = []
    for device in ("cpu", "cuda:0"):
        members.append(tmp_path / f"{device}.toml")
        path = with_tensors(**{"score.weight": drawn(1, WIDTH)})
        members[-1].write_text(f'name = "m"\nkind = "scalar"\npath = "{path}"\ndevice = "{device}"\n')
    for device, (ours, theirs) in [("cpu", ("'cpu'", "'cuda:0'")), ("cuda", ("'cuda'", "'cpu'"))]:
        with pytest.raises(ConfigError, match=f"device {ours}, its member .*on {theirs}"):
            load(Card(name="e", kind="ensemble", device=device, ensemble={"members": members}))


def test_context_from_the_reference(with_tensors, plain, groups):
    """Facts and a reference answer are read from the reference; a missing one is the caller's fault."""
    weight = drawn(1, WIDTH)
    model = model_of(
        with_tensors(**{"score.weight": weight}), "scalar", context="\nFacts:\n{facts}\nRight: {answer} {}"
    )
    reference = {"facts": ["a {answer} square", "on grey"], "answer": "red"}

    def wanted(group, response):
        more = "\nFacts:\na {answer} square\non grey\nRight: red {}"
        return float(plain.states(group, plain.prompt(group, more) + answered(response.text))[-1] @ weight[0])

    told = [replace(group, reference=reference) for group in groups[:3]]
    checked(model, told, wanted)
    parts = replace(told[1], prompt=({"role": "user", "content": told[1].prompt},))
    assert model.score([parts])[0].values == pytest.approx(model.score([told[1]])[0].values, abs=1e-6)
    silent, neighbour = model.score([groups[1], told[1]])
    assert set(silent.statuses) == {Status.REFERENCE_UNPARSEABLE}
    assert set(neighbour.statuses) == {Status.OK}


def test_what_changes_scores_changes_the_fingerprint(with_tensors):
    """Cards that read the same weights otherwise have other fingerprints; budgets are not part of it."""
    path = with_tensors(**{"score.weight": drawn(1, WIDTH)})
    cards = [
        {}, {"calibration": {"mean": 1.0}}, {"context": "{facts}"}, {"kind": "process"}, {"kind": "listwise"},
        {"kind": "process", "steps": {"aggregate": "mean"}}, {"kind": "cost", "positive_is": "safe"},
        {"kind": "cost", "positive_is": "unsafe"}, {"system": "Hm."},
    ]  # fmt: skip
    prints = [model_of(path, **{"kind": "scalar"} | fields).fingerprint for fields in cards]
    assert len(set(prints)) == len(prints)
    assert model_of(path, "scalar", prefix_cache_mb=1, token_budget=99).fingerprint == prints[0]


def test_where_a_reference_lies_is_no_part_of_the_fingerprint(tiny, tmp_path):
    """A run's pin holds when a disk is renamed; other weights there are another model."""
    first, second, third = (build_tiny(tmp_path / name, seed) for name, seed in (("a", 8), ("b", 8), ("c", 9)))
    one, same, other = (
        model_of(tiny, "implicit", implicit={"reference": path}).fingerprint for path in (first, second, third)
    )
    assert one == same != other


CRITIQUE = {"count": 3, "max_tokens": 5, "question": "Critique it."}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_critique_then_score(with_tensors, plain, groups, temperature):
    """MM-RLHF: the head reads the end of each critique, token by token what the language head gives; the mean counts."""
    weight = drawn(1, WIDTH)
    spec = CRITIQUE | {"temperature": temperature}
    model = model_of(with_tensors(**{"v_head.weight": weight}), "critique", critique=spec)
    end = plain.ids("<|im_end|>")[0].tolist()

    def asked(group, response):
        return (
            plain.prompt(group)
            + answered(response.text)
            + "<|im_start|>user\nCritique it.<|im_end|>\n"
            + ("<|im_start|>assistant\n")
        )

    def value(group, ids):
        types = (ids == plain.tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
        with torch.no_grad():
            states = plain.model.model(input_ids=ids, mm_token_type_ids=types, **plain.images(group))
        return float(states.last_hidden_state[0, -1] @ weight[0]), plain.model.lm_head(states.last_hidden_state[0, -1])

    def greedy(group, response):
        ids = plain.ids(asked(group, response))
        for _ in range(5):
            _, logits = value(group, ids)
            logits[model.writer.forbidden] = -math.inf
            if int(logits.argmax()) == end[0]:
                break
            ids = torch.cat([ids, logits.argmax().reshape(1, 1)], 1)
        return value(group, torch.cat([ids, torch.tensor([end])], 1))[0]

    if not temperature:
        checked(model, groups[:3], greedy)
        return
    first, again = model.score(groups[:3]), model.score(groups[:3][::-1])[::-1]
    for column, other in zip(first, again, strict=True):
        assert column.values == pytest.approx(other.values, abs=1e-5)
    details = first[1].row(0).details
    assert len(set(details["critiques"])) == 3
    assert first[1].values[0] == pytest.approx(statistics.fmean(details["values"]), abs=1e-6)


def test_steps_beside_an_image_are_refused(with_tensors, groups):
    """Places of steps are counted in text: a response that brings an image is invalid_input, not read elsewhere."""
    model = model_of(with_tensors(**{"score.weight": drawn(1, WIDTH)}), "process")
    responses = (Response("a\n\nb"), Response("a\n\nb", media=groups[1].media))
    assert model.score([replace(groups[0], responses=responses)])[0].statuses == [Status.OK, Status.INVALID_INPUT]


def test_a_reference_with_other_tokens_is_refused(tiny, tmp_path):
    """The reference reads the ids that the model's tokenizer gives: they have to mean the same to both."""
    other = build_tiny(tmp_path / "other", seed=9)
    file = other / "tokenizer.json"
    tokens = json.loads(file.read_text())
    vocabulary = tokens["model"]["vocab"]
    first, second = list(vocabulary)[40:42]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(tokens))
    with pytest.raises(ConfigError, match="another vocabulary"):
        model_of(tiny, "implicit", implicit={"reference": other})


def test_the_shorter_context_of_two_models_holds(tiny, tmp_path):
    """A response that is too long for the reference has no implicit reward."""
    short = build_tiny(tmp_path / "short", seed=9)
    config = json.loads((short / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 64
    (short / "config.json").write_text(json.dumps(config))
    model = model_of(tiny, "implicit", implicit={"reference": short})
    column = model.score([Group("a", "x", (Response("red"), Response("z" * 80)))])[0]
    assert column.statuses == [Status.OK, Status.OVER_LIMIT]


def test_logits_of_a_long_response_are_held_in_parts(tiny, monkeypatch):
    """Memory over a vocabulary does not grow with the response, and the sum is the same."""
    group = Group("a", "x", (Response("z and " * 150),))
    model = model_of(tiny, "implicit", implicit={"reference": build_tiny(tiny.parent / "reference", seed=9)})
    whole = model.score([group])[0].values
    monkeypatch.setattr("rewardhub.models.implicit.PLACES", 7)
    seen = []
    logits = model.loaded.backbone.logits
    monkeypatch.setattr(model.loaded.backbone, "logits", lambda states: seen.append(len(states)) or logits(states))
    assert model.score([group])[0].values == pytest.approx(whole, abs=1e-6)
    assert max(seen) == 7


BROKEN_HEADS = {
    "bias": ("scalar", {"score.weight": drawn(1, WIDTH), "score.bias": drawn(3)}, {}),
    "layers": ("scalar", {"score.0.weight": drawn(8, WIDTH), "score.2.weight": drawn(1, 9)}, {"activation": "silu"}),
    "gate": ("objectives", {"score.weight": drawn(1, WIDTH), "gating.layers.0.weight": drawn(1, 9)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_HEADS)
def test_layers_that_do_not_fit_are_refused_at_load(with_tensors, name):
    """A head or a gate that cannot multiply is a ConfigError, not an error of every call."""
    kind, tensors, head = BROKEN_HEADS[name]
    more = {"classes": ("a",)} if kind == "objectives" else {}
    with pytest.raises(ConfigError, match=r"inputs|outputs"):
        model_of(with_tensors(**tensors), kind, head=head, **more)
