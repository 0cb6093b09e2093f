"""Checkpoints in the very layouts that are published: each scores as its own classes, or its own formula, say."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load, load_card
from rewardhub.types import Group, Response, Status

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

CARDS = sorted((Path(__file__).parents[2] / "models" / "cards").glob("*.toml"))
GROUP = Group("0", "What colour is the circle?", (Response("red"), Response("<answer>blue</answer>")))
CHATML = "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>\n"
THINKING = CHATML.replace("{text}", "<think>\n\n</think>\n\n{text}")
GEMMA = "<bos><start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n{text}<end_of_turn>\n"
LLAMA = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n{text}<|eot_id|>"
)
CLASSES = {
    "qwen2": ("Qwen2ForSequenceClassification", CHATML),
    "qwen3": ("Qwen3ForSequenceClassification", THINKING),
    "llama": ("LlamaForSequenceClassification", LLAMA),
    "gemma3": ("Gemma3ForSequenceClassification", GEMMA),
    "qwen3_5": ("Qwen3_5ForSequenceClassification", THINKING),
}


def base(kind, folder):
    path = tiny_families.build(kind, folder / "checkpoint")
    (path / "value_head.safetensors").unlink()
    return path


def ids_of(path, text):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    return tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]


def states(path, template, response):
    """The last token's state [H] by the bare model alone."""
    kind = AutoConfig.from_pretrained(str(path)).model_type
    model = AutoModel.from_pretrained(str(path), dtype=torch.float32).eval()
    ids = ids_of(path, template.format(prompt=GROUP.prompt, text=response.text))
    more = {"mm_token_type_ids": ids * 0} if kind.startswith(("qwen3_vl", "qwen3_5", "qwen2_5")) else {}
    with torch.no_grad():
        return model(input_ids=ids, **more).last_hidden_state[0, -1]


def scores(path, **fields):
    return load(Card(**{"name": "m", "kind": "scalar", "path": path, "system": ""} | fields)).score([GROUP])[0].values


@pytest.mark.parametrize("kind", CLASSES)
def test_sequence_classifiers_of_transformers(tmp_path, kind):
    """TRL and ms-swift write ``*ForSequenceClassification``: a score head without bias, one label."""
    name, template = CLASSES[kind]
    path = base(kind, tmp_path)
    config = AutoConfig.from_pretrained(str(path))
    config.num_labels = config.get_text_config().num_labels = 1
    torch.manual_seed(1)
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    (path / "model.safetensors").unlink()
    model.save_pretrained(str(path))
    assert any(name.endswith("score.weight") for name in load_file(path / "model.safetensors"))
    wanted = []
    for response in GROUP.responses:
        ids = ids_of(path, template.format(prompt=GROUP.prompt, text=response.text))
        with torch.no_grad():
            wanted.append(float(model(input_ids=ids).logits))
    assert scores(path) == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted[0] - wanted[1]) > 1e-3


@pytest.mark.parametrize(("kind", "behind"), [("qwen2", 1), ("llama", 0), ("gemma3", 1)])
def test_heads_read_at_the_end_of_the_turn(tmp_path, kind, behind):
    """OpenRLHF and ms-swift train the token that ends the turn, not the line break behind it: the card says so."""
    path, template = base(kind, tmp_path), CLASSES[kind][1]
    head = torch.randn(1, 64, generator=torch.Generator().manual_seed(3)) * 0.2
    save_file({"value_head.weight": head}, path / "value_head.safetensors")
    model = AutoModel.from_pretrained(str(path), dtype=torch.float32).eval()
    wanted = []
    for response in GROUP.responses:
        ids = ids_of(path, template.format(prompt=GROUP.prompt, text=response.text).rstrip("\n"))
        assert ids.shape[1] + behind == ids_of(path, template.format(prompt=GROUP.prompt, text=response.text)).shape[1]
        with torch.no_grad():
            wanted.append(float(head[0] @ model(input_ids=ids).last_hidden_state[0, -1]))
    assert scores(path, head={"reads": "end"}) == pytest.approx(wanted, abs=1e-5)
    assert (scores(path) == pytest.approx(wanted, abs=1e-5)) is not bool(behind)
    first, _ = scores(path, kind="listwise", head={"reads": "end"})
    assert first == pytest.approx(wanted[0], abs=1e-5)


def test_a_token_that_no_text_gives_needs_no_embedding(tmp_path):
    """Gemma 3's models of text have the tokenizer of those of images, whose image token lies behind their embeddings."""
    path = tiny_families.build("gemma3_text", tmp_path / "checkpoint")
    known = scores(path)
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    rows = AutoConfig.from_pretrained(str(path)).vocab_size

    def added(**token):
        more = {"id": rows, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, **token}
        (path / "tokenizer.json").write_text(
            json.dumps(tokenizer | {"added_tokens": tokenizer["added_tokens"] + [more]})
        )

    added(content="<image_soft_token>", special=True)
    assert scores(path) == known
    spelled = Group("0", GROUP.prompt, (Response("<image_soft_token>"),))
    assert load(Card(name="m", kind="scalar", path=path)).score([spelled])[0].statuses == [Status.OK]
    added(content="<word>", special=False)
    with pytest.raises(ConfigError, match=f"{rows + 1} token ids for {rows} embeddings"):
        scores(path)
    tokenizer["model"]["vocab"]["!!!"] = 5000
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match=f"5001 token ids for {rows} embeddings"):
        scores(path)


def test_mm_rlhf_reward(tmp_path):
    """LLaVA-OneVision with ``rm_head``: dropout, linear, tanh, dropout, linear, numbered as in its Sequential."""
    path = base("llava_onevision", tmp_path)
    torch.manual_seed(2)
    tensors = {
        "rm_head.1.weight": torch.randn(64, 64) * 0.2, "rm_head.1.bias": torch.randn(64) * 0.1,
        "rm_head.4.weight": torch.randn(1, 64) * 0.2, "rm_head.4.bias": torch.randn(1),
    }  # fmt: skip
    save_file(tensors, path / "rm_head.safetensors")
    wanted = []
    for response in GROUP.responses:
        hidden = torch.tanh(tensors["rm_head.1.weight"] @ states(path, CHATML, response) + tensors["rm_head.1.bias"])
        wanted.append(float(tensors["rm_head.4.weight"][0] @ hidden + tensors["rm_head.4.bias"][0]))
    assert scores(path, head={"activation": "tanh"}) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("prefix", ["v_head.summary", "score", "rm_head"])
def test_value_heads_beside_the_model(tmp_path, prefix):
    """LLaMA-Factory's ``value_head.safetensors`` (TRL's v_head, Skywork-VL-Reward) and its like, on Qwen3-VL."""
    path = base("qwen3_vl", tmp_path)
    head = torch.randn(1, 64, generator=torch.Generator().manual_seed(3)) * 0.2
    save_file({f"{prefix}.weight": head}, path / "value_head.safetensors")
    wanted = [float(head[0] @ states(path, CHATML, response)) for response in GROUP.responses]
    assert scores(path) == pytest.approx(wanted, abs=1e-5)


def test_two_layers_inside_a_sharded_checkpoint(tmp_path):
    """BaseReward: two layers with SiLU among the model's own tensors, weights in several files with an index."""
    path = base("qwen3_vl", tmp_path)
    tensors = load_file(path / "model.safetensors")
    torch.manual_seed(4)
    head = {"score.0.weight": torch.randn(64, 64) * 0.2, "score.2.weight": torch.randn(1, 64) * 0.2}
    parts = [dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2]) | head]
    (path / "model.safetensors").unlink()
    index = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05}-of-00002.safetensors"
        save_file(part, path / name, metadata={"format": "pt"})
        index |= dict.fromkeys(part, name)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    wanted = []
    for response in GROUP.responses:
        hidden = torch.nn.functional.silu(head["score.0.weight"] @ states(path, CHATML, response))
        wanted.append(float(head["score.2.weight"][0] @ hidden))
    assert scores(path, head={"activation": "silu"}) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kind", ["pairwise", "yes_no"])
def test_generative_models_need_no_head(tmp_path, kind):
    """UnifiedReward's and R1-Reward's checkpoints are whole generative models: they are asked, not read by a head."""
    path = base("llava_onevision", tmp_path)
    fields = {"kind": kind, "choices": ("1", "2")}
    values = scores(path, **fields)
    assert all(0 < value < 1 for value in values)
    with pytest.raises(ConfigError, match="no reward head"):
        scores(path)


def test_remote_code_models_are_refused(tmp_path):
    """IXC-2.5-Reward and POLAR bring their own classes (InternLM): code of a checkpoint is never run."""
    path = base("llama", tmp_path)
    config = json.loads((path / "config.json").read_text())
    config |= {"model_type": "internlm2", "auto_map": {"AutoModel": "modeling_internlm2.InternLM2ForRewardModel"}}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="auto_map"):
        scores(path)
    del config["auto_map"]
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="internlm2"):
        scores(path)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_armo_rm(tmp_path, kind):
    """RLHFlow's layout on Llama and Gemma: 3 layers of a gate that reads where the prompt's last turn ends."""
    path = base(kind, tmp_path)
    torch.manual_seed(7)
    sizes = [(16, 64), (16, 16), (3, 16)]
    tensors = {
        "regression_layer.weight": torch.randn(3, 64) * 0.2, "reward_transform_matrix": torch.randn(3, 3),
        "gating.logit_scale": torch.tensor([1.5]),
    }  # fmt: skip
    for number, size in enumerate(sizes):
        tensors[f"gating.layers.{number}.weight"] = torch.randn(*size)
        tensors[f"gating.layers.{number}.bias"] = torch.randn(size[0])
    save_file(tensors, path / "gating.safetensors")
    template, start, end = {
        "llama": (LLAMA, "<|eot_id|><|start_header_id|>assistant", "<|end_header_id|>\n\n"),
        "gemma3_text": (GEMMA, "<end_of_turn>\n<start_of_turn>model", "\n"),
    }[kind]
    wanted = []
    for response in GROUP.responses:
        text = template.format(prompt=GROUP.prompt, text=response.text)
        ids = ids_of(path, text)
        pattern, listed = ids_of(path, start + end)[0].tolist(), ids[0].tolist()
        place = max(at for at in range(len(listed)) if listed[at : at + len(pattern)] == pattern)
        model = AutoModel.from_pretrained(str(path), dtype=torch.float32).eval()
        with torch.no_grad():
            found = model(input_ids=ids).last_hidden_state[0]
        gate = found[place]
        for number in range(3):
            gate = tensors[f"gating.layers.{number}.weight"] @ gate + tensors[f"gating.layers.{number}.bias"]
            gate = torch.relu(gate) if number < 2 else torch.softmax(gate / 10, -1) * 1.5
        rewards = tensors["regression_layer.weight"] @ found[-1] @ tensors["reward_transform_matrix"]
        wanted.append(float(gate @ rewards))
    assert scores(path, kind="objectives", classes=("a", "b", "c")) == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted[0] - wanted[1]) > 1e-3


HEADS = {
    "mm-rlhf-reward-7b": ("llava_onevision", "rm_head", {1: (64, 64), 4: (1, 64)}),
    "qwen2.5-math-prm-7b": ("qwen2", "score", {0: (64, 64), 2: (2, 64)}),
    "skywork-vl-reward-7b": ("qwen2_5_vl", "v_head.summary", {None: (1, 64)}),
    "qwen2.5-vl-3b-pairwise": ("qwen2_5_vl", "", {}),
    "unified-reward-7b": ("qwen2_5_vl", "", {}),
}
"""What the repositories of the cards hold: a model type, and the layers of a head with their shapes."""


@pytest.mark.parametrize("file", CARDS, ids=lambda file: file.stem)
def test_cards_serve_their_repositories(tmp_path, file):
    """Each card that ships scores a checkpoint in the layout of the repository that it names."""
    kind, stem, layers = HEADS[file.stem]
    path = tmp_path / "checkpoint"
    if kind == "qwen2_5_vl":
        tiny_families.build_tiny(path)
    else:
        tiny_families.build(kind, path, begun=("<extra_0>",))
        (path / "value_head.safetensors").unlink()
    tensors = {}
    for number, shape in layers.items():
        name = stem if number is None else f"{stem}.{number}"
        tensors |= {f"{name}.weight": torch.randn(shape) * 0.1, f"{name}.bias": torch.randn(shape[0]) * 0.1}
    if tensors:
        save_file(tensors, path / "head.safetensors")
    card = load_card(file)
    update = {"path": path, "repository": "", "dtype": "float32", "device": "cpu"}
    update["critique"] = card.critique.model_copy(update={"max_tokens": 3})
    column = load(card.model_copy(update=update)).score([GROUP])[0]
    assert column.statuses == [Status.OK] * 2
    assert len(set(column.values)) == 2
