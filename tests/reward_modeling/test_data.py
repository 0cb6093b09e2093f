"""Pair files and configurations say what is wrong with them, and where."""

import json
from itertools import islice
from pathlib import Path

import pytest

from rewardhub.errors import ConfigError
from rewardhub.models.colours import colour_items
from rewardhub.reward_modeling import load_config
from rewardhub.reward_modeling.data import read_pairs

GOOD = {"prompt": "p", "chosen": "a", "rejected": "b"}


def write(folder: Path, *lines: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_pairs_are_read_in_order(tmp_path):
    """Text, messages, media, margins and ties; blank lines do not count."""
    item = next(islice(colour_items(0), 1))
    (tmp_path / "a.png").write_bytes(item.image)
    message = {"role": "assistant", "content": "c"}
    first, second = read_pairs(write(
        tmp_path, GOOD | {"media": [{"path": "a.png"}, {"path": "a.png"}], "margin": 2}, "",
        GOOD | {"prompt": [{"role": "user", "content": "q"}], "chosen": [message], "tie": True},
    ))  # fmt: skip
    assert (first.prompt, first.chosen.text, first.rejected.text, first.margin, first.tie) == (
        "p",
        "a",
        "b",
        2.0,
        False,
    )
    assert [media.data for media in first.media] == [item.image] * 2
    assert first.place.endswith("pairs.jsonl:1")
    assert second.chosen.messages == (message,)
    assert second.tie


@pytest.mark.parametrize(("line", "words"), [
    ("{", "not JSON"), ("[]", "not an object"), ('{"prompt": "p"}', "chosen is missing"),
    (GOOD | {"chosn": "x"}, "chosn is unknown; did you mean 'chosen'"), (GOOD | {"rejected": 3}, "rejected is int"),
    (GOOD | {"prompt": []}, "prompt is list"), (GOOD | {"margin": -1}, "margin is -1"), (GOOD | {"margin": True}, "margin"),
    (GOOD | {"tie": 1}, "tie is 1"), (GOOD | {"media": {}}, "media is not a list"),
    (GOOD | {"media": [{"sha256": "x"}]}, "media.0.path is missing"), (GOOD | {"media": [{"path": "no.png"}]}, "no.png"),
])  # fmt: skip
def test_errors_name_line_and_field(tmp_path, line, words):
    """The file, the line number and the field stand in the message."""
    with pytest.raises(ConfigError) as caught:
        read_pairs(write(tmp_path, GOOD, line))
    assert "pairs.jsonl:2: " in str(caught.value)
    assert words in str(caught.value)


def test_bytes_are_utf_8(tmp_path):
    """A byte-order mark is passed over; other bytes are an error of their line."""
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert read_pairs(path)[0].prompt == "p"
    path.write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(ConfigError, match=r"pairs\.jsonl:1: not JSON"):
        read_pairs(path)


def test_files_without_pairs_are_refused(tmp_path):
    """A missing file and an empty one are configuration errors."""
    with pytest.raises(ConfigError, match="not a file"):
        read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(ConfigError, match="no pair"):
        read_pairs(write(tmp_path, ""))


@pytest.mark.parametrize(("text", "words"), [
    ('base = "b"\ndata = "d"\nstep = 3\n', "unknown field 'step'; did you mean 'steps'"),
    ('base = "b"\n', "'data'"), ('data = "d"\n', "base or repository"), ('base = "b"\ndata = "d"\nrate = 0\n', "'rate'"),
    ('base = "b"\ndata = "d"\nname = "a b"\n', "'name'"),
    ('repository = "a/b"\ndata = "d"\n', "revision"), ("base = ", "config.toml"),
])  # fmt: skip
def test_configuration_errors_name_the_field(tmp_path, text, words):
    """Unknown keys are refused with the nearest known one."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "config.toml" in str(caught.value)
    assert words in str(caught.value)


def test_paths_are_relative_to_the_configuration(tmp_path):
    """A configuration can be run from anywhere."""
    (tmp_path / "config.toml").write_text('base = "b"\ndata = "x/d.jsonl"\n')
    config = load_config(tmp_path / "config.toml")
    assert (config.base, config.data, config.eval_data) == (tmp_path / "b", tmp_path / "x" / "d.jsonl", None)
