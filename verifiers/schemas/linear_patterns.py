"""The draft 2020-12 validator of ``jsonschema`` with its regular expressions on a linear-time engine."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import re2
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator


class PatternError(Exception):
    """A pattern of the schema is not one of the engine's: no backreferences, no looking around."""


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> "re2._Regexp[str]":
    try:
        return re2.compile(pattern)
    except re2.error:
        raise PatternError(f"the pattern {pattern[:100]!r} is not supported") from None


def _found(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text.encode("utf-8", "replace").decode()) is not None


def _pattern(_validator: Validator, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _found(pattern, instance):
        yield ValidationError(f"{instance[:100]!r} does not match {pattern[:100]!r}")


def _properties(validator: Any, patterns: Mapping[str, Any], instance: Any, _schema: Any) -> Iterator[ValidationError]:
    for pattern, subschema in patterns.items() if isinstance(instance, dict) else ():
        for key, value in instance.items():
            if _found(pattern, key):
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional(validator: Any, rule: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [key for key in instance if key not in named and not any(_found(each, key) for each in patterns)]
    if rule is False and extra:
        yield ValidationError(f"additional properties: {', '.join(extra[:5])[:100]}")
    elif rule is not False:
        for key in extra:
            yield from validator.descend(instance[key], rule, path=key)


def _unevaluated(validator: Any, rule: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    # The library's search for evaluated keys runs patterns on the backtracking engine.
    if "patternProperties" in str(schema):
        raise PatternError("unevaluatedProperties beside patternProperties is not supported")
    yield from Draft202012Validator.VALIDATORS["unevaluatedProperties"](validator, rule, instance, schema)


VALIDATOR: Any = validators.extend(
    Draft202012Validator,
    {
        "pattern": _pattern,
        "patternProperties": _properties,
        "additionalProperties": _additional,
        "unevaluatedProperties": _unevaluated,
    },
)
"""The validator class; ``PatternError`` escapes from it where a pattern cannot run in linear time."""
