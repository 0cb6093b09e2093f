"""Similarities of texts equal what transformers' plain encoder and plain arithmetic give."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.tiny import tiny_tokenizer
from rewardhub.models.wording import ENDS, bmas
from rewardhub.types import Group, Response, Status

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
KINDS = {"bert": (BertModel, BertConfig, 40), "xlm-roberta": (XLMRobertaModel, XLMRobertaConfig, 42)}


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, tmp_path_factory):
    """A tiny sentence encoder of 40 places in the layout of the published ones, its model and its tokenizer."""
    path = tmp_path_factory.mktemp(request.param)
    model_class, config_class, places = KINDS[request.param]
    tokenizer = tiny_tokenizer()
    ends = [AddedToken(token, special=True, normalized=False) for token in ENDS[request.param]]
    tokenizer.add_special_tokens(ends)
    torch.manual_seed(4)
    config = config_class(**SHAPE, vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=places)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.save_pretrained(str(path))
    tokenizer.save(str(path / "tokenizer.json"))
    return path, model, tokenizer, request.param


def scores(path, kind, reference, *texts, **fields):
    group = Group("g", "", tuple(map(Response, texts)), reference)
    (column,) = load(Card(name="s", kind=kind, path=path, **fields)).score([group])
    return column


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_sentences_equal_the_plain_encoder(encoder, pooling):
    """The cosine of pooled states; the nearest of several references counts."""
    path, model, tokenizer, kind = encoder

    @torch.no_grad()
    def embedded(text):
        first, last = (tokenizer.token_to_id(token) for token in ENDS[kind])
        ids = torch.tensor([[first, *tokenizer.encode(text).ids, last]])
        states = model(input_ids=ids).last_hidden_state[0]
        return states.mean(0) if pooling == "mean" else states[0]

    texts = ("a red square", "blue", "a red circle")
    wanted = [float(torch.cosine_similarity(embedded(text), embedded("a red square"), dim=0)) for text in texts]
    found = scores(path, "sentence", {"answer": "a red square"}, *texts, pooling=pooling).values
    assert found == pytest.approx(wanted, abs=1e-6)
    assert found[0] == pytest.approx(1.0, abs=1e-6)
    assert max(found[1:]) < 0.9999
    assert scores(path, "sentence", {"answer": ["green", "blue"]}, "blue").values == pytest.approx([1.0], abs=1e-6)


def test_settings_of_sentence_transformers(encoder, tmp_path):
    """``1_Pooling`` says how states are pooled where the card does not, ``max_seq_length`` how long a text may be."""
    path = shutil.copytree(encoder[0], tmp_path / "copy")
    mean, first = (
        scores(path, "sentence", {"answer": "red"}, "a blue square", pooling=each).values for each in ("mean", "first")
    )
    assert mean != first
    assert scores(path, "sentence", {"answer": "red"}, "a blue square").values == mean
    (path / "1_Pooling").mkdir()
    (path / "2_Normalize").mkdir()

    def pooled(**modes):
        (path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32} | modes))
        return scores(path, "sentence", {"answer": "red"}, "a blue square").values

    assert pooled(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False) == first
    assert pooled(pooling_mode_cls_token=False, pooling_mode_mean_tokens=True) == mean
    with pytest.raises(ConfigError, match="pooling_mode_max_tokens"):
        pooled(pooling_mode_max_tokens=True)
    assert scores(path, "sentence", {"answer": "red"}, "a blue square", pooling="first").values == first

    prints = set()
    for mode in ("pooling_mode_cls_token", "pooling_mode_mean_tokens"):
        pooled(**{mode: True})
        prints.add(load(Card(name="s", kind="sentence", path=path)).fingerprint)
    assert len(prints) == 2

    assert scores(path, "sentence", {"answer": "red"}, "RED").values[0] < 0.999
    (path / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert scores(path, "sentence", {"answer": "red"}, "RED").values == pytest.approx([1.0], abs=1e-6)
    settings = {"prompts": {"query": "query: ", "none": ""}, "default_prompt_name": "none"}
    (path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    scores(path, "sentence", {"answer": "red"}, "red")
    (path / "config_sentence_transformers.json").write_text(json.dumps(settings | {"default_prompt_name": "query"}))
    with pytest.raises(ConfigError, match="puts 'query: ' before each text"):
        scores(path, "sentence", {"answer": "red"}, "red")
    (path / "config_sentence_transformers.json").unlink()

    pooled(pooling_mode_mean_tokens=True)
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 5, "do_lower_case": False}))
    statuses = [
        scores(path, "sentence", {"answer": "red"}, text, **more).statuses[0]
        for text, more in (("zzz", {}), ("zzzz", {}), ("zzzz", {"max_tokens": 6}))
    ]
    assert statuses == [Status.OK, Status.OVER_LIMIT, Status.OK]


def test_a_dense_module_is_refused(encoder, tmp_path):
    """A layer behind the pooling would be left out silently."""
    path = shutil.copytree(encoder[0], tmp_path / "copy")
    (path / "2_Dense").mkdir()
    (path / "2_Dense" / "config.json").write_text("{}")
    for pooling in (None, "mean"):
        with pytest.raises(ConfigError, match="2_Dense is a module that is not computed here"):
            load(Card(name="s", kind="sentence", path=path, pooling=pooling))


def test_statuses(encoder):
    """Blank or over-long responses are the response's fault, such references the caller's; nothing is cut."""
    path, long = encoder[0], "zxq " * 40
    column = scores(path, "sentence", {"answer": "blue"}, " ", long, "blue")
    assert column.statuses == [Status.NO_ANSWER, Status.OVER_LIMIT, Status.OK]
    for answer in ("", long, None, [], ["a", 3], 7):
        assert scores(path, "sentence", {"answer": answer}, "blue").statuses == [Status.REFERENCE_UNPARSEABLE]


def test_the_mean_of_best_matches():
    """BMAS of Mixed-R1: (1,0), (0,1) against (1,0) is (0.5 + 1) / 2; a text against itself is 1."""
    both, one = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    assert bmas(both, one) == bmas(one, both) == 0.75
    assert bmas(both, both) == 1.0


def test_token_match_reads_the_embedding_table(tiny):
    """On a language model's checkpoint, by the tensors alone; order does not count, other words do."""
    weights = load_file(tiny / "model.safetensors")
    (table,) = [tensor for key, tensor in weights.items() if key.endswith("embed_tokens.weight")]
    vectors = torch.nn.functional.normalize(table.float(), dim=-1)
    one, two = (tiny_tokenizer().encode(text).ids for text in ("red square", "blue square"))
    column = scores(tiny, "token_match", {"answer": "blue square"}, "red square", "blue square", "", "no")
    assert column.values[0] == pytest.approx(bmas(vectors[one], vectors[two]), abs=1e-6)
    assert column.values[1] == pytest.approx(1.0, abs=1e-6)
    assert column.statuses == [Status.OK, Status.OK, Status.NO_ANSWER, Status.OK]
    assert column.values[3] < column.values[0]


@pytest.mark.parametrize("answers", [["blue", "red ~"], ["red ~", "blue"]])
def test_a_reference_without_a_number(tiny, tmp_path, answers):
    """A reference whose similarity is NaN is an error of ours, wherever it stands among others."""
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    weights = load_file(tiny / "model.safetensors")
    (name,) = [key for key in weights if key.endswith("embed_tokens.weight")]
    weights[name][tiny_tokenizer().encode("~").ids] = float("nan")
    save_file(weights, tmp_path / "model.safetensors")
    column = scores(tmp_path, "token_match", {"answer": answers}, "blue")
    assert (column.values, column.statuses) == ([None], [Status.INTERNAL_ERROR])


@pytest.mark.parametrize("kind", ["sentence", "token_match"])
def test_more_tokens_than_embeddings(encoder, tmp_path, kind):
    """A response could hold one that the table lacks: refused at load."""
    shutil.copytree(encoder[0], tmp_path, dirs_exist_ok=True)
    more = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    more.add_tokens(["<more>"])
    more.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ConfigError, match="token ids for"):
        load(Card(name="s", kind=kind, path=tmp_path))


def test_incomplete_weights_are_refused(encoder, tmp_path):
    """A layer that is missing would be filled with random numbers."""
    path = encoder[0]
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((path / name).read_bytes())
    weights = load_file(path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layer.1.attention" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="misses"):
        load(Card(name="s", kind="sentence", path=tmp_path))
    config = json.loads((path / "config.json").read_text()) | {"model_type": "t5"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="model_type 't5' is not supported"):
        load(Card(name="s", kind="sentence", path=tmp_path))


def test_files_that_are_written_over_change_no_loaded_model(encoder, tmp_path):
    """The weights in memory are those that were loaded."""
    path = shutil.copytree(encoder[0], tmp_path / "copy")
    model = load(Card(name="s", kind="sentence", path=path))
    group = Group("g", "", (Response("a blue square"),), {"answer": "red"})
    before = model.score([group])[0].values
    with (path / "model.safetensors").open("r+b") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        file.write(bytes((path / "model.safetensors").stat().st_size - file.tell()))
    assert model.score([group])[0].values == before


def test_a_checkpoint_that_is_changed_while_it_is_loaded(encoder, tmp_path, monkeypatch):
    """T23: the fingerprint is of the files that were read, or there is none."""
    path = shutil.copytree(encoder[0], tmp_path / "checkpoint")
    monkeypatch.setattr(
        "rewardhub.models.backbone.check_complete", lambda *_: os.utime(path / "model.safetensors", (1, 1))
    )
    model = load(Card(name="s", kind="sentence", path=path))
    with pytest.raises(ConfigError, match="changed while it was loaded"):
        model.fingerprint  # noqa: B018
