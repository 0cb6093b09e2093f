"""Configuration: TOML, then environment, then command line."""

from pathlib import Path

import pytest

from rewardhub.config import HubConfig, load_config
from rewardhub.errors import ConfigError


def test_order_and_origins(tmp_path):
    """The command line wins over the environment, which wins over the file; each value has an origin."""
    file = tmp_path / "hub.toml"
    file.write_text('http = "127.0.0.1:1"\ngrpc = "127.0.0.1:2"\nworkers = 3\nplugins = ["mine.py"]\n')
    environ = {"REWARDHUB_GRPC": "127.0.0.1:3", "REWARDHUB_WORKERS": "4", "REWARDHUB_DATA": "x", "HOME": "/"}
    config, origins = load_config(file, {"workers": 5, "redis": None}, environ)
    assert (config.http, config.grpc, config.workers) == ("127.0.0.1:1", "127.0.0.1:3", 5)
    assert config.plugins == (tmp_path / "mine.py",)
    assert origins["http"] == str(file)
    assert (origins["grpc"], origins["workers"], origins["redis"]) == ("environment", "command line", "default")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('htp = "x"', "unknown key 'htp'; did you mean 'http'"),
        ("workers = -1", "workers"),
        ("workers = 'many'", "workers"),
        ("http = [", "hub.toml"),
        ("plugins = 3", "plugins"),
        ("plugins = 'mine.py'", "plugins"),
        ("cache_mb = true", "cache_mb: expected a number"),
        ("workers = 1000000000", "workers"),
        ("worker_memory_mb = 99999999999999999999", "worker_memory_mb"),
        ("sandbox_url = 'sandbox:8080'", "sandbox_url: expected an http"),
    ],
)
def test_faults_are_named(tmp_path, text, message):
    """An unknown key names the nearest, a wrong value its field, a broken file its path."""
    file = tmp_path / "hub.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(file, environ={})


def test_unknown_environment_is_an_error():
    """A misspelt variable is not ignored."""
    with pytest.raises(ConfigError, match="unknown key 'htp'"):
        load_config(environ={"REWARDHUB_HTP": "x"})


def test_a_list_in_the_environment_that_is_no_json_is_named():
    """It says which variable is wrong."""
    with pytest.raises(ConfigError, match="REWARDHUB_PLUGINS is no JSON"):
        load_config(environ={"REWARDHUB_PLUGINS": "[mine.py]"})


def test_scalar_fields_are_few():
    """No config sprawl."""
    assert len(HubConfig.model_fields) <= 40


def test_missing_file_is_named():
    """A file that is not there is an error, not an empty configuration."""
    with pytest.raises(ConfigError, match="nowhere"):
        load_config(Path("/nowhere.toml"), environ={})


def test_variables_of_tests_trainers_and_the_command_line_are_no_settings():
    """Where the client, an adapter or a test reads its own variable, a hub in that environment starts all the same."""
    names = ("DATA", "URL", "API_KEY", "CONFIG", "RECIPE", "VLLM_PYTHON", "PEERS_PYTHON")
    assert load_config(environ={f"REWARDHUB_{name}": "x" for name in names})[0] == HubConfig()
