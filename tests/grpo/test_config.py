"""The trainer's configuration file."""

from dataclasses import fields
from pathlib import Path

import pytest

from rewardhub import grpo
from rewardhub.errors import ConfigError
from rewardhub.grpo.config import GrpoConfig, config_of, load_config


def test_a_file_sets_fields_and_leaves_the_rest(tmp_path: Path):
    """Fields of the file win over defaults, overrides over the file; an integer may stand for a float."""
    path = tmp_path / "grpo.toml"
    path.write_text('steps = 3\nkl = 1\nrecipe = "mine"\n[part_weights]\nformat = 0.1\n')
    config = load_config(path, steps=4)
    assert (config.steps, config.kl, config.recipe) == (4, 1.0, "mine")
    assert config.part_weights == {"format": 0.1}
    assert config.prompts == GrpoConfig().prompts


def test_the_default_configuration_is_a_file(tmp_path: Path):
    """Every field can be written and read back."""
    assert config_of(GrpoConfig().as_dict()) == GrpoConfig()


def test_it_stays_small():
    """No config sprawl."""
    assert len(fields(GrpoConfig)) <= 30


def test_the_example_is_the_default():
    """The file that ships names no other values than a run without a file has."""
    assert load_config(Path(grpo.__file__).parent / "colour.toml") == GrpoConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepz = 3", "unknown field 'stepz'; did you mean 'steps'?"),
        ("steps = 2.5", "steps is float, expected int"),
        ("control = 1", "control is int, expected bool"),
        ("steps = true", "steps is bool, expected int"),
        ("part_weights = 3", "part_weights is int, expected a table of numbers"),
        ('part_weights = {format = "x"}', "part_weights.format is str, expected float"),
        ('advantage = "grpoo"', "advantage is 'grpoo'; did you mean 'grpo'?"),
        ('loss = "pp"', "loss is 'pp'; did you mean 'ppo'?"),
        ('aggregation = "bnp"', "aggregation is 'bnp'; did you mean 'bnpo'?"),
        ("group_size = 0", "group_size is 0, expected at least 1"),
        ("temperature = 0", "temperature is 0.0, expected at least 1e-09"),
        ("temperature = inf", "temperature is inf, expected at least 1e-09 and finite"),
        ("clip_low = -0.2", "clip_low is -0.2, expected at least 0"),
        ('device = "gpu"', "device is 'gpu', expected cpu, cuda or cuda:N"),
        ("kl = nan", "kl is nan, expected at least 0"),
        ("steps = = 3", "Invalid value"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str):
    """The message names the file, the field and the nearest known name."""
    path = tmp_path / "grpo.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert said in caught.value.message
    assert "grpo.toml" in caught.value.message


def test_a_missing_file_is_refused(tmp_path: Path):
    """A path without a file is a configuration error."""
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_config(tmp_path / "none.toml")
