"""``json_schema``: whether a response is JSON that a schema accepts."""

import json
from functools import lru_cache
from typing import Any, Literal

from jsonschema import SchemaError
from jsonschema.exceptions import ValidationError, _WrappedReferencingError, best_match
from jsonschema.protocols import Validator
from referencing.exceptions import Unresolvable

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.schemas.linear_patterns import VALIDATOR, PatternError
from rewardhub.verifiers.tags import last_tagged

Extract = Literal["auto", "whole"]

_LONGEST_SCHEMA = 100_000
_FAST = 2_000
_LONGEST_REASON = 300

_PERSON: Json = {
    "schema": {
        "type": "object", "required": ["name", "age"], "additionalProperties": False,
        "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0}},
    }
}  # fmt: skip
_GOOD = '{"name": "Ada", "age": 36}'
_EXAMPLES = (
    Example(_GOOD, _PERSON, 1.0),
    Example(f"Here it is:\n```json\n{_GOOD}\n```\nDone.", _PERSON, 1.0),
    Example(f"<think>x</think><answer>{_GOOD}</answer>", _PERSON, 1.0),
    Example(f"```json\n{_GOOD}\n```", _PERSON, 0.0, {"extract": "whole"}),
    Example(f"Here it is: {_GOOD}", _PERSON, 0.0),
    Example('{"name": "Ada"}', _PERSON, 0.0),
    Example('{"name": "ada", "age": 36}', _PERSON, 0.0),
    Example('{"name": "Ada", "age": -1}', _PERSON, 0.0),
    Example('{"name": "Ada", "age": 36, "x": 1}', _PERSON, 0.0),
    Example('{"name": "Ada", "age": NaN}', _PERSON, 0.0),
    Example('{"name": "Ada", "age": 36, "age": 37}', _PERSON, 0.0),
    Example("{'name': 'Ada', 'age': 36}", _PERSON, 0.0),
    Example("[1, 2]", {}, 1.0, {"default_schema": {"type": "array", "items": {"type": "integer"}}}),
    Example("", _PERSON, None, status=Status.NO_ANSWER),
    Example(_GOOD, {"schema": {"type": "objekt"}}, None, status=Status.REFERENCE_UNPARSEABLE),
    Example(_GOOD, {"schema": {"$ref": "https://example.org/s"}}, None, status=Status.REFERENCE_UNPARSEABLE),
)


def _fast(response: Response, reference: Json, **parameters: Any) -> Score | None:
    return json_schema(response, reference, **parameters) if len(response.text) <= _FAST else None


@verifier(
    "json_schema",
    lane="pool",
    fast=_fast,
    max_chars=200_000,
    examples=_EXAMPLES,
    libraries=("jsonschema", "google-re2"),
    sources=("rewardhub.verifiers.schemas.linear_patterns", "rewardhub.verifiers.tags"),
)
def json_schema(
    response: Response,
    reference: Json,
    *,
    default_schema: dict[str, Any] | None = None,
    extract: Extract = "auto",
) -> Score:
    """1.0 where the response is JSON that the schema accepts, else 0.0 with the place and the reason.

    The schema (draft 2020-12) is ``reference.schema``, else ``default_schema``. References lead
    inside the schema only: nothing is fetched. ``pattern`` runs on a linear-time engine. The JSON is the
    answer tag, in it or in the whole response the last fenced block, else all of it; ``whole`` takes the
    response as it is. NaN, infinities and doubled keys are no JSON. Raises ``ReferenceUnparseable`` for
    a schema that is none, holds no keyword or exceeds 100,000 characters; ``NoAnswer`` for a blank response.
    """
    schema = reference.get("schema", default_schema)
    if not isinstance(schema, dict):
        raise ReferenceUnparseable("reference.schema is not a JSON schema", field="reference.schema")
    validator = _validator(_written(schema))
    text = (_stated(response.text) if extract == "auto" else response.text).strip()
    if not text:
        raise NoAnswer("there is no JSON: the answer is empty")
    try:
        value = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        return _wrong(f"not JSON: {error}" if isinstance(error, ValueError) else "nested too deeply")
    return _validated(validator, value)


def _validated(validator: Validator, value: Any) -> Score:
    try:
        error: ValidationError | None = best_match(validator.iter_errors(value))
    except RecursionError:
        return _wrong("nested too deeply")
    except (PatternError, Unresolvable, _WrappedReferencingError) as broken:
        raise ReferenceUnparseable(f"reference.schema: {_short(broken)}", field="reference.schema") from None
    return Score(1.0) if error is None else _wrong(f"{error.json_path[:100]}: {error.message}")


def _wrong(reason: str) -> Score:
    return Score(0.0, details={"reason": _short(reason)})


def _short(text: object) -> str:
    return str(text)[:_LONGEST_REASON].encode("utf-8", "replace").decode()


def _written(schema: dict[str, Any]) -> str:
    """The schema as JSON; raises ``ReferenceUnparseable`` where it is none or holds no known keyword."""
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ReferenceUnparseable("reference.schema is not JSON", field="reference.schema") from None
    if len(text) > _LONGEST_SCHEMA:
        raise ReferenceUnparseable("reference.schema is too large", field="reference.schema")
    if not schema.keys() & VALIDATOR.VALIDATORS.keys():
        raise ReferenceUnparseable("reference.schema has no keyword of JSON Schema", field="reference.schema")
    return text


@lru_cache(maxsize=64)
def _validator(text: str) -> Validator:
    from referencing.jsonschema import SchemaRegistry

    schema = json.loads(text)
    try:
        VALIDATOR.check_schema(schema)
    except (SchemaError, RecursionError) as error:
        reason = error.message if isinstance(error, SchemaError) else "nested too deeply"
        raise ReferenceUnparseable(f"reference.schema: {_short(reason)}", field="reference.schema") from None
    # An empty registry: without one, jsonschema fetches remote references.
    return VALIDATOR(schema, registry=SchemaRegistry())


def _stated(text: str) -> str:
    tagged = last_tagged(text, "answer")
    inner = text if tagged is None else tagged
    close = inner.rfind("```")
    begin = inner.rfind("```", 0, close) if close >= 0 else -1
    if begin < 0:
        return inner
    head, line_end, body = inner[begin + 3 : close].partition("\n")
    return body if line_end and head.strip().lower() in ("", "json") else head + line_end + body


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found
