"""The format family: boxes, language mixing, repetition, length, JSON schemas, reasoning traces."""

import math
import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.errors import ConfigError
from rewardhub.recipes.expression import compile_expression
from rewardhub.recipes.functions import Scope
from rewardhub.registry import default_registry
from rewardhub.scorer import Verifier
from rewardhub.types import Call, Group, Response, Score, Status
from rewardhub.verifiers.boxed import boxed
from rewardhub.verifiers.json_schema import json_schema
from rewardhub.verifiers.language_mix import language_mix
from rewardhub.verifiers.length import length, length_reflection
from rewardhub.verifiers.pattern import pattern
from rewardhub.verifiers.reasoning_trace import reasoning_trace
from rewardhub.verifiers.region_calls import region_calls
from rewardhub.verifiers.repetition import most_frequent_window, no_repeat, repetition
from rewardhub.verifiers.segment_length import segment_length


def score(verifier: Verifier, response: str | Response, reference: dict | None = None, **params) -> Score:
    """The score of one response."""
    response = Response(response) if isinstance(response, str) else response
    group = Group("g", responses=(response,), reference=reference or {})
    return verifier.bind(params).score(group, [0]).row(0)


def sized(tokens: int) -> Response:
    return Response("x", tokens=tokens)


# pattern


def test_patterns_are_linear_and_checked() -> None:
    """Nested repetition on a hostile text ends at once; what RE2 does not compile is told by name."""
    begin = time.thread_time()
    assert score(pattern, "a" * 100_000 + "!", pattern="(a+)+b", match="full").value == 0.0
    assert time.thread_time() - begin < 1.0
    for wrong in ["(", r"(a)\1", "(?=a)", "(a{1000}){1000}"]:
        with pytest.raises(ConfigError, match="parameter 'pattern'"):
            pattern.bind({"pattern": wrong})
    assert score(pattern, "x\ud800y", pattern="x.y").value == 1.0


# length


def test_cosine_of_open_r1():
    """The catalogue's table: right 1→0.5 and wrong -1→-0.5 over 4096, clamped."""
    right = [score(length, sized(size), start=1.0, end=0.5).value for size in (0, 1024, 2048, 4096, 8192)]
    wrong = [score(length, sized(size), start=-1.0, end=-0.5).value for size in (0, 1024, 2048, 4096, 8192)]
    assert right == pytest.approx([1.0, 0.9268, 0.75, 0.5, 0.5], abs=1e-4)
    assert wrong == pytest.approx([-1.0, -0.9268, -0.75, -0.5, -0.5], abs=1e-4)


def test_light_if_shaping():
    """The catalogue's Light-IF numbers from the cosine over 8192 and the recipe's expression."""

    def shaped(total: float, size: int) -> float:
        c = float(score(length, sized(size), start=0.0, end=1.0, limit=8192))
        return -2.0 if size >= 8192 else 2 * total * c if total >= 0.2 else -c

    assert [shaped(1.3, 4096), shaped(0.1, 4096), shaped(0.5, 2048), shaped(1.0, 8192)] == pytest.approx(
        [1.30, -0.50, 0.1464, -2.0], abs=1e-4
    )


def test_srpo_total():
    """Wrong then right, format 0.5, L=110, T=100, Tmax=125: 0.5 + 0.25 + 0.0852 = 0.8352."""
    bell = float(score(length, sized(110), shape="gaussian", low=100, limit=125))
    assert 0.5 * 1.0 + 0.5 * 0.5 + 0.1 * bell == pytest.approx(0.8352, abs=1e-4)
    first = f"<think>{'t' * 40}</think><answer>{'a' * 10}</answer>"
    again = f"<reflection>{'r' * 10}</reflection><think>{'t' * 40}</think><answer>{'a' * 10}</answer>"
    assert float(score(length_reflection, first + again)) == pytest.approx(bell)


DYNAMIC = (
    "where(accuracy == 0 and g_count(accuracy > 0) > 0, -0.25 * (1 + cos(3.141592653589793 * "
    "min(tokens, 2 * g_mean(tokens, where=accuracy > 0)) / g_mean(tokens, where=accuracy > 0))), 0)"
)
SHORTEST = "where(accuracy > 0 and tokens > 100 and tokens == g_min(tokens, where=accuracy > 0), 0.2, 0)"
CARE = "where(accuracy > 0.1 and g_count(accuracy > 0.1) >= 2, band, 0)"


def expression(text: str, accuracy: list[float], tokens: list[int], **terms: list[float]) -> list[float]:
    """The value of a recipe's expression over one group."""
    known = {"accuracy": accuracy, **terms}
    scope = Scope(Group("g", responses=tuple(Response("x", tokens=size) for size in tokens)), Call())
    scope.values = {name: np.array(values, dtype=float) for name, values in known.items()}
    return compile_expression(text, known, "value")(scope).tolist()


def test_dynamic_length_of_vl_cogito():
    """Wrong answers of 100, 150, 200 and 400 tokens beside right ones of 200 on average; nobody right."""
    found = expression(DYNAMIC, [1, 1, 0, 0, 0, 0], [150, 250, 100, 150, 200, 400])
    assert found == pytest.approx([0.0, 0.0, -0.25, -0.0732, 0.0, -0.5], abs=1e-4)
    assert expression(DYNAMIC, [0, 0, 0], [100, 200, 300]) == [0.0, 0.0, 0.0]


def test_shortest_right_answer_of_observe_r1():
    """The catalogue's groups, and no bonus where nobody is right (the public code pays rollout 0)."""
    assert expression(SHORTEST, [1, 1, 1, 0], [150, 120, 90, 10]) == [0.0, 0.0, 0.0, 0.0]
    assert expression(SHORTEST, [1, 1, 0, 0], [150, 120, 110, 10]) == [0.0, 0.2, 0.0, 0.0]
    assert expression(SHORTEST, [0, 0, 0], [150, 120, 110]) == [0.0, 0.0, 0.0]


def test_length_band_of_videorft():
    """0.2 for a right answer of 320 to 512 tokens where two of the group are right."""
    tokens = [400, 900, 400, 319]
    band = [float(score(length, sized(size), shape="band", low=320, high=512, start=0.2)) for size in tokens]
    assert expression(CARE, [1, 1, 0, 0], tokens, band=band) == pytest.approx([0.2, 0.0, 0.0, 0.0])
    assert expression(CARE, [1, 0, 0, 0], tokens, band=band) == [0.0, 0.0, 0.0, 0.0]


def test_base_length_of_vl_cogito():
    """Half of a cosine from -0.5 to 0 for wrong answers, -0.5 from 4096 on."""
    found = [float(score(length, sized(size), start=-0.5, end=0.0, beyond=-0.5)) for size in (0, 2048, 4095, 4096)]
    assert found == pytest.approx([-0.5, -0.25, 0.0, -0.5], abs=1e-3)


def test_unknown_token_count_is_the_callers():
    """Without a token count the length in tokens is no number, nor with a negative one."""
    for response in (Response("x"), Response("x", tokens=-1)):
        found = score(length, response)
        assert (found.status, found.value) == (Status.INVALID_INPUT, None)
    assert score(length, "x" * 4096, unit="chars", start=1.0, end=0.5).value == 0.5


@pytest.mark.parametrize(
    "params",
    [{"shape": "band", "low": 5, "high": 4}, {"shape": "overlong", "limit": 5, "buffer": 6},
     {"shape": "gaussian", "low": 5, "limit": 5}],
)  # fmt: skip
def test_impossible_shapes_are_refused(params):
    """Parameters that contradict each other are an error that names the field, never a number."""
    assert score(length, sized(5), **params).status is Status.INVALID_INPUT


@given(st.integers(0, 10**9), st.sampled_from(["cosine", "overlong", "gaussian"]))
def test_lengths_stay_in_range(size, shape):
    """Every shape is finite and in range at any length."""
    found = float(score(length, sized(size), shape=shape, limit=5000, low=1000, buffer=100))
    assert math.isfinite(found) and -1.0 <= found <= 1.0


# repetition


def test_repetition_rows():
    """7 trigrams of which 3 differ: -4/7; shorter than n: 0."""
    assert score(repetition, "a b c a b c a b c").value == pytest.approx(-0.5714, abs=1e-4)
    assert score(repetition, "a b").value == 0.0
    assert score(repetition, "").value == 0.0


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 12))
def test_repetition_counts_exactly(words, n):
    """The doubling count equals counting tuples."""
    grams = [tuple(words[index : index + n]) for index in range(len(words) - n + 1)]
    wanted = -(1 - len(set(grams)) / len(grams)) if grams else 0.0
    assert float(score(repetition, " ".join(words), n=n)) == pytest.approx(wanted)


@given(st.text("ab", max_size=60), st.integers(1, 8))
def test_windows_count_exactly(text, width):
    """The most frequent window equals a count of slices."""
    slices = [text[index : index + width] for index in range(len(text) - width + 1)]
    assert most_frequent_window(text, width) == max(map(slices.count, slices), default=0)


def test_decimals_are_no_sentences():
    """Numbers with the same digits before or behind the point repeat nothing; a sentence said twice does."""
    assert score(no_repeat, "It is 0.5 m wide. It is 0.5 kg.").value == 1.0
    assert score(no_repeat, "Take 1.5. Then 2.5 and 3.5 cm.").value == 1.0
    assert score(no_repeat, "It is 0.5 m wide. So. It is 0.5 m wide!").value == 0.0


def test_repetition_is_fast():
    """A million characters within the limit, for n-grams and windows."""
    rng = random.Random(0)
    text = " ".join(rng.choice(["alpha", "beta", "gamma"]) for _ in range(170_000))
    for verifier, params in ((repetition, {"n": 40}), (no_repeat, {"unit": "window"}), (no_repeat, {})):
        began = time.thread_time()
        assert score(verifier, text, **params).status is Status.OK
        assert time.thread_time() - began < 4.0


# boxes and languages


@pytest.mark.parametrize(
    ("text", "value"),
    [("\\boxed{12}", 1.0), ("12", 0.0), ("\\boxed{1} \\boxed{2}", 0.0), ("\\boxed{\\boxed{1}}", 0.0), ("\\boxed{}", 0.0),
     ("\\boxed{1", 0.0), ("\\boxed{{1}", 0.0), ("\\boxed{\\text{a}}", 1.0)],
)  # fmt: skip
def test_boxes(text, value):
    """One closed, filled box and nothing else counts."""
    found = score(boxed, text)
    assert found.value == value
    assert value or found.details["reason"]


def test_language_mix_rows():
    """Both as paragraphs: 0; joined by one newline: 1; only one: 1; one short of each threshold: 1."""
    zh, en = "中" * 50, "word " * 200
    assert score(language_mix, f"{zh}\n\n{en}").value == 0.0
    assert score(language_mix, f"{en}\n \n{zh}").value == 0.0
    for text in (f"{zh}\n{en}", zh, en, f"{zh[1:]}\n\n{en}", f"{zh}\n\n{en[5:]}", f"{zh + 'x' * 13}\n\n{en}"):
        assert score(language_mix, text).value == 1.0


# JSON schemas

PERSON = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}, "minProperties": 1}


@pytest.mark.parametrize(
    "schema",
    [
        {}, [], "x", 3, {"no": "keyword"}, {"type": "objekt"}, {"minimum": math.nan}, {"type": "string", "pattern": "(?=x)"},
        {"$ref": "https://example.org/schema"}, {"$ref": "#/nowhere"}, {"$ref": "file:///etc/passwd"},
        {"pattern": "("}, {"enum": "x"}, {"enum": ["x" * 100_001]},
        {"unevaluatedProperties": False, "patternProperties": {"a": {}}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ['"x"', '{"a": 1}'])
def test_bad_schemas_are_the_callers(schema, text):
    """A schema that is none, points outside or cannot run in linear time is never a number where it matters."""
    found = score(json_schema, text, {"schema": schema})
    if found.status is Status.OK:
        assert "pattern" in str(schema) and text == '{"a": 1}'  # the keyword concerns strings only
        return
    assert (found.status, found.value) == (Status.REFERENCE_UNPARSEABLE, None)
    assert found.details["field"] == "reference.schema"


def test_schemas_never_open_sockets(monkeypatch):
    """A remote reference is refused without looking for it."""
    import socket
    import urllib.request

    def refuse(*_args, **_kwargs):
        raise AssertionError("fetched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    schema = {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x"}}}
    assert score(json_schema, '{"a": 1}', {"schema": schema}).status is Status.REFERENCE_UNPARSEABLE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"name": "Ada"}', 1.0), ('{"name": 3}', 0.0), ("{}", 0.0), ('{"name": "Ada"', 0.0), ("[" * 100_000, 0.0),
        ('{"name": "Ada"} and more', 0.0), ('```\n{"name": "Ada"}\n```', 1.0), ("9" * 5000, 0.0),
        ('<answer>```json\n{"name": "Ada"}\n```</answer>', 1.0), ('{"name": Infinity}', 0.0),
        ('```json\n{"name": 1}\n```\nno:\n```json\n{"name": "Ada"}\n```', 1.0),
    ],
)  # fmt: skip
def test_schema_verdicts(text, value):
    """Malformed and unfitting JSON is wrong, with the reason."""
    found = score(json_schema, text, {"schema": PERSON})
    assert (found.status, found.value) == (Status.OK, value)
    assert value or found.details["reason"]


def test_patterns_run_in_linear_time():
    """A pattern that takes a backtracking engine for ever, in each keyword that has one."""
    text, evil = "a" * 5000 + "!", "^(a+)+$"
    schemas = [
        ({"type": "string", "pattern": evil}, f'"{text}"'),
        ({"type": "object", "patternProperties": {evil: {}}, "additionalProperties": False}, f'{{"{text}": 1}}'),
    ]
    for schema, response in schemas:
        began = time.thread_time()
        assert score(json_schema, response, {"schema": schema}).value == 0.0
        assert time.thread_time() - began < 1.0


# reasoning traces


def trace(text: str, *ids: tuple[str, dict], **params) -> Score:
    """The score of this thinking under these instructions."""
    reference = {"instruction_id_list": [name for name, _ in ids], "kwargs": [kwargs for _, kwargs in ids]}
    return score(reasoning_trace, f"<think>{text}</think>answer, with a comma", reference, **params)


CAPITAL, NO_COMMA = ("change_case:english_capital", {}), ("punctuation:no_comma", {})


def test_reasonif_rows():
    """The catalogue's traces; IFS of [1,0,0,0] is 0.25; an empty trace follows nothing."""
    shout = "THE ANSWER IS FOUND BY ADDING TWO AND TWO TOGETHER."
    assert trace(shout, CAPITAL, NO_COMMA).details["followed"] == [True, True]
    assert trace("Step 1, add", NO_COMMA).value == 0.0
    words = ("length_constraint_checkers:number_words", {"num_words": 10})
    assert trace(" ".join("abcdefghij"), words).value == 0.0
    assert trace(" ".join("abcdefghi"), words).value == 1.0
    assert trace("", NO_COMMA).value == 0.0
    items = [trace(shout, CAPITAL), *(trace("a, b", NO_COMMA) for _ in range(3))]
    assert sum(float(each) for each in items) / 4 == 0.25
    assert trace(shout + " a", CAPITAL, NO_COMMA, aggregate="share").value == 0.5


def test_capitals_are_english():
    """Upper-case German is no English."""
    assert trace("DIE ANTWORT IST VIER, WEIL ZWEI UND ZWEI ZUSAMMEN VIER ERGEBEN.", CAPITAL).value == 0.0


@pytest.mark.parametrize(
    ("name", "given", "field"),
    [
        ("punctuation:no_coma", {}, "instruction_id_list"), ("language:reasoning_language", {}, "kwargs"),
        ("language:reasoning_language", {"language": "xx"}, "kwargs"), ("startend:end_checker", {"end_phrase": ""}, "kwargs"),
        ("length_constraint_checkers:number_words", {"num_words": "10"}, "kwargs"),
        ("length_constraint_checkers:number_words", {"num_words": True}, "kwargs"),
    ],
)  # fmt: skip
def test_bad_instructions_name_their_field(name, given, field):
    """Unknown ids and missing arguments are the caller's, also under an empty trace."""
    for text in ("some thinking", ""):
        found = trace(text, (name, given))
        assert (found.status, found.value) == (Status.REFERENCE_UNPARSEABLE, None)
        assert found.details["field"] == f"reference.{field}"
    if name.endswith("no_coma"):
        assert "punctuation:no_comma" in trace("x", (name, given)).details["reason"]


# regions


def test_vlm_r3_rows():
    """One valid box, segments of 12 and 11 characters: 1 + 0.5 + 0.5 + 0.10; 4: 2.04; broken JSON: 1.60."""
    box = '{"bbox_2d": [0, 0, 5, 5]}'
    total = lambda text: 1.5 + 0.5 * float(score(region_calls, text)) + float(score(segment_length, text))  # noqa: E731
    assert total("I look here:" + box + "it is a cat") == pytest.approx(2.10)
    assert total("abcd" + box + "it is a cat") == pytest.approx(2.04)
    assert total("I look here:" + '{"bbox_2d": [0, 0, }' + "it is a cat") == pytest.approx(1.60)


def test_all_are_registered():
    """Each verifier is usable as a scorer by its own name."""
    names = {"boxed", "language_mix", "repetition", "no_repeat", "length", "length_reflection", "json_schema",
             "reasoning_trace", "segment_length"}  # fmt: skip
    assert names <= set(default_registry().names())
