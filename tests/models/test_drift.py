"""The drift of ordinary mode is measured in scores, and written into the card."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load, load_card
from rewardhub.models.drift import compared, measure, samples, write

CARD = """\
# What this model is for.
name = "tiny"
kind = "scalar"
path = "checkpoint"
system = ""
{more}
[calibration]
deviation = 2.0
"""


@pytest.fixture
def card(classifier, tmp_path):
    shutil.copytree(classifier, tmp_path / "checkpoint")

    def make(more=""):
        path = tmp_path / "card.toml"
        path.write_text(CARD.format(more=more))
        return path

    return make


def test_the_figures():
    """The largest and the mean difference, the deviation of the exact scores, the order of pairs of one prompt."""
    found = compared([[1.0, 2.0, None], [5.0, 4.0]], [[1.1, 2.0, 3.0], [4.0, 4.5]])
    assert found["scores"] == 4
    assert found["largest"] == pytest.approx(1.0)
    assert found["mean"] == pytest.approx((0.1 + 0 + 1.0 + 0.5) / 4)
    assert found["deviation"] == pytest.approx(1.3982, abs=1e-4)
    assert found["order_kept"] == 0.5
    with pytest.raises(ConfigError, match="no sample has a score"):
        compared([[None]], [[1.0]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_measured_is_what_scores_differ_by(card, dtype):
    """The figures are those of the samples' scores in both modes; in fp32 the packed path is exact to 1e-5."""
    path = card(f'dtype = "{dtype}"')
    found = measure(load_card(path))
    ordinary = load(load_card(path))
    groups = samples(ordinary.card, images=True)
    exact = load(ordinary.card.model_copy(update={"reproducible": True, "dtype": "float32"}))
    values = [[column.values for column in model.score(groups)] for model in (ordinary, exact)]
    assert found.model_dump(exclude={"attention", "device", "fingerprint"}) == pytest.approx(compared(*values))
    assert (found.attention, found.device, found.scores) == ("packed", ordinary.loaded.backbone.device.type, 96)
    assert found.deviation > 0.05
    if dtype == "float32":
        assert 0 < found.largest < 1e-5
        assert found.order_kept == 1.0
    else:
        assert 1e-4 < found.mean < 0.04 * found.deviation
        assert found.order_kept > 0.99


def test_the_command_writes_it_into_the_card(card):
    """``rewardhub models drift --write``: comments stay, a second run replaces the table, no fingerprint changes."""
    from typer.testing import CliRunner

    from rewardhub.cli import app

    path = card()
    before = load(load_card(path)).fingerprint
    shown = json.loads(CliRunner().invoke(app, ["models", "drift", str(path), "--write", "--json"]).stdout)
    assert load_card(path).measured.model_dump() == shown
    write(path, load_card(path).measured)
    text = path.read_text()
    assert text.count("[measured]") == 1
    assert text.startswith(CARD.format(more="").rstrip())
    assert load(load_card(path)).fingerprint == before == shown["fingerprint"]


def test_figures_of_another_model_are_told_of(card, caplog):
    """What was measured in fp32 says nothing of bf16, of int8, or of other weights: a warning says so at load."""
    path = card()
    write(path, measure(load_card(path)))
    load(load_card(path))
    assert "[measured]" not in caplog.text
    measured = load_card(path)
    exchanged = path.parent / "checkpoint" / "model.safetensors"
    for changes in ({"dtype": "bfloat16"}, {"quantization": "int8"}, {}):
        if not changes:
            weights = {name: each * 1.5 for name, each in load_file(exchanged).items()}
            save_file(weights, exchanged, metadata={"format": "pt"})
        caplog.clear()
        load(measured.model_copy(update=changes))
        assert "the table [measured] is of another model" in caplog.text


def test_a_table_in_the_middle_is_replaced(card):
    """Only the table itself goes; the tables behind it stay."""
    path = card('\n[measured]\nattention = "rows"\n\n[head]\nactivation = "none"\n')
    found = measure(load_card(card()))
    path.write_text(CARD.format(more='\n[measured]\nattention = "rows"\n\n[head]\nactivation = "none"\n'))
    write(path, found)
    assert load_card(path).measured == found
    assert path.read_text().count("[measured]") == 1
    assert "[head]" in path.read_text()
    assert load_card(path).calibration.deviation == 2.0


@pytest.mark.parametrize("fields", [
    {"kind": "generative", "path": "x"}, {"kind": "ensemble", "ensemble": {"members": ["a.toml"]}},
    {"kind": "scalar", "path": "x", "backend": "vllm", "vllm": {"url": "http://127.0.0.1:9"}},
])  # fmt: skip
def test_cards_without_a_twin_are_refused(fields):
    """What writes, what combines others, and what vLLM serves, has no reproducible mode."""
    with pytest.raises(ConfigError, match="no reproducible twin"):
        measure(Card(name="m", **fields))


@pytest.mark.parametrize("fields", [
    {"kind": "yes_no", "choices": ("1", "2")}, {"kind": "token_match"},
    {"kind": "yes_no", "choices": ("1", "2"), "context": "\nFacts: {facts}"},
])  # fmt: skip
def test_other_kinds_are_measured(tiny, fields):
    """Kinds that ask, or read the reference."""
    found = measure(Card(name="m", path=tiny, system="", **fields))
    assert found.scores == 96
    assert found.largest < 1e-5
