"""Cards are checked before anything is loaded, and name the file and the field at fault."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load_card

CARDS = sorted((Path(__file__).parents[2] / "models" / "cards").glob("*.toml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "card.toml"
    path.write_text(text)
    return path


def test_a_relative_path_is_relative_to_the_card(tmp_path):
    """The checkpoint is found beside the card, wherever the process runs."""
    card = load_card(write(tmp_path, 'name = "m"\nkind = "scalar"\npath = "weights"\n'))
    assert card.path == tmp_path / "weights"
    assert (card.scope, card.bounds) == ("response", (-math.inf, math.inf))
    served = 'name = "m"\nkind = "scalar"\npath = "w"\nbackend = "vllm"\n[vllm]\npython = "%s"\n'
    for python, found in (
        ("env/bin/python", f"{tmp_path}/env/bin/python"),
        ("/opt/python", "/opt/python"),
        ("python3", "python3"),
    ):
        assert load_card(write(tmp_path, served % python)).vllm.python == found


@pytest.mark.parametrize(("text", "words"), [
    ('name = "m"\nkind = "scalar"\npath = "w"\ntoken_buget = 3\n', ["token_buget", "did you mean 'token_budget'"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\n[head]\nactivatoin = "silu"\n', ["head.activatoin", "'activation'"]),
    ('name = "m"\nkind = "scaler"\npath = "w"\n', ["kind", "'scalar'"]),
    ('name = "m"\nkind = "scalar"\n', ["either path or repository"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\nrepository = "a/b"\n', ["either path or repository"]),
    ('name = "m"\nkind = "scalar"\nrepository = "a/b"\n', ["revision"]),
    ('name = "m"\nkind = "pairwise"\npath = "w"\ninstruction = "{prompt} {first}"\n', ["{second}"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\ndevice = "tpu"\n', ["device"]),
    ('name = "m"\nkind = "outcome"\npath = "w"\nclasses = ["a"]\npositive = "a"\n', ["two classes or more"]),
    ('name = "m"\nkind = "process"\npath = "w"\n[calibration]\nmean = 1\n', ["process is not calibrated"]),
    ('name = "m"\nkind = "yes_no"\npath = "w"\nchoices = ["1", "1"]\n', ["both choices are one reply"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\n[calibration]\ndeviation = inf\n', ["calibration.deviation", "finite"]),
    ("name = ", ["card.toml"]),
    ('name = "m"\nkind = "process"\npath = "w"\n[steps]\nseperator = "x"\n', ["steps.seperator", "'separator'"]),
    ('name = "m"\nkind = "pairwise"\npath = "w"\n[votes]\ncuont = 3\n', ["votes.cuont", "'count'"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\nbackend = "vllm"\n[vllm]\nurll = "x"\n', ["vllm.urll", "'url'"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\nrange = [1, 0]\n', ["range", "[1.0, 0.0]"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\nrange = [nan, 1]\n', ["range", "nan"]),
    ('name = "m"\nkind = "implicit"\npath = "w"\n[implicit]\nreference = "r"\nbeta = inf\n', ["implicit.beta"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\nrevision = "main"\n', ["revision"]),
    ('name = "m"\nkind = "scalar"\npath = "w"\n[votes]\ncount = 3\n', ["scalar does not read votes; pairwise do"]),
    ('name = "m"\nkind = "similarity"\npath = "w"\ncontext = "{facts}"\n', ["similarity does not read context"]),
    ('name = "m"\nkind = "ensemble"\nmax_tokens = 9\n[ensemble]\nmembers = ["x"]\n', ["does not read max_tokens"]),
    (
        'name = "m"\nkind = "scalar"\npath = "w"\nreproducible = true\nbackend = "vllm"\n[vllm]\npython = "p"\n',
        ["no card of the vllm backend is reproducible"],
    ),
    ('name = "m"\nkind = "process"\npath = "w"\n[head]\nreads = "end"\n', ["says by itself where its head reads"]),
    ('name = "m"\nkind = "scalar"\npath = "\\u0000"\n', ["is no path"]),
    ('name = "m"\nhead = ' + "[" * 9999, ["recursion"]),
])  # fmt: skip
def test_errors_name_file_and_field(tmp_path, text, words):
    """Each mistake is a ConfigError with the file, the field and the nearest known name."""
    with pytest.raises(ConfigError) as caught:
        load_card(write(tmp_path, text))
    for word in ["card.toml", *words]:
        assert word in str(caught.value)


def test_a_missing_card_is_a_config_error(tmp_path):
    """A file that is not there is the operator's mistake, not a crash."""
    with pytest.raises(ConfigError, match="nowhere"):
        load_card(tmp_path / "nowhere.toml")


def test_cards_survive_the_way_to_the_worker():
    """A card, infinite bounds included, is the same behind JSON."""
    card = Card(name="m", kind="scalar", path=Path("/w"), range=(-math.inf, 4.0))
    assert Card.model_validate_json(card.model_dump_json()) == card


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_example_cards_are_valid(path):
    """Every card that ships can be read, and says what it is."""
    card = load_card(path)
    assert card.name == path.stem
    assert card.summary


def test_there_are_example_cards():
    """Cards ship with the package."""
    assert CARDS


def test_cards_need_no_torch():
    """Reading a card imports neither torch nor transformers."""
    code = "import sys, rewardhub.models; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_float16_does_not_hold_the_products_of_int8_weights():
    with pytest.raises(ValueError, match="float16 cannot hold"):
        Card(name="m", kind="scalar", path=Path("x"), dtype="float16", quantization="int8")


@pytest.mark.parametrize("kind", ["similarity", "sentence", "generative"])
def test_a_context_that_nothing_reads(kind):
    with pytest.raises(ValueError, match="does not read context"):
        Card(name="m", kind=kind, path=Path("x"), context="{answer}")
