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


def test_paths_of_a_file_are_relative_to_it(tmp_path):
    """Wherever the hub is started; those of the environment and the command line are not moved, nor is a rubric's name."""
    file = tmp_path / "hub.toml"
    file.write_text(
        'plugins = ["p.py"]\nrecipes = ["r.yaml"]\ncards = ["/abs.toml"]\nreward_log = "log/scores.jsonl"\n'
        '[[judges]]\nrubric = "mine.py"\n[[judges]]\nrubric = "quality"\n'
        '[server.tls]\ncert = "tls/hub.pem"\nkey = "../hub.key"\nclient_ca = "/ca.pem"\n'
    )
    config, _ = load_config(file, environ={})
    assert (config.plugins, config.recipes, config.cards) == (
        (tmp_path / "p.py",), (tmp_path / "r.yaml",), (Path("/abs.toml"),)
    )  # fmt: skip
    assert config.reward_log == str(tmp_path / "log/scores.jsonl")
    assert [each["rubric"] for each in config.judges] == [str(tmp_path / "mine.py"), "quality"]
    tls = {"cert": f"{tmp_path}/tls/hub.pem", "key": f"{tmp_path}/../hub.key", "client_ca": "/ca.pem"}
    assert config.server == {"tls": tls}
    given = load_config(file, {"plugins": [Path("q.py")]}, {"REWARDHUB_REWARD_LOG": "other.jsonl"})[0]
    assert (given.plugins, given.reward_log) == ((Path("q.py"),), "other.jsonl")
    file.write_text('reward_log = ""\njudges = [3]\n[server]\ntls = "no"\n')
    with pytest.raises(ConfigError, match="judges"):
        load_config(file, environ={})
