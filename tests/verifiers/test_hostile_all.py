"""T43, T44: what wants to execute, and what wants to take forever, against every verifier that runs no programs."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from rewardhub.registry import default_registry
from rewardhub.scorer import Example, Verifier
from rewardhub.types import Status

VERIFIERS = {
    each.info.name: each for each in default_registry() if isinstance(each, Verifier) and each.info.lane != "sandbox"
}
FAST_ONLY = {"math", "checklist"}  # the symbolic tier runs where it can be killed
COMMANDS = [
    "__import__('os').system('touch {canary}')", "exec(\"open('{canary}','w')\")", "open('{canary}','w').write('x')",
    "().__class__.__base__.__subclasses__()", "(lambda f: f(f))(lambda f: f(f))", "f'{{open(\"{canary}\",\"w\")}}'",
    "{{7*7}}", "$(touch {canary})", "`touch {canary}`", "; touch {canary};", r"\write18{{touch {canary}}}", r"\input{{/etc/passwd}}",
    "[[1,2],[__import__('os').system('touch {canary}'),4]]", r"\pi*__import__('os').getpid()", "!!python/object/apply:os.system [id]",
    "cos\nsystem\n(S'touch {canary}'\ntR.", '{{"__reduce__": "os.system"}}', '<!ENTITY x SYSTEM "file:///etc/passwd">',
    '{{"$ref": "file:///etc/passwd"}}', "(?P<a>x{{1000}}){{1000}}", "%(canary)s %n", "../../../../{canary}",
]  # fmt: skip
WRAPS = ["{}", r"\boxed{{{}}}", "${}$", "<answer>{}</answer>", "#### {}", "The answer is {}.", "```json\n{}\n```", "[{}]", "{}: 1", "<think>{}</think>{}"]  # fmt: skip
ENDLESS = {
    "tower": r"\boxed{9^{9^{9^9}}}", "factorial": "99999999!", "power": "2^{10^9}", "500 round": "(" * 500 + "1" + ")" * 500,
    "500 square": "[" * 500 + "1" + "]" * 500, "500 braces": '{"a":' * 500 + "1" + "}" * 500, "500 tags": "<answer>" * 500 + "x" + "</answer>" * 500,
    "20,000 digits": "7" * 20_000, "20,000 digits in a box": r"\boxed{" + "7" * 20_000 + "}", "sum": r"\sum_{k=1}^{10^7} 1/k",
    "1 MB of braces": "{" * 1_000_000, "1 MB of closers": "}" * 1_000_000, "1 MB of boxes": r"\boxed{" * 142_857,
    "1 MB of brackets": "[" * 1_000_000, "1 MB of tags": "<answer>" * 125_000, "1 MB of quotes": '"' * 1_000_000,
    "1 MB of lists": "[1,2,3,4]," * 100_000, "1 MB of words": "the cat " * 125_000, "1 MB of numbers": "1 2 3 " * 166_666,
    "1 MB of stars": "*a* " * 250_000, "1 MB of times": "1:2 to 3:4 " * 90_909, "1 MB of answers": "answer is A. " * 76_923,
}  # fmt: skip


def first_usable(verifier: Verifier) -> Example:
    return next(example for example in verifier.examples if example.status is Status.OK)


def scored(verifier: Verifier, example: Example, text: str, reference: Mapping[str, Any] | None = None) -> list[Status]:
    group = example.as_group()
    responses = tuple(replace(each, text=text) for each in group.responses)
    group = replace(group, responses=responses, reference=group.reference if reference is None else reference)
    bound, indices = verifier.bind(example.params), range(len(responses))
    if verifier.info.name in FAST_ONLY:
        column = bound.try_fast(group, list(indices))
        assert column is not None
        return list(column.statuses)
    return list(bound.score(group, list(indices)).statuses)


def with_texts(value: Any, text: str) -> Any:
    """The reference with every text of it replaced."""
    if isinstance(value, str):
        return text
    if isinstance(value, Mapping):
        return {key: with_texts(item, text) for key, item in value.items()}
    return [with_texts(item, text) for item in value] if isinstance(value, list | tuple) else value


def test_the_corpus_is_large() -> None:
    """More than 200 strings."""
    assert len({wrap.format(command, command) for wrap in WRAPS for command in COMMANDS}) > 200


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_nothing_executes(name, tmp_path, monkeypatch) -> None:
    """No file, process, socket or variable appears, whether the string is the response or the reference."""
    canary = tmp_path / "canary"
    opened: list[object] = []
    verifier = VERIFIERS[name]
    example = first_usable(verifier)
    scored(verifier, example, "warm")  # what a library loads, it loads now
    monkeypatch.setattr(socket, "socket", lambda *args, **kwargs: opened.append(args))
    monkeypatch.setattr(os, "system", opened.append)
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: opened.append(args))
    environment = dict(os.environ)
    for command in COMMANDS:
        plain = command.format(canary=canary) if "%(" not in command else command
        for wrap in WRAPS:
            text = wrap.format(plain, plain)
            assert Status.INTERNAL_ERROR not in scored(verifier, example, text)
        assert Status.INTERNAL_ERROR not in scored(verifier, example, plain, with_texts(example.reference, plain))
    assert not canary.exists()
    assert opened == []
    assert dict(os.environ) == environment


@pytest.mark.parametrize("name", sorted(VERIFIERS))
def test_nothing_takes_forever(name) -> None:
    """Each hostile text is answered within the verifier's limit and 50 ms, as response and, short ones, as reference."""
    verifier = VERIFIERS[name]
    example = first_usable(verifier)
    limit = verifier.info.time_limit_s + 0.05
    for label, text in ENDLESS.items():
        begun = time.process_time()
        statuses = scored(verifier, example, text)
        assert time.process_time() - begun < limit, label
        assert Status.INTERNAL_ERROR not in statuses, label
        if len(text) < 30_000:
            begun = time.process_time()
            statuses = scored(verifier, example, "5", with_texts(example.reference, text))
            assert time.process_time() - begun < limit, label
            assert Status.INTERNAL_ERROR not in statuses, label
