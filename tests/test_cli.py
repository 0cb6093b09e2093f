"""The command line: files in, score lines out, exit codes, a hub that drains."""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rewardhub.cli import app
from rewardhub.wire.lines import loads

LINES = """\
{"id": "z", "reference": "5", "responses": ["5", "6"]}

{"reference": {"answer": ""}, "responses": ["1"]}
{"id": 7, "recipe": "maths", "responses": ["1"]}
{"id": "empty", "reference": "5", "responses": []}
"""


def rewardhub(*arguments, timeout=100):
    """The command as a process of its own."""
    command = [sys.executable, "-P", "-m", "rewardhub.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def invoked(*arguments, **environ):
    """The same command in this process: starting another one takes longer than most commands do."""
    return CliRunner().invoke(app, [*map(str, arguments)], env=environ)


@pytest.fixture
def group_file(tmp_path):
    path = tmp_path / "groups.jsonl"
    path.write_text(LINES)
    return path


@pytest.fixture(scope="module")
def hub():
    """A hub process; yields its REST and gRPC URLs."""
    command = [sys.executable, "-P", "-m", "rewardhub.cli", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    words = dict(word.split("=") for word in process.stdout.readline().split() if "=" in word)
    yield words["http"], f"grpc://{words['grpc']}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=40) == 0
    process.stdout.close()


def without_timings(text):
    lines = [loads(line) for line in text.splitlines()]
    for line in lines:
        line.pop("timings")
        for score in line["scores"]:
            score.pop("cached")
    return lines


def test_every_group_has_its_line(group_file, tmp_path):
    """Statuses of any kind end with 0; lines come in input order; a missing id is the line number."""
    out = tmp_path / "deep" / "scores.jsonl"
    done = rewardhub("score", group_file, "--recipe", "math", "--out", out)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["z", "3", "7", "empty"]
    found = [[(score["value"], score["status"]) for score in line["scores"]] for line in lines]
    assert found == [[(1.0, "ok"), (0.0, "ok")], [(None, "reference_unparseable")], [(None, "invalid_input")], []]
    assert "did you mean 'math'" in lines[2]["scores"][0]["details"]["reason"]


def test_in_process_rest_and_grpc_agree(group_file, hub):
    """The same file gives the same lines in process and through both doors."""
    here = rewardhub("score", group_file, "--recipe", "math")
    for url in hub:
        there = rewardhub("score", group_file, "--recipe", "math", "--url", url)
        assert there.returncode == 0, there.stderr
        assert without_timings(there.stdout) == without_timings(here.stdout)


def test_a_log_holds_no_bar(group_file, hub):
    """Where standard error is no terminal nothing is drawn on it; score lines are UTF-8 everywhere."""
    group_file.write_text('{"id": "ü", "reference": "5", "responses": ["5"]}', encoding="utf-8")
    command = [
        sys.executable,
        "-P",
        "-m",
        "rewardhub.cli",
        "score",
        str(group_file),
        "--recipe",
        "math",
        "--url",
        hub[0],
    ]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, timeout=100)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout.decode())["id"] == "ü"


@pytest.mark.parametrize("command", [["score", "FILE", "--recipe", "math"], ["train-rm", "FILE"]])
def test_an_output_that_cannot_be_written_ends_with_2(group_file, command):
    """Before any work is done."""
    filled = [str(group_file) if word == "FILE" else word for word in command]
    done = invoked(*filled, "--out", group_file / "below")
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert "--out" in done.stderr


def test_an_unknown_scorer_is_not_benchmarked(tmp_path):
    """The nearest name is told, and no report is written."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}')
    done = invoked("bench", "pairs", "--data", pairs, "--scorer", "maths", "--out", tmp_path / "out")
    assert done.exit_code == 2 and "did you mean 'math'" in done.stderr
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "groups.jsonl:1:"),
        ('{"id": "a"}\n{"id": "a"}', "groups.jsonl:2: id 'a' is doubled"),
        ('{"responses": ["x"]}\n\n{"responses": [3]}', "groups.jsonl:3: responses[0]"),
        ('{"media": [{"path": "no.png"}]}', "groups.jsonl:1:"),
    ],
)
def test_unusable_input_ends_with_2(tmp_path, text, message):
    """The line number is named and nothing is scored."""
    path = tmp_path / "groups.jsonl"
    path.write_text(text)
    done = invoked("score", path, "--recipe", "math")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not done.stdout


def test_a_file_that_is_not_there_ends_with_2(tmp_path):
    """Like one that cannot be used."""
    assert invoked("score", tmp_path / "none.jsonl", "--recipe", "math").exit_code == 2


@pytest.mark.parametrize(("status", "code"), [(401, 2), (403, 2), (413, 2), (500, 3)])
def test_a_key_that_is_not_known_ends_with_2(group_file, status, code):
    """It is for the caller to mend, as a key without the scope is."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_error(status)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = invoked("score", group_file, "--recipe", "math", "--url", url, "--deadline-ms", 500)
        server.shutdown()
    assert done.exit_code == code, done.stderr


def test_a_recipe_of_ones_own_is_benchmarked(tmp_path):
    """Its file is named as for other commands."""
    (tmp_path / "mine.yaml").write_text("name: mine\nversion: 1\nterms: {t: {scorer: math}}\nvalue: 2 * t\n")
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "p", "chosen": "5", "rejected": "6", "reference": "5"}\n')
    files = ["--data", tmp_path / "pairs.jsonl", "--recipe-file", tmp_path / "mine.yaml", "--out", tmp_path / "out"]
    done = invoked("bench", "pairs", "--scorer", "mine", *files)
    assert done.exit_code == 0, done.stderr
    assert "100.0" in done.stdout


def test_no_hub_ends_with_3(group_file):
    """A hub that nobody runs is told apart from bad input."""
    done = invoked("score", group_file, "--recipe", "math", "--url", "http://127.0.0.1:9")
    assert done.exit_code == 3, done.stderr


def test_other_addresses_need_keys(tmp_path):
    """Without keys the hub refuses to listen for other machines."""
    done = rewardhub("serve", "--http", "0.0.0.0:0", "--grpc", "127.0.0.1:0")
    assert done.returncode == 2
    assert "key" in done.stderr


def test_listings():
    """Scorers, recipes and the configuration are printed."""
    rows = [json.loads(line) for line in invoked("scorers", "--json").stdout.splitlines()]
    assert {"math", "mcq", "tags", "box_iou", "code"} <= {row["name"] for row in rows}
    assert "demo_colour" in invoked("recipes", "list").stdout.split()
    shown = json.loads(invoked("recipes", "show", "demo_colour").stdout)
    assert shown["name"] == "demo_colour"
    assert len(shown["fingerprint"]) == 64
    assert invoked("recipes", "show", "demo_color").exit_code == 2
    assert "default" in invoked("config", "show").stdout


def test_catalogue():
    """A recipe's examples are run and its rows counted; the table is the one in the repository."""
    checked = invoked("recipes", "check", "lmm_r1")
    assert checked.exit_code == 0
    assert checked.stdout.splitlines()[-1] == "1 of 148 rows covered (ok 1, partial 0, none 0)"
    table = Path(__file__).parent.parent / "rewardhub" / "recipes" / "CATALOGUE.md"
    assert invoked("recipes", "table").stdout == table.read_text("utf-8")


def test_config_check(tmp_path):
    """A configuration is checked whole, before anything starts."""
    good = tmp_path / "good.toml"
    good.write_text("workers = 1\n")
    assert invoked("config", "check", "--config", good).exit_code == 0
    for text in ("wrkers = 1", 'cards = ["none.toml"]', 'judges = [{nam = "x"}]', "server = {keys = [1]}"):
        bad = tmp_path / "bad.toml"
        bad.write_text(text)
        done = invoked("config", "check", "--config", bad)
        assert done.exit_code == 2, text
        assert "error:" in done.stderr


KEY = 'key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('http = "nonsense"', "http: 'nonsense' is no address"),
        ('grpc = "127.0.0.1:99999"', "grpc: '127.0.0.1:99999' is no address"),
        ('http = "0.0.0.0:8080"', "http: 0.0.0.0:8080 is reachable"),
        ('redis = "nonsense"', "redis: no usable URL"),
        ('redis = "redis://:pass/word@host/0"', "redis: no usable URL"),
        ('redis = "redis://host/0?tmeout=1"', "redis: no usable URL"),
        ('reward_log = "/"', "reward_log: / cannot be opened"),
        ('cards = ["none.toml"]', "none.toml: No such file or directory\n"),
        ('recipes = ["/"]', "recipes: /: Is a directory\n"),
        ('plugins = ["none.py"]', "none.py is not there, expected a Python file"),
        ('plugins = ["/"]', "plugins: / is no file, expected a Python file"),
        ('plugins = "a.py"', "plugins: expected a list"),
        ("http = 3", "http: expected a text"),
        ("server = 3", "server: expected a table"),
        ("[server]\nkeys = 3", "server.keys: expected a list"),
        ("[server]\ntls = 3", "server.tls: "),
        ("[server.tls]\ncert = 3\nkey = 'k'", "server.tls.cert: expected a path"),
        ("[[judges]]\nendpoints = [{url = 'http://j/v1'}]\nrubric = 'none.py'", "rubric: "),
        ("[[judges]]\nendpoints = [{url = 'http://j/v1', api_key_env = 'NOBODY_SET_IT'}]", "api_key_env: "),
        ('http = "::1"', "http: '::1' is no address; expected HOST:PORT, an IPv6 host in brackets"),
        ('media_fetch_networks = ["1.2.3"]', "1.2.3"),
        ("[server]\nkeyz = 1", "server.keyz: unknown key 'keyz'; did you mean 'keys'?"),
        (f'[[server.keys]]\n{KEY}\ntenant = "x"\nscope = []', "unknown key 'scope'; did you mean 'scopes'?"),
        ("[server.limits]\nmessage_bytes = 4294967296", "server.limits.message_bytes"),
        ("[server.limits]\nconcurrency = 4294967296", "server.limits.concurrency"),
        ('[server.tls]\ncert = "no.pem"\nkey = "no.pem"', "no.pem cannot be read: No such file"),
        ('[[judges]]\nendpoints = [{url = "http://j/v1", modle = "x"}]', "did you mean 'model'?"),
    ],
)
def test_what_would_end_serve_is_found_by_config_check(tmp_path, text, message):
    """In one line, without a password in it."""
    (tmp_path / "hub.toml").write_text(text)
    done = invoked("config", "check", "--config", tmp_path / "hub.toml")
    assert done.exit_code == 2, done.exception
    assert message in done.stderr
    assert "word" not in done.stderr


def test_config_check_makes_nothing(tmp_path):
    """The reward log is opened when a hub starts."""
    (tmp_path / "hub.toml").write_text(f'reward_log = "{tmp_path}/deep/rewards.jsonl"')
    assert invoked("config", "check", "--config", tmp_path / "hub.toml").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["hub.toml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "FILE", "--recipe", "math", "--input", "bonus=nan"],
        ["score", "FILE", "--recipe", "math", "--input", "=3"],
        ["score", "FILE", "--recipe", "math", "--judge-model", "large"],
        ["score", "FILE", "--recipe", "math", "--out", "/proc/rewardhub"],
        ["bench", "pairs", "--data", "FILE", "--scorer", "length", "--limit", "-3"],
    ],
)
def test_arguments_without_a_meaning_end_with_2(group_file, arguments):
    """None is left out in silence, and none ends in a stack."""
    filled = [str(group_file) if word == "FILE" else word for word in arguments]
    done = invoked(*filled)
    assert (done.exit_code, done.stdout) == (2, ""), done.exception


def test_brackets_are_shown_as_they_stand(tmp_path):
    """A summary, or a path, is no markup."""
    summary = "Counts [a, b] and [/x] of it."
    plugin = tmp_path / "[bold].py"
    plugin.write_text(
        "from rewardhub.registry import Example, verifier\n"
        '@verifier("summed", examples=[Example("a", {}, 1.0)])\n'
        f'def summed(response, reference) -> float:\n    """{summary}"""\n    return 1.0\n'
    )
    listed = invoked("scorers", "--plugin", plugin, COLUMNS="200")
    assert summary in listed.stdout, listed.exception
    (tmp_path / "hub.toml").write_text('plugins = ["[bold].py"]')
    shown = invoked("config", "show", "--config", tmp_path / "hub.toml", COLUMNS="300")
    assert "[bold].py" in shown.stdout


def test_passwords_are_not_shown(tmp_path):
    """Neither one before the host of a URL nor one in its query."""
    (tmp_path / "hub.toml").write_text('redis = "redis://:first@host/0?password=second"')
    shown = invoked("config", "show", "--config", tmp_path / "hub.toml")
    assert "redis://***@host/0?***" in shown.stdout
