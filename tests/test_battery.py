"""The contract battery finds every planted fault and nothing in the built-in verifiers."""

import itertools
import time
from pathlib import Path

import pytest

from rewardhub import battery
from rewardhub.errors import ConfigError
from rewardhub.registry import Registry, default_registry, verifier
from rewardhub.scorer import Example, Verifier
from rewardhub.types import Group, Json, Response, Score, Status

GOOD = Example("4", {"answer": "4"}, 1.0)
BUILTINS = {scorer.info.name: scorer for scorer in default_registry() if isinstance(scorer, Verifier)}


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_built_in_verifiers_keep_the_contract(name: str) -> None:
    """No finding about any verifier that the package brings."""
    if name == "cad_code":
        pytest.importorskip("cadquery", reason="the extra cad is not installed")
    assert battery.check(BUILTINS[name]) == []


def answer_of(reference: Json) -> str:
    """A reference check as a good verifier has it."""
    from rewardhub.errors import ReferenceUnparseable

    answer = reference.get("answer")
    if not isinstance(answer, str) or not answer:
        raise ReferenceUnparseable("reference.answer must be text", field="reference.answer")
    return answer


def plant(body, *, examples=(GOOD,), **options) -> Verifier:
    """A verifier around ``body(response, reference)``."""

    def planted(response: Response, reference: Json) -> float | Score:
        """Planted."""
        return body(response, reference)

    return verifier("planted", examples=examples, **options)(planted)


def equal(response: Response, reference: Json) -> float:
    """The honest verifier."""
    return float(response.text == answer_of(reference))


def checks_of(planted: Verifier) -> set[str]:
    """The names of the checks that found something."""
    return {finding.check for finding in battery.check(planted)}


def test_an_honest_verifier_has_no_findings() -> None:
    """The planted faults below differ from this one in their fault only."""
    assert battery.check(plant(equal)) == []


@pytest.mark.parametrize("name", ["", "two words", "a/b", "ü", "1st", "x" * 65])
def test_a_name_that_no_recipe_can_have_is_refused(name: str) -> None:
    """Every scorer is a recipe by its own name."""
    with pytest.raises(ConfigError, match="a scorer is named"):
        Registry().add(verifier(name)(lambda response, reference: 1.0))


def test_wrong_example_is_found() -> None:
    """An example whose value the verifier does not give."""
    assert checks_of(plant(equal, examples=(GOOD, Example("5", {"answer": "4"}, 1.0)))) == {"examples"}


def test_wrong_example_status_is_found() -> None:
    """An example that states another status."""
    example = Example("4", {"answer": ""}, None, status=Status.NO_ANSWER)
    assert checks_of(plant(equal, examples=(GOOD, example))) == {"examples"}


def test_missing_examples_are_found() -> None:
    """A verifier without examples."""
    assert checks_of(plant(equal, examples=())) == {"declaration"}


def test_out_of_range_is_found() -> None:
    """A value beside the declared range."""
    found = battery.check(plant(lambda r, g: 2.0 * equal(r, g), examples=(Example("4", {"answer": "4"}, 2.0),)))
    assert "outside the range" in found[0].message


def test_nan_is_found() -> None:
    """A value that is not a number."""
    body = lambda r, g: float("nan") if r.text == "" else equal(r, g)  # noqa: E731
    assert checks_of(plant(body)) == {"empty"}


def test_exception_is_found() -> None:
    """An exception on text that is not ASCII."""
    body = lambda r, g: equal(r, g) if r.text.encode("ascii") else 0.0  # noqa: E731
    assert checks_of(plant(body)) == {"unicode"}


def test_no_function_meets_a_lone_surrogate() -> None:
    """What a verifier reads is always UTF-8, so one that encodes it is not at fault."""
    body = lambda r, g: equal(r, g) if r.text.encode() is not None else 0.0  # noqa: E731
    assert battery.check(plant(body)) == []


@pytest.mark.parametrize(("name", "reference"), [("temporal_iou", {"time": "\ud800"}), ("box_iou", {"box": "\ud800"})])
def test_a_lone_surrogate_in_a_reference_is_the_callers(name: str, reference: dict[str, str]) -> None:
    """Never a fault of ours."""
    group = Group("g", "", (Response("[10, 20]"),), reference)
    column = BUILTINS[name].bind({}).score(group, [0])
    assert column.statuses == [Status.REFERENCE_UNPARSEABLE]


def test_number_for_a_bad_reference_is_found() -> None:
    """The law: a bad reference is never a number."""
    body = lambda r, g: float(r.text == str(g.get("answer")))  # noqa: E731
    messages = [finding.message for finding in battery.check(plant(body))]
    assert any("an empty reference" in message for message in messages)
    assert any("garbage in reference.answer" in message for message in messages)


def test_nan_in_the_reference_is_found() -> None:
    """A list of numbers with a NaN in it is garbage too."""
    example = Example("4", {"box": [1, 2]}, 0.0)

    def body(response: Response, reference: Json) -> float:
        return equal(response, {"answer": "x" if isinstance(reference.get("box"), list) else ""})

    assert [finding.message.split(":")[0] for finding in battery.check(plant(body, examples=(example,)))] == [
        "NaN in reference.box"
    ]


def test_indeterminate_verifier_is_found() -> None:
    """Two answers to one input."""
    turn = itertools.count()
    body = lambda r, g: (answer_of(g), float(next(turn) % 2))[1]  # noqa: E731
    assert checks_of(plant(body, examples=(Example("4", {"answer": "4"}, 0.0),))) >= {"examples"}


def test_slow_verifier_is_found() -> None:
    """Slower than its stated limit, though it answers."""

    def body(response: Response, reference: Json) -> float:
        time.sleep(0.3 if response.text.startswith("{{") else 0.0)
        return equal(response, reference)

    assert checks_of(plant(body, time_limit_s=0.2)) == {"huge"}


def test_hanging_verifier_is_killed_and_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hang is one finding, and the rest of the battery still runs."""
    monkeypatch.setattr(battery, "START_S", 1.0)

    def body(response: Response, reference: Json) -> float:
        while response.text == "":
            pass
        return float(response.text == reference.get("answer"))

    assert checks_of(plant(body, time_limit_s=0.2)) == {"time limit", "reference"}


def test_hang_on_the_pool_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool lane kills what takes too long: allowed for hostile text, a finding for an example."""
    monkeypatch.setattr(battery, "START_S", 0.5)

    def body(response: Response, reference: Json) -> float:
        while response.text in ("", "hang"):
            pass
        return equal(response, reference)

    assert battery.check(plant(body, lane="pool", time_limit_s=0.2)) == []
    hang = Example("hang", {"answer": "4"}, 0.0)
    assert checks_of(plant(body, lane="pool", time_limit_s=0.2, examples=(GOOD, hang))) == {"time limit"}


def test_crashing_verifier_is_found() -> None:
    """A verifier that takes its process with it."""
    import os

    def body(response: Response, reference: Json) -> float:
        if "\x00" in response.text:
            os._exit(3)
        return equal(response, reference)

    assert checks_of(plant(body)) == {"crash"}


def test_details_that_are_not_json_are_found() -> None:
    """Details travel as JSON."""
    body = lambda r, g: Score(equal(r, g), details={"what": {1, 2}})  # noqa: E731
    assert "not JSON" in battery.check(plant(body))[0].message


def test_value_beside_a_failure_is_found() -> None:
    """A status without a verdict carries no value."""
    body = lambda r, g: Score(equal(r, g), Status.UNAVAILABLE if r.text == "" else Status.OK)  # noqa: E731
    assert checks_of(plant(body)) == {"empty"}


def test_disagreeing_fast_path_is_found() -> None:
    """A fast path decides as the function does, or not at all."""
    found = battery.check(plant(equal, fast=lambda response, reference: 0.0))
    assert any("fast says" in finding.message for finding in found)


FILE = '''
from rewardhub.registry import Example, verifier
from rewardhub.errors import ReferenceUnparseable

@verifier("shout", examples=[Example("HI", {"answer": "hi"}, 1.0), Example("hi", {"answer": "hi"}, 0.0)])
def shout(response, reference):
    """1.0 for the answer in capitals."""
    answer = reference.get("answer")
    if not isinstance(answer, str):
        raise ReferenceUnparseable("reference.answer must be text")
    return float(response.text == answer.upper())
'''


def test_file_of_ones_own(tmp_path: Path) -> None:
    """A good file is ok; a bad one has a table that names verifier, check and finding."""
    good, bad, broken = tmp_path / "good.py", tmp_path / "bad.py", tmp_path / "broken.py"
    good.write_text(FILE)
    bad.write_text(FILE.replace("answer.upper()", "answer"))
    broken.write_text("import nothing_of_the_kind")
    assert battery.check_file(good).ok
    assert "shout: ok" in battery.check_file(good).table()
    report = battery.check_file(bad)
    assert not report.ok
    assert report.table().splitlines()[0].split() == ["verifier", "check", "finding"]
    assert "expected 1.0 ok, got 0.0" in report.table()
    assert battery.check_file(broken).findings[0].check == "import"
