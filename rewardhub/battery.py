"""The contract battery: what every verifier must do, tried on the verifier itself.

``check`` runs a verifier's own examples and then hostile responses and unusable references against
them, in a process that is killed where it hangs. ``check_file`` does so for a file of one's own.
"""

import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rewardhub.errors import RewardHubError
from rewardhub.registry import Registry
from rewardhub.scorer import BoundVerifier, Example, Verifier
from rewardhub.types import Group, Json, Response, Score, Status

TOLERANCE = 1e-6
START_S = 20.0
"""Seconds that the watched process may take to start and, on top of a limit, to answer."""
LONGEST_S = 60.0
HUGE = 1_000_000
SCHEDULER_STATISTICS = Path("/proc/thread-self/schedstat")

_GARBAGE: Json = {"": [[]]}
_WEIRD = {
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈 7️⃣",
    "NUL": "a\x00b\x00",
    "lone surrogate": "x\ud800y",
    "combining marks": "e" + "\u0301" * 500,
    "right to left": "\u202e\u05d0\u0628 1\u202c",
    "no-break blanks": "\u00a0\u2003\ufeff\u200b",
    "line ends": "\r\n\u2028\u2029\x0b\x0c",
    "full-width digits": "１２．５",
    "odd digits": "²Ⅷ๙߀",
    "controls": "".join(map(chr, range(32))),
    "format directives": "%s %n {0} {} \\x41 $HOME `id`",
}
_REPEATED = ("a", " ", "\n", "9", "{", "(", "[", "}", "\\boxed{", "<answer>", "</answer>", "```\n", "1,", "^", "$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: of which verifier, found by which check, and how."""

    verifier: str
    check: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """The findings about the verifiers of one file."""

    path: Path
    verifiers: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings

    def table(self) -> str:
        """The findings as text, one row each under a heading; a single line where there are none."""
        if self.ok:
            return f"{self.path}: {', '.join(self.verifiers)}: ok"
        rows = [("verifier", "check", "finding")]
        rows += [(each.verifier, each.check, each.message) for each in self.findings]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows)


@dataclass(frozen=True, slots=True)
class _Probe:
    """One scoring and what it must come to; ``expect`` answers with what is wrong, or nothing."""

    check: str
    label: str
    group: Group
    params: Json
    expect: Callable[[Score], str]
    hostile: bool = field(default=False)


def check_file(path: Path) -> Report:
    """Runs the battery over the verifiers that a Python file defines. The file is run: it is trusted."""
    try:
        verifiers = Registry().load_file(path)
    except RewardHubError as error:
        return Report(path, (), (Finding(path.stem, "import", error.message),))
    findings = tuple(finding for verifier in verifiers for finding in check(verifier))
    return Report(path, tuple(verifier.info.name for verifier in verifiers), findings)


def check(verifier: Verifier) -> list[Finding]:
    """Everything that ``verifier`` breaks of its contract; an empty list where it keeps it.

    Examples give their value and status; values are finite, within the declared range and the same
    twice; empty, huge and weird responses and unusable references are answered within the time limit,
    an unusable reference with ``reference_unparseable`` or ``invalid_input``; nothing becomes
    ``internal_error``; details are JSON.
    """
    name = verifier.info.name
    findings = [Finding(name, "declaration", message) for message in _declaration(verifier)]
    probes = list(_probes(verifier))
    done = 0
    while done < len(probes):
        answered, messages, ended = _watched(verifier, probes, done)
        findings += [Finding(name, probes[index].check, message) for index, message in messages]
        done += answered
        if ended and done < len(probes):
            findings += _unanswered(verifier, probes[done], ended)
            done += 1
    return findings


def _declaration(verifier: Verifier) -> Iterator[str]:
    low, high = verifier.info.range
    if not verifier.info.summary:
        yield "the function has no docstring"
    if not verifier.examples:
        yield "there are no examples"
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        yield f"the range {verifier.info.range} is not finite and ascending"
    try:
        verifier.bind({}).fingerprint  # noqa: B018
    except RewardHubError as error:
        if not any(example.params for example in verifier.examples):
            yield f"it does not bind: {error.message}"
    except Exception as error:
        yield f"it has no fingerprint: {type(error).__name__}: {error}"


def _probes(verifier: Verifier) -> Iterator[_Probe]:
    for index, example in enumerate(verifier.examples):
        label = f"example {index}"
        yield _Probe("examples", label, example.as_group(), example.params, _as_stated(example))
    usable = [example for example in verifier.examples if example.status is Status.OK]
    if not usable:
        return
    for label, text in _hostile_texts(min(HUGE, verifier.info.max_chars)):
        kind = "huge" if label.startswith("huge") else "unicode" if label in _WEIRD else "empty"
        yield _Probe(kind, label, _with(usable[0], text), usable[0].params, _anything, hostile=True)
    yield from _reference_probes(usable)


def _hostile_texts(size: int) -> Iterator[tuple[str, str]]:
    yield "empty text", ""
    yield "blank text", " \n\t "
    yield from _WEIRD.items()
    for part in _REPEATED:
        yield f"huge {part!r}", (part * (size // len(part) + 1))[:size]


def _reference_probes(usable: list[Example]) -> Iterator[_Probe]:
    if all(example.reference for example in usable):
        first = usable[0]
        group = _with(first, reference={})
        yield _Probe("reference", "an empty reference", group, first.params, _unusable, hostile=True)
    seen: set[str] = set()
    for example in usable:
        for key, value in example.reference.items():
            if key in seen:
                continue
            seen.add(key)
            for label, bad in (("garbage", _GARBAGE), ("NaN", _with_nan(value))):
                if bad is not None:
                    group = _with(example, reference={**example.reference, key: bad})
                    label = f"{label} in reference.{key}"  # noqa: PLW2901
                    yield _Probe("reference", label, group, example.params, _unusable, hostile=True)


def _with_nan(value: Any) -> Any:
    """The value with its first number replaced by NaN, or None where it has none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return math.nan
    if isinstance(value, Mapping):
        return next(({**value, key: bad} for key, item in value.items() if (bad := _with_nan(item))), None)
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if (bad := _with_nan(item)) is not None:
                return [*value[:index], bad, *value[index + 1 :]]
    return None


def _with(example: Example, text: str | None = None, reference: Json | None = None) -> Group:
    group = example.as_group()
    return Group(
        id=group.id, prompt=group.prompt, media=group.media, problem_type=group.problem_type,
        responses=group.responses if text is None else (Response(text),),
        reference=group.reference if reference is None else reference,
    )  # fmt: skip


def _as_stated(example: Example) -> Callable[[Score], str]:
    def expect(score: Score) -> str:
        wanted = f"expected {example.value} {example.status}"
        if score.status is not example.status:
            return f"{wanted}, got {score.status} {score.details.get('reason', '')}".rstrip()
        values = (score.value, example.value)
        if None in values:
            return "" if score.value is example.value else f"{wanted}, got {score.value}"
        close = math.isclose(float(score), float(example.value or 0.0), abs_tol=TOLERANCE)
        return "" if close else f"{wanted}, got {score.value}"

    return expect


def _anything(_score: Score) -> str:
    return ""


def _unusable(score: Score) -> str:
    if score.status in {Status.REFERENCE_UNPARSEABLE, Status.INVALID_INPUT}:
        return ""
    return f"expected reference_unparseable or invalid_input, got {score.status} {score.value}"


def _problem(verifier: Verifier, probe: _Probe) -> str:
    """What is wrong with the answer to this probe, or nothing."""
    try:
        bound = verifier.bind(probe.params)
        begun = _unhindered()
        score = bound.score(probe.group, [0]).row(0)
        took = _unhindered() - begun
        again = bound.score(probe.group, [0]).row(0)
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    slow = took > verifier.info.time_limit_s and verifier.info.lane == "inline"
    return (
        _general(verifier, score)
        or probe.expect(score)
        or (f"took {took:.1f} s, the limit is {verifier.info.time_limit_s:g} s" if slow else "")
        or ("" if _same(score, again) else f"{score.value} {score.status}, then {again.value} {again.status}")
        or _fast_problem(bound, probe, score)
    )


def _unhindered() -> float:
    """Seconds less those that this thread waited for a core: a busy machine is not the verifier's fault."""
    try:
        waited_ns = int(SCHEDULER_STATISTICS.read_text().split()[1])
    except OSError:  # not Linux
        waited_ns = 0
    return time.perf_counter() - waited_ns / 1e9


def _general(verifier: Verifier, score: Score) -> str:
    low, high = verifier.info.range
    if score.status is Status.INTERNAL_ERROR:
        return f"internal_error: {score.details.get('reason', '')}"
    if score.value is not None and not low - TOLERANCE <= score.value <= high + TOLERANCE:
        return f"{score.value} is outside the range [{low}, {high}]"
    if score.value is not None and not score.status.is_verdict:
        return f"a value beside the status {score.status}"
    if score.value is None and score.status is Status.OK:
        return "status ok without a value"
    if score.confidence is not None and not 0.0 <= score.confidence <= 1.0:
        return f"confidence {score.confidence} is outside [0, 1]"
    try:
        json.dumps(dict(score.details), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return f"the details are not JSON: {error}"
    return ""


def _same(one: Score, other: Score) -> bool:
    return one.value == other.value and one.status is other.status


def _fast_problem(bound: BoundVerifier, probe: _Probe, score: Score) -> str:
    column = bound.try_fast(probe.group, [0])
    if column is None or column.statuses[0] is Status.SKIPPED or _same(column.row(0), score):
        return ""
    return f"fast says {column.values[0]} {column.statuses[0]}, the function {score.value} {score.status}"


def _watched(verifier: Verifier, probes: list[_Probe], begin: int) -> tuple[int, list[tuple[int, str]], str]:
    """Probes from ``begin`` on in a process of their own: how many were answered, what they found, and
    how the process ended early, if it did.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(verifier, probes[begin:], theirs), daemon=True)
    process.start()
    theirs.close()
    messages: list[tuple[int, str]] = []
    patience = 2 * min(verifier.info.time_limit_s, LONGEST_S) + START_S
    answered, ended = 0, ""
    while answered < len(probes) - begin and not ended:
        if not ours.poll(patience):
            ended = "time limit"
            break
        try:
            message = ours.recv()
        except EOFError:
            ended = "crash"
            break
        if message:
            messages.append((begin + answered, f"{probes[begin + answered].label}: {message}"))
        answered += 1
    process.kill()
    process.join()
    ours.close()
    return answered, messages, ended


def _answer(verifier: Verifier, probes: list[_Probe], answers: Connection) -> None:
    for probe in probes:
        answers.send(_problem(verifier, probe))


def _unanswered(verifier: Verifier, probe: _Probe, ended: str) -> list[Finding]:
    # The pool lane kills what exceeds its limit: for a hostile response that is the contract.
    if ended == "time limit" and probe.hostile and verifier.info.lane == "pool":
        return []
    said = "did not answer in time" if ended == "time limit" else "killed its process"
    return [Finding(verifier.info.name, ended, f"{probe.label}: {said}")]
