"""Reading data files row by row, with errors that name the file, the line and the field."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardhub.errors import InvalidInput
from rewardhub.wire.fields import describe, named


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON object of a file; ``line`` counts from 1. Every getter raises ``InvalidInput``."""

    path: Path
    line: int
    data: Mapping[str, Any]

    def fail(self, field: str, problem: str) -> InvalidInput:
        return InvalidInput(f"{self.path}:{self.line}: field {field!r} {problem}", field=field)

    def get(self, field: str, kind: type | tuple[type, ...], default: Any) -> Any:
        """The field's value if it has this kind, ``default`` where it is missing or null."""
        value = self.data.get(field)
        if value is None:
            return default
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(map(named, kinds))
            raise self.fail(field, f"is {describe(value)}, expected {names}")
        return value

    def need(self, field: str, kind: type | tuple[type, ...]) -> Any:
        value = self.get(field, kind, None)
        if value is None:
            raise self.fail(field, "is missing")
        return value

    def text(self, field: str) -> str:
        return str(self.need(field, str))

    def name(self, field: str, default: str = "") -> str:
        """An identifier, which files write as text or as a whole number."""
        return str(self.get(field, (str, int), default))

    def texts(self, field: str, count: int = 0) -> list[str]:
        """A list of strings, of this length where ``count`` is given."""
        return self.values(field, str, count)

    def values(self, field: str, kind: type | tuple[type, ...], count: int = 0) -> list[Any]:
        """A list of members of one kind; true and false are no numbers."""
        values: list[Any] = self.need(field, list)
        for value in values:
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise self.fail(field, f"has a member that is {describe(value)}")
        if count and len(values) != count:
            raise self.fail(field, f"has {len(values)} members, expected {count}")
        return values

    def one_of(self, field: str, known: Sequence[str]) -> str:
        value = self.text(field)
        if value not in known:
            raise self.fail(field, f"is {value!r}, expected {' or '.join(map(repr, known))}")
        return value


def data_files(data: Path) -> list[Path]:
    """The file itself, or the ``.jsonl`` and ``.json`` files of a folder by name.

    Raises ``InvalidInput`` where there is none.
    """
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise InvalidInput(f"{data}: no such file or folder", field="data")
    found = sorted(path for path in data.iterdir() if path.suffix in {".jsonl", ".json"} and path.is_file())
    if not found:
        raise InvalidInput(f"{data}: no .jsonl or .json file in this folder", field="data")
    return found


def read_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSONL file, or of a JSON file that holds one list; blank lines are skipped."""
    if path.suffix == ".json":
        yield from _read_list(path)
        return
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if raw.strip():
                yield _row(path, number, _parse(path, number, raw))


def _read_list(path: Path) -> Iterator[Row]:
    values = _parse(path, 1, path.read_bytes())
    if not isinstance(values, list):
        raise InvalidInput(f"{path}: expected a list of objects", field="data")
    for number, value in enumerate(values, 1):
        yield _row(path, number, value)


def _parse(path: Path, line: int, raw: bytes) -> Any:
    try:
        value = json.loads(raw)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
        return value
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}:{line}: not valid JSON: {error}", field="data") from None


def _row(path: Path, line: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise InvalidInput(f"{path}:{line}: expected an object, not {describe(value)}", field="data")
    return Row(path, line, value)
