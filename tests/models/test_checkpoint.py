"""Checkpoints are untrusted: no code, no pickle, nothing missing; what is written can be read."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.backbone import load_backbone, load_headless
from rewardhub.models.checkpoint import check_checkpoint, save_classifier
from rewardhub.models.digest import tree_digest
from rewardhub.models.head import new_head
from rewardhub.models.tiny import build_tiny
from rewardhub.types import Group, Response


@pytest.fixture
def copy(classifier: Path, tmp_path: Path) -> Path:
    return shutil.copytree(classifier, tmp_path / "copy")


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def scalar_card(path: Path, **fields: object) -> Card:
    return Card(name="m", kind="scalar", path=path, **fields)


def test_code_in_a_checkpoint_is_refused(copy):
    """auto_map, a hub kernel or a quantiser in any configuration file stops the load, naming the file."""
    for name, key in [
        ("config.json", "auto_map"),
        ("tokenizer_config.json", "auto_map"),
        ("config.json", "quantization_config"),
        ("config.json", "attn_implementation"),
    ]:
        kept = (copy / name).read_text()
        edit(copy / name, **{key: {"AutoModel": "evil.Model"}})
        (copy / "evil.py").write_text("raise SystemExit('the checkpoint ran')")
        with pytest.raises(ConfigError, match=f"{name} sets '{key}'"):
            load(scalar_card(copy))
        (copy / name).write_text(kept)


def test_quantised_weights_say_what_reads_them(copy):
    """A checkpoint published in fp8 or as AWQ is told as what it is, not as code."""
    edit(copy / "config.json", quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
    with pytest.raises(ConfigError, match=r"quantised by 'fp8', and the card's quantization is 'none'; .* reads awq"):
        load(scalar_card(copy))


def test_nested_code_is_refused(copy):
    """A sub-configuration may not name code either."""
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["auto_map"] = {"AutoConfig": "evil.Config"}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="auto_map"):
        check_checkpoint(copy)


def test_pickled_weights_are_refused(copy):
    """A folder with pickled weights only is refused, and says so."""
    torch.save({}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="only pickled weights .pytorch_model.bin."):
        load(scalar_card(copy))


def test_pickled_heads_are_not_read(copy):
    """A head in a pickle beside safetensors is not found."""
    weights = load_file(copy / "model.safetensors")
    head = weights.pop("language_model.score.weight")
    save_file(weights, copy / "model.safetensors")
    torch.save({"score.weight": head}, copy / "score_head.pt")
    with pytest.raises(ConfigError, match="no reward head"):
        load(scalar_card(copy))


@pytest.mark.parametrize("name", ["score.weight", "v_head.summary.weight", "value_head.weight", "my_head.weight"])
def test_published_head_names(copy, name, classifier):
    """A head under the name of another trainer, in a side file, gives the same weights."""
    weights = load_file(copy / "model.safetensors")
    head = weights.pop("language_model.score.weight")
    save_file(weights, copy / "model.safetensors")
    save_file({name: head, name.replace("weight", "bias"): torch.ones(1)}, copy / "value_head.safetensors")
    prefix = "my_head" if name.startswith("my") else ""
    found = load_backbone(copy, head=True, head_prefix=prefix).head
    assert torch.equal(found.layers[0].weight, load_backbone(classifier, head=True).head.layers[0].weight)
    assert found.layers[0].bias.item() == 1.0


@pytest.mark.parametrize("activation", ["silu", "tanh"])
def test_two_layer_heads_are_written_and_read(tiny, tmp_path, activation):
    """A two-layer head gives the same scores behind a round trip, and its layout must be told."""
    head = new_head(64, activation, seed=1)
    save_classifier(load_headless(tiny).base, head.named_tensors(), tiny, tmp_path)
    state = torch.randn(3, 64)
    again = load_backbone(tmp_path, head=True, activation=activation).head
    function = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}[activation]
    wanted = function(state @ head.layers[0].weight.T) @ head.layers[1].weight[0]
    assert torch.allclose(again(state), wanted, atol=1e-6)
    with pytest.raises(ConfigError, match="2 layers"):
        load_backbone(tmp_path, head=True)


def test_missing_tensors_are_not_made_up(copy):
    """A checkpoint that lacks a tensor is refused in place of scoring with random weights."""
    weights = load_file(copy / "model.safetensors")
    weights.pop("visual.merger.mlp.2.bias")
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(ConfigError, match=r"misses 1 tensors.*merger"):
        load(scalar_card(copy))


@pytest.mark.parametrize("name", [
    "visual.blocks.9.norm1.weight", "visual.merger.gate.weight", "model.layers.7.mlp.up_proj.weight",
    "model.layers.0.self_attn.o_proj.bias", "model.norm.bias",
])  # fmt: skip
def test_tensors_of_the_model_are_not_left_out(copy, name):
    """More layers, of the vision encoder too, or a bias that config.json does not tell of would change every score."""
    save_file(load_file(copy / "model.safetensors") | {name: torch.ones(64)}, copy / "model.safetensors")
    with pytest.raises(ConfigError, match=rf"holds 1 tensors .*{name.removeprefix('model.')}.*does not describe"):
        load(scalar_card(copy))


def test_tensors_that_change_no_score_are_not_read(copy, caplog):
    """Buffers that are computed anew and heads of other uses do no harm; what is nobody's is told of."""
    extra = ("visual.rotary_pos_emb.inv_freq", "model.embed_tokens.position_ids", "lm_head.weight", "v_head.bias")
    tensors = load_file(copy / "model.safetensors")
    for name in extra:
        save_file(tensors | {name: torch.ones(1)}, copy / "model.safetensors")
        assert load(scalar_card(copy)).fingerprint
    assert "not read" not in caplog.text
    save_file(tensors | {"classifier.out.weight": torch.ones(1)}, copy / "model.safetensors")
    assert load(scalar_card(copy)).fingerprint
    assert "holds 1 tensors ('classifier.out.weight') that belong to no part of the model" in caplog.text


BROKEN = {
    "not JSON": lambda path: (path / "config.json").write_text("{"),
    "endless layers": lambda path: edit(path / "config.json", num_hidden_layers=10**9),
    "architecture": lambda path: edit(path / "config.json", model_type="llama"),
    "no tokenizer": lambda path: (path / "tokenizer.json").unlink(),
    "no image processor": lambda path: (path / "preprocessor_config.json").unlink(),
    "other patches": lambda path: edit(path / "preprocessor_config.json", patch_size=16),
    "broken tokenizer": lambda path: (path / "tokenizer.json").write_text("{}"),
    "no weights": lambda path: (path / "model.safetensors").unlink(),
    "damaged weights": lambda path: (path / "model.safetensors").write_bytes(b"\xff" * 100),
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_config_errors(copy, name):
    """Whatever is wrong with the folder, the error is a ConfigError that names it."""
    BROKEN[name](copy)
    with pytest.raises(ConfigError, match=str(copy)):
        load(scalar_card(copy))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_adapters_are_refused(copy, name):
    """Any file of an adapter that was not merged says so: transformers takes up some unasked and leaves others out."""
    shutil.copy(copy / ("config.json" if name.endswith("json") else "model.safetensors"), copy / name)
    with pytest.raises(ConfigError, match=f"{name} is an adapter's; merge it"):
        load(scalar_card(copy))


def test_two_files_that_say_otherwise_how_images_are_cut(copy):
    """transformers 5 reads processor_config.json, others preprocessor_config.json: both may stand there, as one says."""
    held = json.loads((copy / "preprocessor_config.json").read_text())
    other = copy / "processor_config.json"
    first = load(scalar_card(copy)).score([Group("g", "p", (Response("r"),))])[0].values
    (copy / "processor_config.json").write_text(json.dumps({"processor_class": "P", "image_processor": held}))
    (copy / "preprocessor_config.json").unlink()
    assert load(scalar_card(copy)).score([Group("g", "p", (Response("r"),))])[0].values == first
    (copy / "preprocessor_config.json").write_text(json.dumps(held | {"image_processor_type": "Qwen2VLFast"}))
    assert load(scalar_card(copy)).fingerprint
    other.write_text(json.dumps({"image_processor": held | {"image_mean": [0.5, 0.5, 0.5]}}))
    with pytest.raises(
        ConfigError, match=r"preprocessor_config.json sets 'image_mean' to .*, processor_config.json to"
    ):
        load(scalar_card(copy))


@pytest.mark.parametrize("name", ["lora_A.weight", "base_layer.weight", "lora_B.default.weight"])
def test_adapters_in_the_weights_are_refused(copy, name):
    """LoRA weights that were saved unmerged, alone or beside the model's own, are told as what they are."""
    tensors = {f"base_model.model.model.layers.0.self_attn.q_proj.{name}": torch.ones(4, 4)}
    for others in ({}, load_file(copy / "model.safetensors")):
        save_file(tensors | others, copy / "model.safetensors")
        with pytest.raises(ConfigError, match=r"holds an adapter's .*q_proj.*merge it into its base model first"):
            load(scalar_card(copy))


def test_the_base_of_an_adapter_is_named(tmp_path):
    """A folder that is only an adapter says what it has to be merged into; without weights or settings too."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen2.5-VL-7B"}))
    with pytest.raises(ConfigError, match="merge it into its base model 'Qwen/Qwen2.5-VL-7B' first"):
        load(scalar_card(tmp_path))


def test_a_folder_without_a_configuration_says_so(copy):
    """What is missing is named, not a model type None."""
    (copy / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        load(scalar_card(copy))


@pytest.mark.parametrize("place", ["gone.safetensors", "../outside.safetensors", "absolute", "sub/inside.safetensors"])
def test_an_index_names_files_of_its_folder(copy, place):
    """Weights elsewhere are not read: no digest would be of them, and a checkpoint is to open no other file."""
    place = str(copy.parent / "absolute.safetensors") if place == "absolute" else place
    tensors = load_file(copy / "model.safetensors")
    first, *others = sorted(tensors)
    (copy / "sub").mkdir()
    if "gone" not in place:
        save_file({first: tensors[first]}, copy / place, {"format": "pt"})
    (copy / "model.safetensors").unlink()
    save_file({name: tensors[name] for name in others}, copy / "others.safetensors", {"format": "pt"})
    index = {"weight_map": dict.fromkeys(others, "others.safetensors") | {first: place}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="which is no file of this folder"):
        load(scalar_card(copy))


def test_a_whole_file_beside_an_index(copy):
    """transformers reads the whole file, vLLM what the index names: refused, unless both are the same file."""
    tensors = load_file(copy / "model.safetensors")
    save_file({name: each * 2 for name, each in tensors.items()}, copy / "other.safetensors", {"format": "pt"})
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "other.safetensors")}))
    for fields in ({}, {"backend": "vllm", "vllm": {"url": "http://127.0.0.1:9"}}):
        with pytest.raises(ConfigError, match="which transformers reads, and an index of other files"):
            load(scalar_card(copy, **fields))
    index.write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "model.safetensors")}))
    (copy / "other.safetensors").unlink()
    assert load(scalar_card(copy)).fingerprint


def test_files_that_only_vllm_would_read(copy):
    """Without an index vLLM reads every file: one with other weights of the same names is refused there."""
    served = scalar_card(copy, backend="vllm", vllm={"url": "http://127.0.0.1:9"})
    tensors = load_file(copy / "model.safetensors")
    name = next(each for each in tensors if "layers.0" in each)
    save_file({name: tensors[name] * 2}, copy / "old.safetensors", {"format": "pt"})
    assert load(scalar_card(copy)).fingerprint
    with pytest.raises(ConfigError, match=f"two tensors '{name}', one in old.safetensors"):
        load(served)


def test_two_heads_of_one_name_are_refused(copy):
    """A head that is left over in another file might be the one that is read; the same one twice does no harm."""
    head = load_file(copy / "model.safetensors")["language_model.score.weight"]
    save_file({"language_model.score.weight": head}, copy / "value_head.safetensors")
    assert load(scalar_card(copy)).fingerprint
    save_file({"language_model.score.weight": head * 2}, copy / "value_head.safetensors")
    with pytest.raises(ConfigError, match="two tensors 'language_model.score.weight', one in value_head.safetensors"):
        load(scalar_card(copy))


def test_heads_of_two_names_have_to_be_told_apart(copy):
    """A classifier trained on keeps its old head beside the new one: neither is taken unasked, unless they are equal."""
    head = load_file(copy / "model.safetensors")["language_model.score.weight"]
    save_file({"v_head.summary.weight": head}, copy / "value_head.safetensors")
    assert torch.equal(load_backbone(copy, head=True).head.layers[0].weight, head)
    save_file({"v_head.summary.weight": head + 1}, copy / "value_head.safetensors")
    with pytest.raises(ConfigError, match=r"two heads, 'language_model.score' and 'v_head.summary': name one"):
        load(scalar_card(copy))
    chosen = load_backbone(copy, head=True, head_prefix="v_head.summary").head
    assert torch.equal(chosen.layers[0].weight, head + 1)
    save_file({"v_head.summary.weight": head, "v_head.summary.bias": torch.ones(1)}, copy / "value_head.safetensors")
    with pytest.raises(ConfigError, match="two heads"):
        load(scalar_card(copy))


@pytest.mark.parametrize(("config", "key"), [("config.json", "is_causal"), ("text", "use_bidirectional_attention")])
def test_attention_that_is_not_causal_is_refused(copy, config, key):
    """Rows of a batch would see the padding behind them: a score would depend on its company."""
    value = key != "is_causal"
    found = json.loads((copy / "config.json").read_text())
    (found["text_config"] if config == "text" else found)[key] = value
    (copy / "config.json").write_text(json.dumps(found))
    with pytest.raises(ConfigError, match="attention that is not causal"):
        load(scalar_card(copy))


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused(copy, kind):
    """Whole numbers whose scales are lost would be read as weights."""
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if name.endswith("up_proj.weight"))
    save_file(weights | {name: (weights[name] * 50).to(kind)}, copy / "model.safetensors")
    with pytest.raises(ConfigError, match=rf"{name} is of type [IC]\d+, not of floating point"):
        load(scalar_card(copy))


@pytest.mark.parametrize("kind", ["scalar", "token_match"])
def test_files_that_are_written_over_change_no_loaded_model(copy, kind):
    """A trainer that writes its next weights over those that are served changes no score under the old fingerprint."""
    model = load(Card(name="m", kind=kind, path=copy, **({"prefix_cache_mb": 0} if kind == "scalar" else {})))
    group = Group("g", "What?", (Response("red"), Response("a blue square")), {"answer": "red"})
    before = model.score([group])[0].values
    assert None not in before
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        file.write(bytes((copy / "model.safetensors").stat().st_size - file.tell()))
    assert model.score([group])[0].values == before


def test_the_saved_form_is_a_classifier(classifier):
    """The configuration and tensor names are those that vLLM serves as a scalar regression."""
    config = json.loads((classifier / "config.json").read_text())
    assert config["architectures"] == ["Qwen2_5_VLForSequenceClassification"]
    assert (config["num_labels"], config["problem_type"]) == (1, "regression")
    processor = json.loads((classifier / "preprocessor_config.json").read_text())
    assert {"image_mean", "image_std", "do_normalize", "do_rescale", "rescale_factor"} <= set(processor)
    with safe_open(classifier / "model.safetensors", "pt") as opened:
        names = set(opened.keys())
    assert "language_model.score.weight" in names
    assert {name.split(".")[0] for name in names} == {"model", "visual", "language_model"}


def test_digest_follows_the_files(copy, tmp_path):
    """The digest is remembered while files stay, and changes with any byte of weights or configuration."""
    memory = tmp_path / "memory" / "digests.json"
    first = tree_digest(copy, memory)
    remembered = json.loads(memory.read_text())
    assert tree_digest(copy, memory) == first
    memory.write_text(json.dumps(dict.fromkeys(remembered, "0" * 64)))
    assert tree_digest(copy, memory) != first
    memory.write_text("not JSON")
    assert tree_digest(copy, memory) == first
    edit(copy / "config.json", num_labels=2)
    assert tree_digest(copy, memory) != first


def test_fingerprint_names_what_changes_scores(classifier, copy):
    """Weights, layout and system message change the fingerprint; the place of the folder does not."""
    first = load(scalar_card(classifier)).fingerprint
    assert load(scalar_card(copy)).fingerprint == first
    assert load(scalar_card(copy, system="Be strict.")).fingerprint != first
    weights = load_file(copy / "model.safetensors")
    weights["language_model.score.weight"] += 1
    save_file(weights, copy / "model.safetensors")
    assert load(scalar_card(copy)).fingerprint != first


def test_the_tiny_checkpoint_is_reproducible(tiny, tmp_path):
    """The same seed writes the same weights and tokenizer; another seed writes other weights."""
    again, other = build_tiny(tmp_path / "again", seed=3), build_tiny(tmp_path / "other", seed=4)
    for name in ("tokenizer.json", "model.safetensors", "config.json", "preprocessor_config.json"):
        assert (again / name).read_bytes() == (tiny / name).read_bytes()
    assert (other / "model.safetensors").read_bytes() != (tiny / "model.safetensors").read_bytes()
    assert 250_000 < sum(each.numel() for each in load_backbone(tiny, head=False).parameters()) < 400_000


def test_repositories_are_fetched_as_data_only(classifier, monkeypatch):
    """A repository is fetched at its revision, safetensors and text only, and scores as the folder does."""
    asked = {}

    def fetch(repository: str, **kwargs: object) -> str:
        asked.update(kwargs, repository=repository)
        return str(classifier)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    model = load(Card(name="m", kind="scalar", repository="some/model", revision="abc123"))
    assert model.fingerprint == load(scalar_card(classifier)).fingerprint
    assert (asked["repository"], asked["revision"]) == ("some/model", "abc123")
    assert all(pattern.endswith((".safetensors", ".json", ".jinja", ".txt")) for pattern in asked["allow_patterns"])


def test_a_repository_that_cannot_be_fetched_is_a_config_error(monkeypatch):
    """No network, no access or no such revision: the error names the repository."""

    def fail(*args: object, **kwargs: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(ConfigError, match=r"some/model@abc123: OSError"):
        load(Card(name="m", kind="scalar", repository="some/model", revision="abc123"))


def test_a_device_that_is_not_there_is_a_config_error(classifier):
    """A card that asks for a GPU on a machine without one is told so."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="torch finds none"):
        load(scalar_card(classifier, device="cuda"))
    assert load(scalar_card(classifier, device="auto")).loaded.backbone.device.type == "cpu"


def test_a_checkpoint_that_is_changed_while_it_is_loaded(classifier, tmp_path, monkeypatch):
    """T23: weights in memory never bear the fingerprint of other files than they were read from."""
    from rewardhub.models import model as module

    path = tmp_path / "checkpoint"
    shutil.copytree(classifier, path)
    known, load_backbone = Card(name="m", kind="scalar", path=path, system=""), module.load_backbone

    def changed(*arguments, **more):
        backbone = load_backbone(*arguments, **more)
        tensors = load_file(path / "model.safetensors")
        save_file({name: tensor * 2 for name, tensor in tensors.items()}, path / "model.safetensors")
        return backbone

    monkeypatch.setattr(module, "load_backbone", changed)
    with pytest.raises(ConfigError, match="changed while it was loaded"):
        load(known).fingerprint  # noqa: B018
    monkeypatch.setattr(module, "load_backbone", load_backbone)
    assert load(known).fingerprint
