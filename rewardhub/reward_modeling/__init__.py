"""Training reward models from preference pairs: ``run`` trains what a TOML file says."""

from pathlib import Path

from rewardhub.reward_modeling.config import TrainConfig as TrainConfig
from rewardhub.reward_modeling.config import load_config as load_config
from rewardhub.reward_modeling.loop import TrainResult as TrainResult
from rewardhub.reward_modeling.loop import train as train


def run(config_path: Path, out: Path) -> TrainResult:
    """Trains what ``config_path`` says and writes checkpoint, card and metrics to ``out``."""
    return train(load_config(config_path), out)
