"""Every place of every body that a route takes, filled with what does not belong there: no 5xx, no crash (R15).

One case is one request. The bodies are valid ones of our routes and of other systems' (SandboxFusion's, OpenAI's, trainers');
each place of each of them holds each piece of junk once, and then two places at once by a seeded choice.
"""

import copy
import json
import random

import httpx
import pytest

pytest.importorskip("schemathesis", reason="the fuzz extra is not installed")
from .test_fuzz import SEED, TIMES, check, still_scores

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
CASE = {"input": {"stdin": "1\n"}, "output": {"stdout": "1\n"}}
SUBMISSION = {
    "dataset": "d",
    "id": 1,
    "completion": "```python\nprint(input())\n```",
    "config": {
        "language": "python", "dataset_type": "CommonOJDataset", "compile_timeout": 5, "run_timeout": 2,
        "provided_data": {"test": [CASE], "labels": {"programming_language": "python"}}, "extra": {"run_all_cases": True},
    },
}  # fmt: skip
PICTURE = "data:image/png;base64,iVBORw0KGgo="
BODIES = {
    "/v1/score": {
        "recipe": "pooled_nonce", "run": "r", "step": 1, "policy_version": "v", "inputs": {"x": 1.0}, "deadline_ms": 2000,
        "cache": "use", "priority": "online", "details": True, "repin": True,
        "groups": [{
            "id": "a", "prompt": [{"role": "user", "content": [{"type": "text", "text": "t"}]}], "reference": {"answer": "1"},
            "responses": ["x", {
                "text": "y", "tokens": 3, "signals": {"s": 0.5}, "steps": [[0, 1]],
                "messages": [{"role": "assistant", "content": "c", "tool_calls": [{"name": "f"}]}],
                "media": [{"sha256": "0" * 64, "kind": "image", "width": 1, "height": 1, "space": "pixel", "fps": 1.0}],
            }],
            "problem_type": "t", "recipe": "math", "metadata": {"m": [1]}, "expected": 0,
            "media": [{"url": "http://127.0.0.1/a.png"}, {"frames": ["0" * 64], "kind": "video"}],
        }],
    },
    "/v1/score/stream": {"recipe_text": "name: n\nterms: {t: {scorer: nonce}}\nvalue: t", "groups": [{"id": "a", "responses": ["x"]}]},
    "/run_code": {
        "code": "print(1)", "language": "python", "stdin": "", "compile_timeout": 5, "run_timeout": 2, "memory_limit_MB": 256,
        "files": {"a.txt": "YQ=="}, "fetch_files": ["a.txt"],
    },
    "/submit": SUBMISSION,
    "/submit_batch": {"submissions": [SUBMISSION]},
    "/v1/chat/completions": {
        "model": "none", "max_tokens": 4, "temperature": 0, "n": 1, "stream": False, "response_format": {"type": "text"},
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": PICTURE}},
        ]}],
    },
    "/openrlhf/get_reward?recipe=math": {"query": ["p5", "p6"], "prompts": ["p", "p"], "labels": ["5", {"answer": "5"}]},
    "/slime/reward?recipe=math": {"prompt": [{"role": "user", "content": "q"}], "response": "5", "label": "5"},
    "/verify": {
        "responses_create_params": {"instructions": "i", "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": PICTURE}]},
            {"type": "function_call", "name": "f", "arguments": "{}"}, {"type": "function_call_output", "output": "3"},
        ]},
        "response": {"output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "5"}]},
        ]},
        "recipe": "math", "verifier_metadata": {"expected_answer": "5"},
    },
}  # fmt: skip
JUNK = [
    "null", "true", "0", "-1", "1.5", "-0.0", "NaN", "Infinity", "-Infinity", "1e400", str(2**31), str(2**63), str(2**64),
    "9" * 400, "9" * 5_000, '""', '"x"', '"\\ud800"', '"\\u0000"', '"\\udfff\\ud800"', '"' + "a" * 100_000 + '"', '"../../etc/passwd"', "[]", "{}",
    "[null]", "[[]]", '{"a":null}', '{"":{}}', '{"\\ud800":1}', "[" * 2_000 + "]" * 2_000, '{"a":' * 2_000 + "1" + "}" * 2_000,
    "[" + "0," * 99_999 + "0]", "[" + '"",' * 99_999 + '""]', "[" + "{}," * 9_999 + "{}]",
]  # fmt: skip
RECIPE = {
    "name": "n", "version": "1", "kind": "reward", "summary": "s", "let": {"y": "a + 1"}, "no_answer": 0.0, "over_limit": 0.0,
    "min_valid": 2, "group_strict": False,
    "terms": {
        "a": {"scorer": "pooled_nonce", "with": {"busy_ms": 0}},
        "b": {"route": {"field": "problem_type", "cases": {"t": {"scorer": "nonce"}}, "default": {"scorer": "nonce"}}, "when": "a > 0"},
    },
    "value": "y + if_skipped(b, 0)",
}  # fmt: skip
YAML_JUNK = [
    "0x" + "f" * 5_000, "0b" + "1" * 15_000, "1" + ":59" * 3_000, "2001-13-45", "2001-01-01", "!!python/object/apply:os.system [a]",
    "!!binary x", "!!float x", "!!set {a}", "*a", "&a [*a]", "~", "-", "? [a]", "{[a]: b}", ".nan", ".inf", "|", "'", "%",
    '"a ** 9 ** 9 ** 9"', '"' + "(" * 3_000 + '"', '"' + "-" * 3_000 + '1"', '"' + "1+" * 3_000 + '1"', '"__import__(\\"os\\")"',
    '"a.b"', '"[x for x in a]"', '"1e999"', '"1/0"', '"9" * 9', '"a[0]"', '"lambda: 0"', '"f\\"{a}\\""', '"signal(a)"', '"input()"',
]  # fmt: skip
PAIRS = 250 * TIMES


def places(value, path=()):
    """The paths of everything inside a JSON value, itself included."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*path, key))


def filled(body, holes):
    """The text of the body with raw JSON in the place of some paths."""
    body = copy.deepcopy({"root": body})
    for n, (path, _) in enumerate(holes):
        holder = body
        for key in ("root", *path)[:-1]:
            holder = holder[key]
        holder[("root", *path)[-1]] = f"@{n}@"
    text = json.dumps(body["root"])
    for n, (_, junk) in enumerate(holes):
        text = text.replace(f'"@{n}@"', junk)
    return text.encode()


def requests_of(body, rng):
    """Each place with each piece of junk, then pairs of places of which none is inside the other."""
    paths = list(places(body))
    yield from (filled(body, [(path, junk)]) for path in paths for junk in JUNK)
    for _ in range(PAIRS):
        first, second = rng.choice(paths), rng.choice(paths)
        if first[: len(second)] != second and second[: len(first)] != first:
            yield filled(body, [(first, rng.choice(JUNK)), (second, rng.choice(JUNK))])


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


@pytest.mark.parametrize("path", BODIES)
def test_no_place_of_a_body_breaks_a_route(serve, path):
    """Wrong types, null, deep nesting, huge numbers and lists, NaN, lone surrogates: 4xx, or 200 with statuses in JSON."""
    rng = random.Random(f"{SEED}{path}")
    statuses, sent = {}, 0
    with serve() as hub, httpx.Client(base_url=hub.url, timeout=60) as http:
        for content in requests_of(BODIES[path], rng):
            reply = http.post(path, content=content)
            sent += 1
            statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
            check(reply, content)
            if reply.status_code == 200:
                for line in reply.text.splitlines():
                    json.loads(line, parse_constant=refuse)
                assert '"internal_error"' not in reply.text, (content[:2000], reply.text[:2000])
        still_scores(hub)
    print(f"{path}: {sent} cases, {statuses}")
    assert sent > 250


def test_no_place_of_an_inline_recipe_breaks_the_hub(serve):
    """The same for the YAML of a recipe that travels in the request, with what only YAML and expressions have."""
    texts = [filled(RECIPE, [(path, junk)]).decode() for path in places(RECIPE) for junk in (*YAML_JUNK, *JUNK[:-3])]
    statuses = {}
    with serve() as hub, httpx.Client(base_url=hub.url, timeout=60) as http:
        for text in texts:
            body = {
                "recipe_text": text,
                "deadline_ms": 2000,
                "groups": [{"id": "a", "responses": ["x"], "problem_type": "t"}],
            }
            reply = http.post("/v1/score", json=body)
            check(reply, text.encode())
            ((row,),) = [group["scores"] for group in reply.json()["groups"]]
            statuses[row["status"]] = statuses.get(row["status"], 0) + 1
            if row["status"] == "internal_error":  # the recipe's own arithmetic is not ours
                assert any(words in row["details"]["reason"] for words in ("finite", "divides by 0")), (
                    text[:2000],
                    row,
                )
        still_scores(hub)
    assert statuses["ok"] > 50
    print(f"inline recipes: {len(texts)} cases, {statuses}")
