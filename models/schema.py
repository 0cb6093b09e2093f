"""The JSON schemas that a reply can be held to: an object of texts.

Every keyword is kept, says nothing of a value, or is refused: what is asked for in vain would be believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rewardhub.errors import InvalidInput

MOST_OPTIONS = MOST_FIELDS = 128
NOTES = frozenset({"$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples"})
"""Keywords that say nothing of a value."""
UNFINISHED = "\ufffd"
OF_OBJECT = NOTES | {"type", "properties", "required", "additionalProperties"}
OF_TEXT = NOTES | {"type", "enum", "const", "minLength", "maxLength"}


@dataclass(frozen=True, slots=True)
class TextField:
    """A text: one of ``options``, or free where there are none, of at most ``longest`` characters (None: any)."""

    options: tuple[str, ...] = ()
    longest: int | None = None

    def complete(self, text: str) -> bool:
        """Whether what was written of a free text holds all of it: its closing quotation mark, or all it may hold."""
        if self.longest is None:
            return '"' in text
        # The last marks may be of a character whose bytes are not all written.
        return '"' in text or len(text.rstrip(UNFINISHED)) >= self.longest or len(text) >= self.longest + 4

    def cut(self, text: str) -> str:
        """The free text in what was written."""
        return text.partition('"')[0][: self.longest]


def text_fields(schema: Any) -> dict[str, TextField]:
    """The fields of a schema in their order; none without a schema.

    Raises ``InvalidInput`` that names the field and the keyword which a reply cannot be held to.
    """
    if schema is None:
        return {}
    if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
        raise _wrong("the schema must be of an object with properties")
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        raise _wrong("the schema must be of an object with properties")
    _check_keywords("the schema", schema, OF_OBJECT)
    if len(properties) > MOST_FIELDS:
        raise _wrong(f"a schema may have {MOST_FIELDS} fields, not {len(properties)}")
    required = schema.get("required", ())
    if not isinstance(required, list | tuple) or any(name not in properties for name in map(str, required)):
        raise _wrong("required must list properties")
    return {str(name): _text_field(f"field {str(name)!r}", each) for name, each in properties.items()}


def _text_field(where: str, field: Any) -> TextField:
    if not isinstance(field, Mapping) or field.get("type") != "string":
        raise _wrong(f"{where} must be a text, or one of at most {MOST_OPTIONS}")
    _check_keywords(where, field, OF_TEXT)
    least, longest = _length(where, field, "minLength"), _length(where, field, "maxLength")
    options = field.get("enum", ())
    if not isinstance(options, list | tuple) or ("enum" in field and not options) or len(options) > MOST_OPTIONS:
        raise _wrong(f"{where}: enum must list 1 to {MOST_OPTIONS} texts")
    if "const" in field:
        options = [field["const"]] if field["const"] in options or not options else []
    if not all(isinstance(option, str) for option in options):
        raise _wrong(f"{where} must be a text, or one of at most {MOST_OPTIONS}")
    if "enum" in field or "const" in field:
        fitting = [each for each in options if (least or 0) <= len(each) and (longest is None or len(each) <= longest)]
        if not fitting:
            raise _wrong(f"{where} allows no text")
        return TextField(tuple(fitting))
    if least:
        raise _wrong(f"{where}: minLength of a free text cannot be kept")
    return TextField((), longest)


def _length(where: str, field: Mapping[str, Any], name: str) -> int | None:
    value = field.get(name)
    if name in field and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise _wrong(f"{where}: {name} must be a whole number from 0")
    return value


def _check_keywords(where: str, schema: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(map(str, schema.keys() - known)):
        raise _wrong(f"{where}: {unknown[0]} cannot be kept; only {', '.join(sorted(known - NOTES))} can")


def _wrong(reason: str) -> InvalidInput:
    return InvalidInput(reason, field="metadata.schema")
